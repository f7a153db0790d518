"""`speech.vocoder.name=mel_griffin_lim`"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.checks import positive, require
from src.speech.settings import VocoderConfig

if TYPE_CHECKING:
    from src.grid.context import Context
    from src.speech.protocols import Vocoder


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
        require(self.seed >= 0, "seed", self.seed, "0 or more")

    def fit(self, fitted: Path, out: Path, context: "Context") -> dict[str, Any]:
        from src.speech import mel_griffin_lim

        return mel_griffin_lim.fit_to(self, fitted, out, context)

    @staticmethod
    def load(folder: Path) -> "Vocoder":
        from src.speech import mel_griffin_lim

        return mel_griffin_lim.load_vocoder(folder)
