"""Audio and the words in it: the types every speech component shares, audio files, and resampling."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

SAMPLE_RATE = 16_000
"""Samples a second of all audio in the project."""
RATES = (1_000, 768_000)
"""Least and most samples a second of a file; what says otherwise has a broken header."""
BLOCK = 2**20
"""Samples of a channel that are decoded at once."""
UNKNOWN = 2**40
"""A length from here on stands for one that the header does not tell."""
WHOLE = 0.9
"""Least share of the length in the header that must be there. MP3 tells its length by estimate."""
SCALED = 16.0
"""Float samples that peak above are no longer too loud, but at the scale of 16 bits."""
CANCELLED = 0.1
"""Channels whose mean has a lower share of the energy that independent channels would leave cancel one another."""
SYSTEM_ERROR = 2
"""libsndfile's code for a file that is missing or must not be read."""


class NoAudio(ValueError):
    """What is there is no audio, or not whole."""


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


def read_audio(source: Path | BinaryIO) -> npt.NDArray[np.float32]:
    """Audio [samples] at 16 kHz, mono, of a file in any format that libsndfile reads, of any length its header tells.

    Several channels are averaged; where they cancel one another (a microphone of wrong polarity), the loudest is taken.
    Float samples at the scale of 16 bits are brought to [-1, 1]. Raises NoAudio for what cannot be decoded, ends early,
    holds no sample, or samples that are not finite, and OSError for a file that cannot be opened.
    """
    with _opened(source) as file:
        rate, length = file.samplerate, file.frames
        blocks = list(_blocks(file))
    if not blocks:
        raise NoAudio("it holds no sample")
    channels = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    if length < UNKNOWN and len(channels) < WHOLE * length:
        raise NoAudio(f"it ends after {len(channels)} of {length} samples")
    if not np.isfinite(channels).all():
        raise NoAudio("it holds samples that are no finite numbers")
    peak = float(np.abs(channels).max())
    if peak > 2**15:
        raise NoAudio(f"its samples reach {peak:g}: they must lie between -1 and 1, or between -32768 and 32768")
    if peak > SCALED:
        channels = channels / np.float32(2**15)
    return resample(_mono(channels), rate)


def seconds_of(source: Path | BinaryIO) -> float:
    """The length of audio by its header, or by its samples where the header does not tell. Raises as `read_audio`."""
    with _opened(source) as file:
        length = file.frames if file.frames < UNKNOWN else sum(map(len, _blocks(file)))
        return length / file.samplerate


class _Stream(soundfile.SoundFile):
    """Read from its beginning to its end: libsndfile cannot go to the end of what has no known length."""

    def seekable(self) -> bool:
        return False


def _blocks(file: _Stream) -> Iterator[npt.NDArray[np.float32]]:
    """The samples [samples, channels]. Raises NoAudio for what cannot be decoded."""
    try:
        while len(block := file.read(min(BLOCK, file.frames), dtype="float32", always_2d=True)):
            yield block
    except soundfile.LibsndfileError as error:
        raise NoAudio(error.error_string) from None


def _opened(source: Path | BinaryIO) -> _Stream:
    try:
        file = _Stream(os.fsencode(source) if isinstance(source, Path) else source)
    except soundfile.LibsndfileError as error:
        if error.code == SYSTEM_ERROR:
            raise OSError(error.error_string) from None
        raise NoAudio(error.error_string) from None
    except TypeError:  # soundfile's, for a name that ends in .raw
        raise NoAudio("samples without a header") from None
    if not RATES[0] <= file.samplerate <= RATES[1]:
        file.close()
        raise NoAudio(f"its header tells {file.samplerate} samples a second")
    return file


def _mono(channels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """One channel out of several [samples, channels]."""
    mixed = channels.mean(axis=1)
    count = channels.shape[1]
    if count > 1:
        energies = np.square(channels, dtype=np.float64).mean(axis=0)
        if np.square(mixed, dtype=np.float64).mean() < CANCELLED / count * energies.mean():
            return np.ascontiguousarray(channels[:, energies.argmax()])
    return mixed


def words_from_rows(rows: Iterable[Any]) -> tuple[Word, ...]:
    """Words from the [text, start, end] triples of a JSON file."""
    return tuple(Word(str(text), float(start), float(end)) for text, start, end in rows)


def words_to_rows(words: Iterable[Word]) -> list[list[str | float]]:
    """Words as [text, start, end] triples, seconds rounded to a tenth of a millisecond."""
    return [[word.text, round(word.start, 4), round(word.end, 4)] for word in words]


def slices(audio: npt.NDArray[np.int16], rows: Iterable[Mapping[str, Any]]) -> list[npt.NDArray[np.int16]]:
    """The utterances stored one after another in `audio`, by the `start` and `length` of each row (samples)."""
    return [audio[row["start"] : row["start"] + row["length"]] for row in rows]
