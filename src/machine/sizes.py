"""How many examples and tokens a stage trains on: counted in the store, or assumed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from src.data.replay import replay_count
from src.grid.step import Step
from src.grid.store import Store
from src.machine.settings import Expected
from src.stages import TEXT
from src.steps.train import Train
from src.train.methods import made_of


@dataclass(frozen=True)
class Size:
    """A set of examples, as a stage trains on it."""

    stored: int
    """All of its examples, those too that are longer than the stage takes."""
    examples: int
    """The examples that the stage takes."""
    tokens: float
    """Tokens of the examples that the stage takes."""
    counted: bool
    """Whether the numbers were read from an artifact of the store, and not assumed."""

    def part(self, drawn: int) -> "Size":
        """So many of its examples, drawn from long and short ones alike."""
        share = drawn / max(self.stored, 1)
        return replace(self, stored=drawn, examples=round(self.examples * share), tokens=self.tokens * share)


def sets(step: Train, expected: Mapping[str, Expected], store: Store) -> dict[str, Size] | None:
    """Set -> what an epoch of a stage has of it: all of its own sets, what it replays of others, and the text that its
    method draws where the stage has none.

    expected: set -> what is assumed where the store has no artifact yet. Returns None where a set is neither stored nor
    expected.
    """
    longest = step.optimization.max_length
    sources = {**step.examples, **step.replayed} | ({TEXT: step.text} if step.text else {})
    found = {name: _size(source, expected.get(name), store, longest) for name, source in sources.items()}
    known = {name: size for name, size in found.items() if size is not None}
    if len(known) < len(found):
        return None
    own = {name: known[name] for name in step.examples}
    current, drawn = sum(size.stored for size in own.values()), {}
    if step.replay is not None:
        for name in step.replayed:
            ratio = step.replay.of_text if name == TEXT else step.replay.ratio
            drawn[name] = replay_count(ratio, step.replay.basis, known[name].stored, current)
    if step.text and step.method:
        drawn[TEXT] = replay_count(made_of(step.method).text_ratio, "current", known[TEXT].stored, current)
    return own | {name: known[name].part(count) for name, count in drawn.items()}


def _size(source: Step, expected: Expected | None, store: Store, longest: int) -> Size | None:
    """The size of one set. longest: tokens of the longest example that is trained on."""
    if store.lookup(source) is not None:
        from src.train.examples import Stored

        lengths = Stored(store.folder(source)).lengths
        taken = lengths[lengths <= longest]
        return Size(len(lengths), len(taken), float(taken.sum()), True)
    if expected is None:
        return None
    share, tokens = _taken(expected.lengths, longest)
    return Size(expected.examples, round(expected.examples * share), expected.examples * tokens, False)


def _taken(lengths: Sequence[float], longest: float) -> tuple[float, float]:
    """The share of examples of at most `longest` tokens, and their tokens for each example of the whole set.

    lengths: those of an Expected.
    """
    share = tokens = 0.0
    for least, most in pairwise(lengths):
        below = 1.0 if most <= longest else max(0.0, (longest - least) / (most - least))
        share += below
        tokens += below * (least + min(most, longest)) / 2
    return share / (len(lengths) - 1), tokens / (len(lengths) - 1)
