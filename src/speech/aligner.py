"""Which units belong to which word, by the word times of the utterance."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy.typing as npt

from src.speech.audio import Word


def without_repeats(units: Iterable[int]) -> list[int]:
    """Each run of a unit once: [7, 7, 3, 7] -> [7, 3, 7]."""
    return [int(unit) for unit, _ in groupby(units)]


class WordAligner:
    """A word owns the frames from floor(start * rate) to the next word's; runs within a word become one unit.

    Leading silence goes to the first word and trailing silence to the last. A word too short for a frame of its own
    takes the frame it starts in.
    """

    def __call__(
        self, units: Sequence[int] | npt.NDArray[Any], words: Sequence[Word], frame_rate: float
    ) -> list[list[int]]:
        """The units of each word. Raises ValueError when there are no units, or words are not in order of time."""
        if not len(units):
            raise ValueError("no units to align")
        starts = [word.start for word in words]
        if starts != sorted(starts):
            raise ValueError(f"words are not in order of time: they start at {starts}")
        firsts = [0] + [min(int(start * frame_rate), len(units) - 1) for start in starts[1:]]
        ends = [*firsts[1:], len(units)]
        return [without_repeats(units[first : max(end, first + 1)]) for first, end in zip(firsts, ends, strict=True)]
