"""Audio and the words in it: the types every speech component shares, FLAC files, and resampling."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

SAMPLE_RATE = 16_000
"""Samples a second of all audio in the project."""


@dataclass(frozen=True)
class Word:
    """A word (or a phone) and the seconds between which it is spoken."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class Utterance:
    """Audio [samples] in [-1, 1] with the times of its words and, where the source knows them, of its phones."""

    text: str
    audio: npt.NDArray[np.float32]
    words: tuple[Word, ...]
    phones: tuple[Word, ...] = ()


def to_int16(audio: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    """Round audio in [-1, 1] to 16-bit samples, clipping what is outside."""
    return np.round(np.clip(audio, -1.0, 1.0) * 32767.0).astype(np.int16)


def to_float32(audio: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Audio as float32 in [-1, 1], from float or 16-bit samples. Raises ValueError for other shapes or types."""
    if audio.ndim != 1:
        raise ValueError(f"audio must be one channel [samples], not of shape {audio.shape}")
    if audio.dtype == np.int16:
        return audio.astype(np.float32) / np.float32(32767.0)
    if not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(f"audio must be float or int16 samples, not {audio.dtype}")
    return audio.astype(np.float32, copy=False)


def resample(audio: npt.NDArray[np.float32], rate: int) -> npt.NDArray[np.float32]:
    """Audio [samples] at `rate` samples a second, brought to `SAMPLE_RATE`."""
    return audio if rate == SAMPLE_RATE else soxr.resample(audio, rate, SAMPLE_RATE, quality="MQ")


def write_audio(path: Path, audio: npt.NDArray[Any]) -> None:
    """Write audio as a 16-bit FLAC (or whatever the suffix of `path` says), making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, to_int16(to_float32(audio)), SAMPLE_RATE)


def read_audio(path: Path) -> npt.NDArray[np.float32]:
    """Read any file that libsndfile knows, as 16 kHz mono. Several channels are averaged."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resample(samples.mean(axis=1), rate)


def words_from_rows(rows: Iterable[Any]) -> tuple[Word, ...]:
    """Words from the [text, start, end] triples of a JSON file."""
    return tuple(Word(str(text), float(start), float(end)) for text, start, end in rows)


def words_to_rows(words: Iterable[Word]) -> list[list[str | float]]:
    """Words as [text, start, end] triples, seconds rounded to a tenth of a millisecond."""
    return [[word.text, round(word.start, 4), round(word.end, 4)] for word in words]


def slices(audio: npt.NDArray[np.int16], rows: Iterable[Mapping[str, Any]]) -> list[npt.NDArray[np.int16]]:
    """The utterances stored one after another in `audio`, by the `start` and `length` of each row (samples)."""
    return [audio[row["start"] : row["start"] + row["length"]] for row in rows]
