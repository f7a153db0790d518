"""Every reading of a text, so that it matters neither how it is written nor whether it was heard.

What is written "J. K. Rowling" is heard "jk rowling", "July 4" "the fourth of july", "911" "nine one one". Of many
texts one cannot know which was meant: "St." is a saint or a street. So a text is kept as a lattice: its words in order,
number words as digits, and beside them the other readings of some. Two texts agree where they share one reading.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from src.evaluate.alternatives import ALTERNATIVES, ARTICLES, Piece
from src.evaluate.number_words import fold_numbers
from src.evaluate.spelling import words


@dataclass(frozen=True)
class Lattice:
    """The readings of a text: each is a way from state 0 to state `end`."""

    ways: dict[int, dict[str, tuple[int, ...]]]
    """State -> word -> the states behind it. Those up to `end` lie between pieces, those above it within a reading."""
    start: int
    """The state behind the articles that the text begins with, if there is more than articles."""
    end: int

    @property
    def vocabulary(self) -> frozenset[str]:
        """Every word of every reading."""
        return frozenset(itertools.chain.from_iterable(self.ways.values()))

    def holds(self, answer: "Lattice") -> bool:
        """Whether a reading of the answer, without leading articles, stands side by side in one of this text."""
        todo = [(answer.start, state) for state in range(self.end)] if answer.end else []
        seen = set(todo)
        while todo:
            wanted, given = todo.pop()
            here = self.ways.get(given, {})
            for word, behind in answer.ways.get(wanted, {}).items():
                for pair in itertools.product(behind, here.get(word, ())):
                    if pair[0] == answer.end and pair[1] <= self.end:
                        return True
                    if pair not in seen:
                        seen.add(pair)
                        todo.append(pair)
        return False

    def made_of(self, allowed: Callable[[str], bool]) -> bool:
        """Whether there is a reading, without leading articles, all of whose words are allowed."""
        todo, seen = ([self.start] if self.end else []), {self.start}
        while todo:
            for word, behind in self.ways.get(todo.pop(), {}).items():
                if not seen.issuperset(behind) and allowed(word):
                    todo += set(behind) - seen
                    seen.update(behind)
        return self.end in seen and bool(self.end)


@lru_cache(maxsize=16384)
def lattice(text: str) -> Lattice:
    """All readings of a text."""
    pieces = _pieces(text)
    ways: dict[int, dict[str, tuple[int, ...]]] = {}
    inner = itertools.count(len(pieces) + 1)

    def add(start: int, reading: Sequence[str], end: int) -> None:
        for place, word in enumerate(reading, 1):
            behind = end if place == len(reading) else next(inner)
            own = ways.setdefault(start, {})
            own[word] = (*own.get(word, ()), behind)
            start = behind

    for i, piece in enumerate(pieces):
        add(i, (piece.text,), i + 1)
        for end, reading in dict.fromkeys(found for kind in ALTERNATIVES for found in kind(pieces, i)):
            if (end, reading) != (i + 1, (piece.text,)):
                add(i, reading, end)
    start = next((i for i, piece in enumerate(pieces) if piece.text not in ARTICLES), 0)
    return Lattice(ways, start, len(pieces))


def _pieces(text: str) -> list[Piece]:
    found = words(text)
    return [
        Piece(folded.text, found[folded.start].gap, found[folded.start].owner if folded.end == folded.start + 1 else "")
        for folded in fold_numbers([word.text for word in found])
    ]
