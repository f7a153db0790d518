"""The settings of the speech components that are fitted as steps of the plan, and their checks. Imports no audio
library: a plan is checked with them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from src.checks import positive, require, seed

SYNTHESIZERS = ("espeak",)
ENCODERS = ("mfcc", "lda")
VOCODERS = ("mel_griffin_lim",)
RECOGNIZERS = ("phoneme_ctc",)
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
class QuantizerConfig:
    """From audio to units."""

    synthesizer: SynthesizerConfig = field(default_factory=SynthesizerConfig)
    """The voice that speaks the utterances to fit."""
    encoder: str = "lda"
    frame_ms: int = 20
    context: int = 3
    """Neighbouring frames on either side that "lda" sees."""
    dimensions: int = 40
    """Directions that "lda" keeps."""
    clusters: int = 64
    """Number of units."""
    switch_penalty: float = 1.5
    """Price of a change of unit, in mean squared distances of a frame from its centroid."""
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.encoder in ENCODERS, "encoder", self.encoder, f"one of {', '.join(ENCODERS)}")
        frames = range(HOP_MS, 80 + 1, HOP_MS)
        require(self.frame_ms in frames, "frame_ms", self.frame_ms, f"one of {', '.join(map(str, frames))}")
        require(0 <= self.context <= 10, "context", self.context, "from 0 to 10")
        require(self.dimensions >= 1, "dimensions", self.dimensions, "1 or more")
        require(self.clusters >= 2, "clusters", self.clusters, "2 or more")
        require(self.switch_penalty >= 0, "switch_penalty", self.switch_penalty, "0 or more")
        seed(self)


@dataclass(frozen=True)
class VocoderConfig:
    """Size and training of the vocoder."""

    name: str = "mel_griffin_lim"
    width: int = 128
    """Channels of every layer."""
    steps: int = 800
    batch_size: int = 16
    learning_rate: float = 2e-3
    duration_weight: float = 0.3
    """Weight of the duration loss beside the mel loss."""
    iterations: int = 16
    """Griffin-Lim iterations: more sound smoother and take longer."""
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.name in VOCODERS, "name", self.name, f"one of {', '.join(VOCODERS)}")
        positive(self, "width", "steps", "batch_size", "iterations", "learning_rate")
        require(self.duration_weight >= 0, "duration_weight", self.duration_weight, "0 or more")
        seed(self)


@dataclass(frozen=True)
class RecognizerConfig:
    """Size and training of the recognizer, and the voice of its test."""

    synthesizer: SynthesizerConfig = field(default_factory=SynthesizerConfig)
    """The voice that speaks the held-out answers."""
    name: str = "phoneme_ctc"
    width: int = 160
    """Channels of the convolutions, and of the GRU in each direction."""
    steps: int = 600
    batch_size: int = 32
    learning_rate: float = 2e-3
    dropout: float = 0.1
    noise: float = 0.2
    """Standard deviation of what is added to normalized features in training."""
    word_penalty: float = 1.0
    """Log probability that a word must gain to be heard: higher values hear fewer, longer words."""
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.name in RECOGNIZERS, "name", self.name, f"one of {', '.join(RECOGNIZERS)}")
        positive(self, "width", "steps", "batch_size", "learning_rate")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and below 1")
        for name in ("noise", "word_penalty"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        seed(self)


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
