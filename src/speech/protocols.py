"""What each speech component does, for those who use it. Audio is 16 kHz mono float32 in [-1, 1]."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from src.speech.audio import Utterance, Word

Audio = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]
UnitIds = npt.NDArray[np.int64]


class Synthesizer(Protocol):
    """Text to speech that also says when each word is spoken."""

    def __call__(self, text: str) -> Utterance: ...


class Encoder(Protocol):
    """Audio [samples] to features [frames, dimensions] at `frame_rate` frames a second."""

    frame_rate: float

    def __call__(self, audio: npt.NDArray[Any]) -> Features: ...


class FittedEncoder(Encoder, Protocol):
    """An encoder that is fitted here, and kept in the artifact of its quantizer."""

    name: str
    """Its file in encoders/."""
    frame_ms: int

    def described(self) -> dict[str, Any]: ...

    def tensors(self) -> dict[str, npt.NDArray[np.float32]]: ...


class Quantizer(Protocol):
    """Features [frames, dimensions] to one unit id a frame, in [0, clusters)."""

    clusters: int

    def __call__(self, features: Features) -> UnitIds: ...


class Aligner(Protocol):
    """Frame units and word times to the units of each word."""

    def __call__(self, units: Sequence[int] | UnitIds, words: Sequence[Word], frame_rate: float) -> list[list[int]]: ...


class Vocoder(Protocol):
    """Unit ids of an utterance, in [0, clusters), to audio [samples]."""

    clusters: int

    def __call__(self, units: Sequence[int]) -> Audio: ...


class Recognizer(Protocol):
    """A batch of audio to lower-case text."""

    def __call__(self, audios: Sequence[npt.NDArray[Any]]) -> list[str]: ...


class FittedRecognizer(Recognizer, Protocol):
    """A recognizer that is fitted here."""

    def canonical(self, text: str) -> str:
        """The text with what sounds alike written alike, as far as the recognizer cannot tell it apart."""
        ...
