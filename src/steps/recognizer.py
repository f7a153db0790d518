"""The laptop's recognizer, which hears what a spoken answer says."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.grid.step import Inputs, Step
from src.speech.settings import RecognizerConfig

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Recognizer(Step):
    """Train a small phoneme recognizer, and measure its word error rate."""

    needs = ("torch", "scipy.fft", "soundfile", "librosa.filters", "jiwer")

    config: RecognizerConfig
    corpus: Step
    quantizer: Step
    vocoder: Step

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.speech import recognizer

        corpus, fitted, vocoder = (inputs[step] for step in (self.corpus, self.quantizer, self.vocoder))
        return recognizer.fit_to(self.config, corpus, fitted, vocoder, out, context)
