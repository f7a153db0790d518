"""Elastic weight consolidation (Kirkpatrick et al. 2017, arXiv 1612.00796, equation 3).

    lambda / 2 * sum F (theta - theta_base)^2

F is the diagonal of the base's Fisher information on its text (src/train/fisher.py). theta_base are the base's weights.
For LoRA, B is 0 in the base. There A has no effect: its F is 0, and so its value does not matter.

F is of the log-likelihood of a whole response, while the loss is a mean over tokens. At strength 1 one response of text
weighs as much as one token that is learned.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from src.checks import require
from src.train.methods import Method

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EWC(Method):
    anchor: ClassVar[Literal["start", "base"] | None] = "base"
    fisher: ClassVar[bool] = True

    strength: float
    """The paper's lambda."""
    texts: int = 512
    """How many texts of the pool the Fisher information is estimated on."""

    def __post_init__(self) -> None:
        require(self.strength >= 0, "strength", self.strength, "at least 0")
        require(self.texts > 0, "texts", self.texts, "greater than 0")

    @property
    def fisher_texts(self) -> int:
        return self.texts

    def penalty(self, weights: "Tensor", anchor: "Tensor", fisher: "Tensor | None") -> "Tensor":
        assert fisher is not None
        return self.strength / 2 * (fisher * (weights - anchor).square()).sum()
