"""The laptop's units: an encoder and clusters of its features, fitted to one voice."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.grid.step import Inputs, Step
from src.speech.settings import QuantizerConfig

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantizer(Step):
    """Fit the encoder and the clusters to the corpus' fit.jsonl, spoken."""

    needs = ("scipy.fft", "soundfile", "librosa.filters", "sklearn.cluster", "sklearn.discriminant_analysis")

    config: QuantizerConfig
    corpus: Step

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.speech import quantizer

        return quantizer.fit_to_voice(self.config, inputs[self.corpus], out, context)
