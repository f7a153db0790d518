"""`speech.quantizer.encoder=lda`"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from src.checks import require
from src.speech.settings import QuantizerConfig

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from src.speech.audio import Utterance
    from src.speech.features import LinearEncoder
    from src.speech.protocols import Features

PHONES = 100
"""More classes than any of espeak-ng's voices tells apart: LDA has fewer directions than classes."""


@dataclass(frozen=True)
class Lda(QuantizerConfig):
    """Log-mel frames with their neighbours, projected to the directions that best tell phones apart (linear
    discriminant analysis, Haeb-Umbach and Ney 1992), fitted to the phone times that the synthesizer knows."""

    context: int = 3
    """Neighbouring frames on either side."""
    dimensions: int = 40
    """Directions that are kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.context <= 10, "context", self.context, "from 0 to 10")
        require(1 <= self.dimensions <= PHONES, "dimensions", self.dimensions, f"from 1 to {PHONES}")

    def fit(self, utterances: "Sequence[Utterance]") -> "tuple[LinearEncoder, list[Features]]":
        from src.speech import features

        return features.fit_lda(self.frame_ms, self.context, self.dimensions, utterances)

    @staticmethod
    def load(described: Mapping[str, Any], tensors: "Mapping[str, npt.NDArray[np.float32]]") -> "LinearEncoder":
        from src.speech.features import LinearEncoder

        return LinearEncoder("lda", described["frame_ms"], described["context"], tensors["offset"], tensors["matrix"])
