"""A published speech component, copied into the store once, so that no later step needs a network."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from src.grid.step import Inputs, Step
from src.speech.published_settings import (
    CodeHifiGanSettings,
    EncoderSettings,
    PretrainedSpeech,
    SpeechT5Settings,
    WhisperSettings,
)

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Pretrained(Step):
    """Copy a component. Its name is a field, so that equal settings of two components are two steps."""

    needs = ("torch", "transformers")

    component: str
    config: Any

    @property
    def label(self) -> str:
        return self.component

    @property
    def further(self) -> dict[str, Any]:
        """What the component's function in src/speech/fetch.py takes beside its settings."""
        return {}

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.speech import fetch

        return fetch.fetch(self.component, self.config, out, context, **self.further)


@dataclass(frozen=True, kw_only=True, eq=False)
class PretrainedEncoder(Pretrained):
    """Copy a speech encoder up to its layer, and its centroids where they are published."""

    component: Literal["encoder"]
    config: EncoderSettings
    centroids: str | None = None
    clusters: int | None = None
    """How many centroids there must be; null where none are published."""

    @property
    def further(self) -> dict[str, Any]:
        return {"centroids": self.centroids, "clusters": self.clusters} if self.centroids is not None else {}


@dataclass(frozen=True, kw_only=True, eq=False)
class PretrainedWhisper(Pretrained):
    """Copy a Whisper, which says what is spoken, and when each word is."""

    component: Literal["whisper"]
    config: WhisperSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class PretrainedSpeechT5(Pretrained):
    """Copy a SpeechT5 with its HiFi-GAN, and the x-vector of one voice."""

    component: Literal["speecht5"]
    config: SpeechT5Settings


@dataclass(frozen=True, kw_only=True, eq=False)
class PretrainedCodeHifiGan(Pretrained):
    """Copy the unit vocoder out of a SeamlessM4T v2."""

    component: Literal["code_hifigan"]
    config: CodeHifiGanSettings
    clusters: int
    """Units that it must be able to speak."""

    @property
    def further(self) -> dict[str, Any]:
        return {"clusters": self.clusters}


def components(speech: PretrainedSpeech) -> dict[str, Pretrained]:
    """The published components by role: encoder, aligner, synthesizer, vocoder, recognizer. Roles of equal settings are
    one step."""
    quantizer = speech.quantizer
    return {
        "encoder": PretrainedEncoder(
            component="encoder",
            config=speech.encoder,
            centroids=quantizer.centroids,
            clusters=quantizer.clusters if quantizer.centroids is not None else None,
        ),
        "aligner": PretrainedWhisper(component="whisper", config=speech.aligner.whisper),
        "synthesizer": PretrainedSpeechT5(component="speecht5", config=speech.synthesizer),
        "vocoder": PretrainedCodeHifiGan(
            component="code_hifigan", config=speech.vocoder, clusters=quantizer.clusters
        ),
        "recognizer": PretrainedWhisper(component="whisper", config=speech.recognizer),
    }
