"""The laptop's vocoder: from units to audio, fitted to the quantizer's utterances."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.grid.step import Inputs, Step
from src.speech.settings import VocoderConfig

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Vocoder(Step):
    """Fit a small unit vocoder."""

    needs = ("torch", "scipy.fft", "soundfile", "librosa.filters")

    config: VocoderConfig
    quantizer: Step

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.speech.threads import one_thread

        return one_thread(self.config.fit)(inputs[self.quantizer], out, context)
