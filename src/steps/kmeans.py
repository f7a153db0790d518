"""Units of a published encoder that has no published centroids: clusters of its features."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.grid.step import Inputs, Step
from src.speech.published_settings import QuantizerSettings

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Kmeans(Step):
    """Fit centroids to the encoder's features of utterances of the ASR list."""

    version = 2
    needs = ("torch", "transformers")
    gpu = True

    config: QuantizerSettings
    corpus: Step
    encoder: Step

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.speech import kmeans

        return kmeans.fit_to_corpus(self.config, inputs[self.corpus], inputs[self.encoder], out, context)
