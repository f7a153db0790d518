"""The settings of the speech components, and their checks. Light, so that a plan is checked without audio libraries."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar

SYNTHESIZERS = ("espeak",)
ENCODERS = ("mfcc", "lda")
VOCODERS = ("mel_griffin_lim",)
RECOGNIZERS = ("phoneme_ctc",)
GROUPS = ("encoder", "quantizer", "aligner", "synthesizer", "vocoder", "recognizer")
"""Settings of published components, as `src.speech.pretrained` has them."""
HOP_MS = 10
"""Milliseconds between two spectra; a frame is a multiple of it."""

Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], mapping: Mapping[str, Any], where: str) -> Settings:
    """`kind(**mapping)`, raising ValueError for a name that `kind` lacks or a required one that is missing.

    `where` names the group of settings in messages ("vocoder").
    """
    declared: tuple[Field[Any], ...] = fields(kind)  # type: ignore[arg-type]
    known = {f.name for f in declared}
    if unknown := sorted(set(mapping) - known):
        raise ValueError(f"{where}.{unknown[0]} is no setting; {where} has {', '.join(sorted(known))}")
    required = {f.name for f in declared if f.default is MISSING and f.default_factory is MISSING}
    if missing := sorted(required - set(mapping)):
        raise ValueError(f"{where}.{missing[0]} must be given")
    return kind(**mapping)


@contextmanager
def full_names() -> Iterator[None]:
    """Let a ValueError that begins with a setting of published components ("encoder.model = ") name it as it is set:
    speech.encoder.model. Whisper's settings stand in two places, and a message cannot tell in which."""
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


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise ValueError("<name> = <value>: must be <expected>") unless `condition` holds."""
    if not condition:
        raise ValueError(f"{name} = {value!r}: must be {expected}")


@dataclass
class SynthesizerConfig:
    """A voice, and how much one utterance differs from the next."""

    name: str = "espeak"
    voice: str = "en-us"
    rate_min: int = 150
    """Slowest and fastest speech, in words a minute; each utterance draws its own."""
    rate_max: int = 180
    pitch_min: int = 45
    """Lowest and highest base pitch, 0 to 100; each utterance draws its own."""
    pitch_max: int = 55
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.name in SYNTHESIZERS, "synthesizer.name", self.name, f"one of {', '.join(SYNTHESIZERS)}")
        require(bool(self.voice), "synthesizer.voice", self.voice, "an espeak-ng voice, such as en-us")
        for name, low, high, limits in (
            ("rate", self.rate_min, self.rate_max, (80, 450)),
            ("pitch", self.pitch_min, self.pitch_max, (0, 100)),
        ):
            allowed = f"from {limits[0]} to {limits[1]}, the smaller first"
            settings = f"synthesizer.{name}_min, synthesizer.{name}_max"
            require(limits[0] <= low <= high <= limits[1], settings, (low, high), allowed)
        require(self.seed >= 0, "synthesizer.seed", self.seed, "0 or more")


@dataclass
class QuantizerConfig:
    """From audio to units."""

    synthesizer: dict[str, Any] = field(default_factory=dict)
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
        require(self.encoder in ENCODERS, "quantizer.encoder", self.encoder, f"one of {', '.join(ENCODERS)}")
        frames = range(HOP_MS, 80 + 1, HOP_MS)
        require(self.frame_ms in frames, "quantizer.frame_ms", self.frame_ms, f"one of {', '.join(map(str, frames))}")
        require(0 <= self.context <= 10, "quantizer.context", self.context, "from 0 to 10")
        require(self.dimensions >= 1, "quantizer.dimensions", self.dimensions, "1 or more")
        require(self.clusters >= 2, "quantizer.clusters", self.clusters, "2 or more")
        require(self.switch_penalty >= 0, "quantizer.switch_penalty", self.switch_penalty, "0 or more")
        require(self.seed >= 0, "quantizer.seed", self.seed, "0 or more")


@dataclass
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
        require(self.name in VOCODERS, "vocoder.name", self.name, f"one of {', '.join(VOCODERS)}")
        for name in ("width", "steps", "batch_size", "iterations"):
            require(getattr(self, name) >= 1, f"vocoder.{name}", getattr(self, name), "1 or more")
        require(self.learning_rate > 0, "vocoder.learning_rate", self.learning_rate, "above 0")
        require(self.duration_weight >= 0, "vocoder.duration_weight", self.duration_weight, "0 or more")
        require(self.seed >= 0, "vocoder.seed", self.seed, "0 or more")


@dataclass
class RecognizerConfig:
    """Size and training of the recognizer, and the voice of its test."""

    synthesizer: dict[str, Any] = field(default_factory=dict)
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
        require(self.name in RECOGNIZERS, "recognizer.name", self.name, f"one of {', '.join(RECOGNIZERS)}")
        for name in ("width", "steps", "batch_size"):
            require(getattr(self, name) >= 1, f"recognizer.{name}", getattr(self, name), "1 or more")
        require(self.learning_rate > 0, "recognizer.learning_rate", self.learning_rate, "above 0")
        require(0 <= self.dropout < 1, "recognizer.dropout", self.dropout, "from 0 to below 1")
        require(self.noise >= 0, "recognizer.noise", self.noise, "0 or more")
        require(self.word_penalty >= 0, "recognizer.word_penalty", self.word_penalty, "0 or more")
        require(self.seed >= 0, "recognizer.seed", self.seed, "0 or more")


@dataclass
class UnitsConfig:
    """Who speaks, and what is kept to listen to."""

    synthesizer: dict[str, Any] = field(default_factory=dict)
    keep_audio: int = 3
    """Questions of each evaluation set whose audio is kept."""

    def __post_init__(self) -> None:
        require(self.keep_audio >= 0, "units.keep_audio", self.keep_audio, "0 or more")
