"""Word times by the package whisper-timestamped instead of transformers, on the same weights.

The package is under the GPL-3 and no part of this project, nor does anything here need it: whoever wants its word times
installs it (`pip install whisper-timestamped`; tried with 1.15.9) and sets speech.aligner.backend=whisper_timestamped.
It hears one audio at a time.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from src.speech.audio import Word, to_float32
from src.speech.batches import Finished, default_device


class TimestampedWhisper:
    """When the words of audio are spoken, one audio at a time."""

    def __init__(self, folder: Path, language: str | None) -> None:
        """folder: a Whisper of transformers. Raises ValueError where the package is not installed."""
        try:
            self._package: Any = importlib.import_module("whisper_timestamped")
        except ImportError as error:
            raise ValueError(
                "aligner.backend = 'whisper_timestamped': needs the package of that name (GPL-3), which is not "
                "installed: pip install whisper-timestamped"
            ) from error
        self._model = self._package.load_model(str(folder), device=str(default_device()))
        self._language = language

    def words(self, audios: Sequence[npt.NDArray[Any]], finished: Finished | None = None) -> list[tuple[Word, ...]]:
        """The words said in each of `audios` ([samples]) with their times; none of no samples."""
        heard: list[tuple[Word, ...]] = []
        for place, audio in enumerate(audios):
            heard.append(self._words(audio) if len(audio) else ())
            if finished:
                finished([place])
        return heard

    def _words(self, audio: npt.NDArray[Any]) -> tuple[Word, ...]:
        # verbose: None draws no progress bars.
        result = self._package.transcribe(self._model, to_float32(audio), language=self._language, verbose=None)
        return tuple(
            Word(word["text"].strip(), float(word["start"]), float(word["end"]))
            for segment in result["segments"]
            for word in segment["words"]
        )
