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


class FrameAligner:
    """An Aligner that keeps every frame of a word, repeats too.

    A word has the frames from floor(start * rate) to floor(end * rate), at least one. With silence = "previous", the
    frames between words belong to the word before them, and those before the first word to it; with "drop" to none.
    """

    def __init__(self, silence: str = "previous") -> None:
        self.silence = silence

    def __call__(
        self, units: Sequence[int] | npt.NDArray[Any], words: Sequence[Word], frame_rate: float
    ) -> list[list[int]]:
        """The units of each word. Raises ValueError when there are no units, or words are not in order of time."""
        if not words:
            return []
        if not len(units):
            raise ValueError("no units to align")
        starts = [word.start for word in words]
        if starts != sorted(starts):
            raise ValueError(f"words are not in order of time: they start at {starts}")
        firsts = [min(_frame(word.start, frame_rate), len(units) - 1) for word in words]
        ends = [_frame(word.end, frame_rate) for word in words]
        if self.silence == "previous":
            firsts[0], ends = 0, [*firsts[1:], len(units)]
        return [
            [int(unit) for unit in units[first : max(end, first + 1)]] for first, end in zip(firsts, ends, strict=True)
        ]


def _frame(seconds: float, frame_rate: float) -> int:
    # 0.58 s * 50 is 28.999999999999996 in floats.
    return int(seconds * frame_rate + 1e-6)
