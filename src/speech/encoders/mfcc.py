"""`speech.quantizer.encoder=mfcc`"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from src.speech.settings import QuantizerConfig

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from src.speech.audio import Utterance
    from src.speech.features import LinearEncoder
    from src.speech.protocols import Features


@dataclass(frozen=True)
class Mfcc(QuantizerConfig):
    """13 cepstra with their slopes and curvatures, each scaled to variance 1. It learns nothing of phones."""

    def fit(self, utterances: "Sequence[Utterance]") -> "tuple[LinearEncoder, list[Features]]":
        from src.speech import features

        return features.fit_mfcc(self.frame_ms, utterances)

    @staticmethod
    def load(described: Mapping[str, Any], tensors: "Mapping[str, npt.NDArray[np.float32]]") -> "LinearEncoder":
        from src.speech.features import LinearEncoder

        return LinearEncoder("mfcc", described["frame_ms"], 0, tensors["offset"], tensors["matrix"])
