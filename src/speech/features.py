"""Encoders: audio to feature frames that a quantizer can cluster.

    mfcc    13 cepstra with their slopes and curvatures, each scaled to variance 1
    lda     log-mel frames with their neighbours, projected to the directions that best tell phones apart (linear
            discriminant analysis, Haeb-Umbach and Ney 1992), fitted to the phone times that the synthesizer knows

Either one is a linear map of a fixed spectral front end, so an encoder is its settings, an offset and a matrix.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from src.checks import require
from src.speech.audio import SAMPLE_RATE, Utterance
from src.speech.spectrogram import HOP, log_mel
from src.speech.synthesizer import PAUSE

MELS = 40
CEPSTRA = 13
DELTA_WINDOW = 4
HOP_MS = 1000 * HOP // SAMPLE_RATE

_DCT = np.ascontiguousarray(scipy.fft.dct(np.eye(MELS, dtype=np.float32), norm="ortho", axis=0)[:CEPSTRA].T)


def average(frames: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """Means of every `count` consecutive frames [n, d] -> [ceil(n / count), d]; the last frame fills up."""
    missing = -len(frames) % count
    padded = np.pad(frames, ((0, missing), (0, 0)), mode="edge")
    means: npt.NDArray[np.float32] = padded.reshape(-1, count, frames.shape[1]).mean(axis=1)
    return means


def slope(frames: npt.NDArray[np.float32], width: int = DELTA_WINDOW) -> npt.NDArray[np.float32]:
    """Least-squares slope of each dimension over `width` frames on either side (the usual delta features)."""
    padded = np.pad(frames, ((width, width), (0, 0)), mode="edge")
    count = len(frames)
    total = np.zeros_like(frames)
    for i in range(1, width + 1):
        total += i * (padded[width + i : width + i + count] - padded[width - i : width - i + count])
    return total / np.float32(2 * sum(i * i for i in range(1, width + 1)))


def mfcc_frames(audio: npt.NDArray[Any], per_frame: int) -> npt.NDArray[np.float32]:
    """Cepstra, slopes, curvatures: [frames, 39], `per_frame` hops a frame."""
    cepstra = log_mel(audio, MELS) @ _DCT
    slopes = slope(cepstra)
    return average(np.concatenate([cepstra, slopes, slope(slopes)], axis=1), per_frame)


def stacked_frames(audio: npt.NDArray[Any], per_frame: int, context: int) -> npt.NDArray[np.float32]:
    """Each log-mel frame beside `context` frames on either side: [frames, (2 context + 1) * 40]."""
    frames = average(log_mel(audio, MELS), per_frame)
    padded = np.pad(frames, ((context, context), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * context + 1, axis=0)
    return windows.transpose(0, 2, 1).reshape(len(frames), -1)


def phone_labels(utterance: Utterance, frames: int, frame_rate: float) -> list[str]:
    """The phone at the middle of each frame; before the first and after the last it is silence."""
    middles = (np.arange(frames) + 0.5) / frame_rate
    owners = np.searchsorted([phone.start for phone in utterance.phones], middles, side="right") - 1
    phones = [utterance.phones[owner] for owner in owners]
    return [
        phone.text if phone.start <= middle < phone.end else PAUSE
        for phone, middle in zip(phones, middles, strict=True)
    ]


class LinearEncoder:
    """(front end - offset) @ matrix, at `frame_rate` frames a second."""

    def __init__(
        self, name: str, frame_ms: int, context: int, offset: npt.NDArray[np.float32], matrix: npt.NDArray[np.float32]
    ) -> None:
        self.name = name
        self.frame_ms = frame_ms
        self.context = context
        self.offset = offset
        self.matrix = matrix
        self.frame_rate = 1000 / frame_ms

    def __call__(self, audio: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Features [frames, dimensions] of audio [samples]; one frame for every started `frame_ms`."""
        return self.project(FRONT_ENDS[self.name](audio, self.frame_ms // HOP_MS, self.context))

    def described(self) -> dict[str, Any]:
        """Its settings, as `load` of its class takes them."""
        return {"frame_ms": self.frame_ms, "context": self.context}

    def tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        """What was fitted."""
        return {"offset": self.offset, "matrix": self.matrix}

    def project(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Frames of the front end to features."""
        return ((frames - self.offset) @ self.matrix).astype(np.float32, copy=False)


FRONT_ENDS = {"mfcc": lambda audio, per_frame, context: mfcc_frames(audio, per_frame), "lda": stacked_frames}


def fit_mfcc(frame_ms: int, utterances: Sequence[Utterance]) -> tuple[LinearEncoder, list[npt.NDArray[np.float32]]]:
    """An encoder of cepstra, each scaled to variance 1 over the utterances, and the features of these."""
    parts = [mfcc_frames(utterance.audio, frame_ms // HOP_MS) for utterance in utterances]
    frames = np.concatenate(parts)
    scales = np.diag(1 / (frames.std(axis=0) + 1e-6)).astype(np.float32)
    encoder = LinearEncoder("mfcc", frame_ms, 0, frames.mean(axis=0), scales)
    return encoder, [encoder.project(part) for part in parts]


def fit_lda(
    frame_ms: int, context: int, dimensions: int, utterances: Sequence[Utterance]
) -> tuple[LinearEncoder, list[npt.NDArray[np.float32]]]:
    """An encoder of the `dimensions` directions that best tell phones apart, over `context` frames on either side, and
    the features of the utterances.

    Raises ValueError if there are no phone times to learn from, or fewer kinds of phones than `dimensions`.
    """
    parts = [stacked_frames(utterance.audio, frame_ms // HOP_MS, context) for utterance in utterances]
    fitted = _discriminant(parts, utterances, 1000 / frame_ms, dimensions)
    encoder = LinearEncoder("lda", frame_ms, context, *fitted)
    return encoder, [encoder.project(part) for part in parts]


def _discriminant(
    parts: Sequence[npt.NDArray[np.float32]],
    utterances: Sequence[Utterance],
    frame_rate: float,
    dimensions: int,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    silent = [utterance.text for utterance in utterances if not utterance.phones]
    if silent:
        raise ValueError(f"quantizer.encoder is 'lda', which needs the phone times of {silent[0]!r}; mfcc does not")
    labels = [
        label
        for part, utterance in zip(parts, utterances, strict=True)
        for label in phone_labels(utterance, len(part), frame_rate)
    ]
    kinds = len(set(labels))
    require(dimensions < kinds, "quantizer.dimensions", dimensions, f"below {kinds}, the kinds of phones in fit.jsonl")
    analysis = LinearDiscriminantAnalysis(solver="svd", n_components=dimensions).fit(np.concatenate(parts), labels)
    return analysis.xbar_.astype(np.float32), np.ascontiguousarray(analysis.scalings_[:, :dimensions], np.float32)
