"""What the recognizer hears of units that a model speaks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from src.evaluate.progress import Progress
from src.speech.audio import write_audio
from src.speech.protocols import Recognizer, Vocoder

HEARD_AT_ONCE = 32
"""Answers that the recognizer gets in one call, which bounds the audio that is kept."""


class Listener:
    """Makes audio of unit ids and recognizes it. Units that the vocoder does not have are left out."""

    def __init__(self, vocoder: Vocoder, recognizer: Recognizer, progress: Progress):
        self.vocoder, self.recognizer, self.progress = vocoder, recognizer, progress

    def __call__(self, spoken: Sequence[Sequence[int]], keep: Mapping[int, Path]) -> list[str]:
        """What is heard of each sequence of units, "" where there is none; keep: index -> file for its audio."""
        heard = [""] * len(spoken)
        for start in range(0, len(spoken), HEARD_AT_ONCE):
            group = range(start, min(start + HEARD_AT_ONCE, len(spoken)))
            audios: dict[int, np.ndarray] = {}
            for i in group:
                units = [unit for unit in spoken[i] if unit < self.vocoder.clusters]
                if units:
                    audios[i] = self.vocoder(units)
                    if i in keep:
                        write_audio(keep[i], audios[i])
            if audios:
                for i, text in zip(audios, self.recognizer(list(audios.values())), strict=True):
                    heard[i] = text
            self.progress.advance(len(group))
        return heard
