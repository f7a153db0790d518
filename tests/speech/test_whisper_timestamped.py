"""The package is no dependency, not even of the tests: what it returns is written out as its documentation has it."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from src.speech.audio import Word
from src.speech.whisper_timestamped import TimestampedWhisper


def test_words_of_all_segments(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    asked: list[Any] = []

    def transcribe(model: Any, audio: np.ndarray, language: str | None, verbose: bool | None) -> dict[str, Any]:
        asked.append((model, len(audio), audio.dtype, language))
        first = [{"text": " Paris", "start": 0.1, "end": 0.5, "confidence": 1}, {"text": "is.", "start": 0.5, "end": 1}]
        second = [{"text": "It.", "start": 2, "end": 3, "confidence": 0.8}]
        return {"text": " Paris is. It.", "segments": [{"words": first}, {"words": second}], "language": "en"}

    package = SimpleNamespace(load_model=lambda name, device: (name, device), transcribe=transcribe)
    monkeypatch.setitem(sys.modules, "whisper_timestamped", package)  # type: ignore[arg-type]
    finished: list[int] = []
    whisper = TimestampedWhisper(tmp_path, "en")
    heard = whisper.words([np.zeros(0, np.float32), np.zeros(9, np.int16)], lambda places: finished.extend(places))
    assert heard == [(), (Word("Paris", 0.1, 0.5), Word("is.", 0.5, 1.0), Word("It.", 2.0, 3.0))]
    assert finished == [0, 1] and len(asked) == 1
    assert asked[0][0][0] == str(tmp_path) and asked[0][1:] == (9, np.float32, "en")


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setitem(sys.modules, "whisper_timestamped", None)
    with pytest.raises(ValueError, match=r"aligner\.backend = 'whisper_timestamped': needs the package .*pip install"):
        TimestampedWhisper(tmp_path, "en")
