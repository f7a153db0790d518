"""The settings of the speech components that are fitted as steps of the plan, and their checks. Imports no audio
library: a plan is checked with them."""

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.checks import require, seed
from src.grid.choice import Choice

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from src.grid.context import Context
    from src.speech.audio import Utterance
    from src.speech.protocols import Audio, Features, FittedEncoder, FittedRecognizer, Vocoder

SYNTHESIZERS = ("espeak",)
GROUPS = ("encoder", "quantizer", "aligner", "synthesizer", "vocoder", "recognizer")
"""Groups of settings of the speech components."""
HOP_MS = 10
"""Milliseconds between two spectra; a frame is a multiple of it."""


@contextmanager
def full_names() -> Iterator[None]:
    """Complete the name of the setting with which a ValueError begins: "encoder.model is" to "speech.encoder.model is".

    For errors that are found when a component is read, in code that knows its group of settings and no more. Whisper's
    settings stand in two places, and the message names both.
    """
    try:
        yield
    except ValueError as error:
        found = re.match(r"(\w+)\.(\w+)", str(error))
        if found and found[1] == "whisper":
            both = f"speech.aligner.whisper.{found[2]} or speech.recognizer.{found[2]}"
            raise ValueError(both + str(error)[found.end() :]) from error
        if found and found[1] in GROUPS:
            raise ValueError(f"speech.{error}") from error
        raise


@dataclass(frozen=True)
class SynthesizerConfig:
    """A voice, and how much one utterance differs from the next."""

    name: str = "espeak"
    voice: str = "en-us"
    rate_min: int = 150
    """Slowest speech, in words a minute; each utterance draws its own rate."""
    rate_max: int = 180
    pitch_min: int = 45
    """Lowest base pitch, 0 to 100; each utterance draws its own."""
    pitch_max: int = 55
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.name in SYNTHESIZERS, "name", self.name, f"one of {', '.join(SYNTHESIZERS)}")
        require(bool(self.voice), "voice", self.voice, "an espeak-ng voice, such as en-us")
        require(80 <= self.rate_min <= 450, "rate_min", self.rate_min, "from 80 to 450")
        right = f"from rate_min={self.rate_min} to 450"
        require(self.rate_min <= self.rate_max <= 450, "rate_max", self.rate_max, right)
        require(0 <= self.pitch_min <= 100, "pitch_min", self.pitch_min, "from 0 to 100")
        right = f"from pitch_min={self.pitch_min} to 100"
        require(self.pitch_min <= self.pitch_max <= 100, "pitch_max", self.pitch_max, right)
        seed(self)


@dataclass(frozen=True)
class QuantizerConfig(Choice):
    """From audio to units: k-means clusters of the features of an encoder. Encoders are the files of encoders/."""

    folder = "src.speech.encoders"
    key = "encoder"

    synthesizer: SynthesizerConfig = field(default_factory=SynthesizerConfig)
    """The voice that speaks the utterances to fit."""
    encoder: str = "lda"
    frame_ms: int = 20
    clusters: int = 64
    """Number of units."""
    switch_penalty: float = 1.5
    """Price of a change of unit, in mean squared distances of a frame from its centroid."""
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_file()
        frames = range(HOP_MS, 80 + 1, HOP_MS)
        require(self.frame_ms in frames, "frame_ms", self.frame_ms, f"one of {', '.join(map(str, frames))}")
        require(self.clusters >= 2, "clusters", self.clusters, "2 or more")
        require(self.switch_penalty >= 0, "switch_penalty", self.switch_penalty, "0 or more")
        seed(self)

    @abstractmethod
    def fit(self, utterances: "Sequence[Utterance]") -> "tuple[FittedEncoder, list[Features]]":
        """Fit the encoder to spoken utterances, and return it with their features."""

    @staticmethod
    @abstractmethod
    def load(described: "Mapping[str, Any]", tensors: "Mapping[str, npt.NDArray[np.float32]]") -> "FittedEncoder":
        """The encoder again, from its `described` and its `tensors`."""


@dataclass(frozen=True)
class VocoderConfig(Choice):
    """From units to audio. Vocoders are the files of vocoders/."""

    folder = "src.speech.vocoders"
    key = "name"

    name: str = "mel_griffin_lim"

    def __post_init__(self) -> None:
        self.check_file()

    @abstractmethod
    def fit(self, fitted: Path, out: Path, context: "Context") -> dict[str, Any]:
        """Fit the vocoder to the utterances of the artifact `fitted` of a quantizer; returns the summary.

        Writes into `out` what `load` reads, and vocoder.json, whose `config` is `dataclasses.asdict` of these settings.
        """

    @staticmethod
    @abstractmethod
    def load(folder: Path) -> "Vocoder":
        """The vocoder of an artifact."""


@dataclass(frozen=True)
class RecognizerConfig(Choice):
    """From audio to text, and the voice of its test. Recognizers are the files of recognizers/."""

    folder = "src.speech.recognizers"
    key = "name"

    synthesizer: SynthesizerConfig = field(default_factory=SynthesizerConfig)
    """The voice that speaks the held-out answers."""
    name: str = "phoneme_ctc"

    def __post_init__(self) -> None:
        self.check_file()

    @abstractmethod
    def fit(
        self, corpus: Path, fitted: Path, vocoded: "Callable[[npt.NDArray[Any]], Audio]", out: Path, context: "Context"
    ) -> "FittedRecognizer":
        """Fit the recognizer to the utterances of the artifact `fitted` of a quantizer.

        vocoded: what becomes of audio that is written as units and vocoded again. Writes into `out` what `load` reads,
        and recognizer.json with the `name`.
        """

    @staticmethod
    @abstractmethod
    def load(folder: Path) -> "FittedRecognizer":
        """The recognizer of an artifact."""


LISTS = ("asr", "tts", "eval_asr", "sqa", "eval_qa")
"""Lists of the corpus that are spoken."""
EVALUATED = ("eval_asr", "eval_qa")
"""Spoken lists that a model is asked."""


@dataclass(frozen=True)
class UnitsConfig:
    """The voice that speaks the corpus, and what is kept to listen to."""

    synthesizer: SynthesizerConfig = field(default_factory=SynthesizerConfig)
    keep_audio: int = 3
    """Questions of each evaluation set whose audio is kept."""

    def __post_init__(self) -> None:
        require(self.keep_audio >= 0, "keep_audio", self.keep_audio, "0 or more")


@dataclass(frozen=True, kw_only=True)
class FittedSpeech:
    """Speech components that are fitted to one voice, as steps of the plan."""

    name: str = "fitted"
    synthesizer: SynthesizerConfig
    """The voice that the other groups refer to."""
    quantizer: QuantizerConfig
    units: UnitsConfig
    vocoder: VocoderConfig
    recognizer: RecognizerConfig
