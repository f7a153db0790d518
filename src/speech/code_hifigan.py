"""The unit vocoder of SeamlessM4T v2, a HiFi-GAN on unit, language and speaker embeddings.

    vocoder = load_vocoder(CodeHifiGanSettings())
    audio = vocoder(units)

It is a part of the whole translation model; only the files that hold it are read (or downloaded), and of these only its
weights. The weights are for non-commercial use: CC-BY-NC 4.0.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import SeamlessM4Tv2Config
from transformers.models.seamless_m4t_v2.modeling_seamless_m4t_v2 import SeamlessM4Tv2CodeHifiGan

from src.checks import require
from src.model.hub_files import snapshot
from src.speech.batches import default_device
from src.speech.published_settings import CodeHifiGanSettings
from src.speech.units_of_words import without_repeats

INDEX = "model.safetensors.index.json"
PREFIX = "vocoder."
"""Prefix of the vocoder's weights within the whole model."""


class CodeHifiGanVocoder:
    """A Vocoder in one language and voice."""

    def __init__(
        self, model: SeamlessM4Tv2CodeHifiGan, language: int, speaker: int, predict_durations: bool = False
    ) -> None:
        """Raises ValueError for a language or a speaker that the model lacks."""
        config = model.config
        for name, value, count in (
            ("language", language, config.vocoder_num_langs),
            ("speaker", speaker, config.vocoder_num_spkrs),
        ):
            require(value < count, f"vocoder.{name}", value, f"from 0 to {count - 1}, as the model has them")
        self.model = model.eval()
        self.clusters = int(config.unit_hifi_gan_vocab_size)
        self.language = torch.tensor([[language]], device=model.device)
        self.speaker = torch.tensor([[speaker]], device=model.device)
        self.predict_durations = predict_durations

    @torch.inference_mode()
    def __call__(self, units: Sequence[int]) -> npt.NDArray[np.float32]:
        """Audio [samples] of the units of an utterance; no samples for no units.

        320 samples a unit, or as many times 320 as the model predicts for each run of a unit. Raises ValueError for a
        unit that does not exist.
        """
        spoken = without_repeats(units) if self.predict_durations else [int(unit) for unit in units]
        if not spoken:
            return np.zeros(0, np.float32)
        if min(spoken) < 0 or max(spoken) >= self.clusters:
            raise ValueError(f"units must be from 0 to {self.clusters - 1}, not {min(spoken)} to {max(spoken)}")
        ids = torch.tensor([spoken], device=self.model.device)
        if self.predict_durations:
            waveform, _ = self.model(ids, speaker_id=self.speaker, lang_id=self.language)
        else:
            parts = (
                self.model.language_embedding(self.language).expand(-1, len(spoken), -1),
                self.model.unit_embedding(ids),
                self.model.speaker_embedding(self.speaker).expand(-1, len(spoken), -1),
            )
            waveform = self.model.hifi_gan(torch.cat(parts, dim=2).transpose(1, 2))
        return waveform[0].float().cpu().numpy()


def load_vocoder(settings: CodeHifiGanSettings, device: torch.device | None = None) -> CodeHifiGanVocoder:
    """The vocoder of `settings`, on `device` (by default the GPU where there is one).

    Raises ValueError for a model without a vocoder's weights, or with others than its configuration says.
    """
    folder = fetch(settings.model, settings.revision)
    config = SeamlessM4Tv2Config.from_pretrained(folder)
    model: Any
    with torch.device("meta"):
        model = SeamlessM4Tv2CodeHifiGan(config)
    weights = read_weights(folder)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if strange := sorted(name for name in {*expected, *weights} if name not in weights or name not in expected):
        raise ValueError(
            f"vocoder.model = {settings.model}: its weights are not those of a SeamlessM4Tv2CodeHifiGan: "
            f"{strange[0]} is {'unknown' if strange[0] in weights else 'missing'}"
        )
    for name, shape in expected.items():
        if weights[name].shape != shape:
            found = f"{tuple(weights[name].shape)}, and its configuration needs {tuple(shape)}"
            raise ValueError(f"vocoder.model = {settings.model}: {name} is of shape {found}")
    model.load_state_dict(weights, assign=True)
    model.to(device or default_device(), getattr(torch, settings.dtype))
    return CodeHifiGanVocoder(model, settings.language, settings.speaker, settings.predict_durations)


def fetch(model: str, revision: str | None = None) -> Path:
    """The folder of a model with its configuration and the files that hold the vocoder, downloaded where it is no
    folder. Raises ValueError as `hub_files.snapshot` does."""
    described = ["config.json", INDEX, "README.md"]
    files = weight_files(snapshot(model, described, revision))
    return snapshot(model, [*described, *files], revision)


def weight_files(folder: Path) -> list[str]:
    """The names of the files of a whole SeamlessM4T v2 (or of a vocoder by itself) that hold the vocoder."""
    if not (folder / INDEX).is_file():
        return ["model.safetensors"]
    files = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
    return sorted({file for name, file in files.items() if name.startswith(PREFIX)})


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The vocoder's weights in the files of a whole SeamlessM4T v2, or of a vocoder saved by itself."""
    weights: dict[str, Tensor] = {}
    for name in weight_files(folder):
        if not (folder / name).is_file():
            raise ValueError(f"vocoder.model = {folder}: lacks {name}")
        with safe_open(folder / name, framework="pt") as file:
            keys = list(file.keys())
            prefix = PREFIX if any(key.startswith(PREFIX) for key in keys) else ""
            weights |= {key.removeprefix(prefix): file.get_tensor(key) for key in keys if key.startswith(prefix)}
    return weights
