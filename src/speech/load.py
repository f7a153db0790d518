"""Speech components by the artifact that holds them: one of the step `pretrained`, or one that was fitted."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.speech.protocols import Recognizer, Vocoder
from src.speech.published_settings import CodeHifiGanSettings, EncoderSettings, SpeechT5Settings, WhisperSettings
from src.speech.settings import RecognizerConfig, VocoderConfig

if TYPE_CHECKING:
    import torch

    from src.speech.encoder import SpeechEncoder
    from src.speech.nearest import NearestCentroid
    from src.speech.speecht5 import SpeechT5Synthesizer
    from src.speech.whisper import WhisperRecognizer

SETTINGS = "settings.json"
"""What a step `pretrained` was asked for."""
MODEL, HIFIGAN = "model", "vocoder"
"""Folders of transformers: the model of a component, and the HiFi-GAN beside SpeechT5."""
CENTROIDS, XVECTOR = "centroids.safetensors", "xvector.safetensors"
"""Files with one tensor, of the name of the file."""


def settings_of(folder: Path, component: str) -> dict[str, Any] | None:
    """The settings with which `component` was fetched into an artifact; None if the artifact has none of this kind."""
    file = folder / SETTINGS
    settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if settings.pop("component", None) != component:
        return None
    return {**settings, "model": str(folder / MODEL)}


def vocoder(folder: Path) -> Vocoder:
    """The vocoder of an artifact `vocoder`, or of a published one."""
    if settings := settings_of(folder, "code_hifigan"):
        from src.speech import code_hifigan

        settings.pop("clusters")
        return code_hifigan.load_vocoder(CodeHifiGanSettings(**settings))
    config = json.loads((folder / "vocoder.json").read_text(encoding="utf-8"))["config"]
    return VocoderConfig.chosen(config, str(folder)).load(folder)


def recognizer(folder: Path) -> Recognizer:
    """The recognizer of an artifact `recognizer`, or Whisper."""
    if settings_of(folder, "whisper"):
        return whisper(folder)
    settings = json.loads((folder / "recognizer.json").read_text(encoding="utf-8"))
    return RecognizerConfig.chosen(settings, str(folder)).load(folder)


def whisper(folder: Path, device: "torch.device | None" = None) -> "WhisperRecognizer":
    """Whisper, which also tells when words are spoken, on `device` (by default the GPU where there is one)."""
    from src.speech.whisper import load_whisper

    return load_whisper(WhisperSettings(**_required(folder, "whisper")), device)


def encoder(folder: Path) -> "SpeechEncoder":
    """The encoder up to its layer."""
    from src.speech.encoder import load_encoder

    settings = _required(folder, "encoder")
    return load_encoder(EncoderSettings(**{k: v for k, v in settings.items() if k not in ("centroids", "clusters")}))


def quantizer(folder: Path) -> "NearestCentroid":
    """The centroids beside an encoder, or of a step `kmeans`."""
    from safetensors.numpy import load_file

    from src.speech.nearest import NearestCentroid

    return NearestCentroid(load_file(folder / CENTROIDS)["centroids"])


def synthesizer(folder: Path) -> "SpeechT5Synthesizer":
    """SpeechT5 in its one voice."""
    from safetensors.numpy import load_file

    from src.speech.speecht5 import load_synthesizer

    settings = SpeechT5Settings(**{**_required(folder, "speecht5"), "vocoder": str(folder / HIFIGAN)})
    return load_synthesizer(settings, speaker=load_file(folder / XVECTOR)["xvector"])


def _required(folder: Path, component: str) -> dict[str, Any]:
    settings = settings_of(folder, component)
    if settings is None:
        raise ValueError(f"{folder} holds no component {component}")
    return settings
