"""`speech.vocoder.name=mel_griffin_lim`"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.checks import positive, require, seed
from src.speech.settings import HOP_MS, VocoderConfig

if TYPE_CHECKING:
    from src.grid.context import Context
    from src.speech.mel_griffin_lim import GriffinLimVocoder


@dataclass(frozen=True)
class MelGriffinLim(VocoderConfig):
    """A small network from units to durations and log-mel frames, then Griffin-Lim."""

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
        super().__post_init__()
        positive(self, "width", "steps", "batch_size", "iterations", "learning_rate")
        require(self.duration_weight >= 0, "duration_weight", self.duration_weight, "0 or more")
        seed(self)

    def fit(self, fitted: Path, out: Path, context: "Context") -> dict[str, Any]:
        import numpy as np
        import torch
        from safetensors.torch import save

        from src.data import jsonl
        from src.speech.audio import slices
        from src.speech.mel_griffin_lim import MelNetwork, loss_of, make_example, train
        from src.speech.quantizer import load_quantizer

        encoder, quantizer = load_quantizer(fitted)
        hops = encoder.frame_ms // HOP_MS
        audio = np.load(fitted / "audio.npy", mmap_mode="r")
        utterances = slices(audio, jsonl.read(fitted / "utterances.jsonl"))
        examples = [make_example(quantizer(encoder(samples)), samples, hops) for samples in utterances]
        torch.manual_seed(self.seed)
        network = MelNetwork(quantizer.clusters, self.width, hops)
        train(examples, network, self.duration_weight, self.seed, self, context)
        with torch.inference_mode():
            errors = [loss_of(network.eval(), [example], 0.0).item() for example in examples[:100]]
        (out / "vocoder.safetensors").write_bytes(save(network.state_dict()))
        described = {"clusters": quantizer.clusters, "hops": hops, "config": asdict(self)}
        (out / "vocoder.json").write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")
        context.report(done=self.steps, total=self.steps)
        return {"utterances": len(examples), "log_mel_error": round(float(np.mean(errors)), 4)}

    @staticmethod
    def load(folder: Path) -> "GriffinLimVocoder":
        from safetensors.torch import load_file

        from src.speech.mel_griffin_lim import GriffinLimVocoder, MelNetwork

        settings = json.loads((folder / "vocoder.json").read_text(encoding="utf-8"))
        network = MelNetwork(settings["clusters"], settings["config"]["width"], settings["hops"])
        network.load_state_dict(load_file(folder / "vocoder.safetensors"))
        return GriffinLimVocoder(network, settings["clusters"], settings["config"]["iterations"])
