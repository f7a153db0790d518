"""Words and their pronunciations, and the likeliest words behind a recognizer's scores."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from src.speech.synthesizer import Espeak

BOUNDARY = " "
"""Stands between the words of a string of phones."""
_IMPOSSIBLE = np.float32(-1e30)


class Lexicon:
    """Every word in each of its pronunciations (tuples of phones).

    No recognizer can tell words apart that share a pronunciation: all of them are written as the first in the alphabet.
    """

    def __init__(self, pronunciations: Mapping[str, Iterable[Iterable[str]]]) -> None:
        self.pronunciations = {
            word: sorted({tuple(phones) for phones in pronunciations[word]}) for word in sorted(pronunciations)
        }
        spoken = [phones for variants in self.pronunciations.values() for phones in variants]
        self.symbols = [BOUNDARY, *sorted({phone for phones in spoken for phone in phones})]
        """What a recognizer tells apart; a symbol's index is its class."""
        self.homophones = self._homophones()
        """Groups of words that share a pronunciation, each in alphabetical order."""
        self._first = {word: word for word in self.pronunciations}
        for group in self.homophones:
            self._first.update(dict.fromkeys(group, min(self._first[word] for word in group)))

    def _homophones(self) -> list[list[str]]:
        spellings: dict[tuple[str, ...], list[str]] = {}
        for word, spoken in self.pronunciations.items():
            for pronunciation in spoken:
                spellings.setdefault(pronunciation, []).append(word)
        return [list(group) for group in sorted({tuple(words) for words in spellings.values() if len(words) > 1})]

    def canonical(self, text: str) -> str:
        """`text` with each word replaced by the first of its homophones; words outside the lexicon stay."""
        return " ".join(self._first.get(word, word) for word in text.split())


class LexiconDecoder:
    """The likeliest sequence of lexicon words under CTC scores (one-pass Viterbi search, Ney 1984).

    The states of all pronunciations lie in one array, phone, blank, phone ..., so that a frame takes a few array
    operations. Between two words lies one more state, which is a blank or a boundary and may be left out.
    """

    def __init__(self, lexicon: Lexicon, word_penalty: float) -> None:
        """`word_penalty`: log probability that a word must gain to be worth inserting."""
        self._lexicon = lexicon
        self._penalty = np.float32(word_penalty)
        self._words: list[str] = []
        classes = {symbol: i for i, symbol in enumerate(lexicon.symbols)}
        self._boundary, self._blank = classes[BOUNDARY], len(lexicon.symbols)
        emitted: list[int] = []
        skippable: list[bool] = []
        first, last = [], []
        for word, spoken in lexicon.pronunciations.items():
            for phones in spoken:
                self._words.append(word)
                first.append(len(emitted))
                for i, phone in enumerate(phones):
                    if i:
                        emitted.append(self._blank)
                        skippable.append(False)
                    emitted.append(classes[phone])
                    skippable.append(i > 0 and phones[i - 1] != phone)
                last.append(len(emitted) - 1)
        self._emitted, self._first, self._last = np.array(emitted), np.array(first), np.array(last)
        self._skip_cost = np.where(skippable, np.float32(0), _IMPOSSIBLE)
        self._step_cost = np.zeros(len(emitted), np.float32)
        self._step_cost[self._first] = _IMPOSSIBLE

    def __call__(self, log_probabilities: npt.NDArray[np.float32]) -> str:
        """The text behind log probabilities [frames, symbols + 1], whose last class is the blank; "" for silence."""
        words, _ = self.search(log_probabilities)
        return self._lexicon.canonical(" ".join(words))

    def search(self, log_probabilities: npt.NDArray[np.float32]) -> tuple[list[str], float]:
        """The best words, and the log probability of the best path that spells them, less their penalties."""
        states = len(self._emitted)
        score = np.full(states, _IMPOSSIBLE)
        # The frame in which the path through a state entered its word; a word that ended is (its index, that frame).
        entered = np.zeros(states, np.int64)
        nothing: tuple[int, int] = (-1, -1)
        between, before_between = np.float32(0), nothing
        before: list[tuple[int, int]] = []
        gaps = np.maximum(log_probabilities[:, self._blank], log_probabilities[:, self._boundary])
        for t, frame in enumerate(log_probabilities):
            exit_score, exit_word = self._best_exit(score, entered)
            if between >= exit_score:
                exit_score, exit_word = between, before_between
            before.append(exit_word)

            score, entered = self._advance(score, entered)
            entry = exit_score - self._penalty
            entering = self._first[score[self._first] < entry]
            score[entering] = entry
            entered[entering] = t
            score = score + frame[self._emitted]
            between, before_between = exit_score + gaps[t], exit_word

        final, word = self._best_exit(score, entered)
        if between >= final:
            final, word = between, before_between
        words = []
        while word != nothing:
            words.append(self._words[word[0]])
            word = before[word[1]]
        return words[::-1], float(final)

    def _best_exit(self, score: npt.NDArray[Any], entered: npt.NDArray[Any]) -> tuple[np.float32, tuple[int, int]]:
        """The best word to have just ended."""
        word = int(score[self._last].argmax())
        state = self._last[word]
        return score[state], (word, int(entered[state]))

    def _advance(self, score: npt.NDArray[Any], entered: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The best way into each state from itself, from the one before, and past a blank from the one before that."""
        best, since = score.copy(), entered.copy()
        for distance, cost in ((1, self._step_cost), (2, self._skip_cost)):
            candidate = score[:-distance] + cost[distance:]
            better = candidate > best[distance:]
            np.copyto(best[distance:], candidate, where=better)
            np.copyto(since[distance:], entered[:-distance], where=better)
        return best, since


def make_lexicon(words: Iterable[str], texts: Iterable[str], voice: str) -> tuple[Lexicon, list[list[str]]]:
    """The lexicon of `words`, each alone and as it is spoken in `texts`, and the symbols of every text.

    Raises ValueError for a text with a word that is not among `words`.
    """
    espeak = Espeak(voice)
    pronunciations: dict[str, set[tuple[str, ...]]] = {word: set(espeak.pronounce(word)) for word in sorted(words)}
    symbols = []
    for text in texts:
        spoken = espeak.pronounce(text)
        for word, phones in zip(text.split(), spoken, strict=True):
            if word not in pronunciations:
                raise ValueError(f"spoken.json lacks {word!r} of {text!r}")
            pronunciations[word].add(phones)
        symbols.append([symbol for phones in spoken for symbol in (*phones, BOUNDARY)][:-1])
    return Lexicon(pronunciations), symbols
