"""L2: the weights are pulled to what they were at the start of the stage.

    strength * sum (theta - theta_start)^2

over all trained weights, as in the code of the paper that this project follows, where strength is 1e-3. Its gradient is
2 * strength * (theta - theta_start).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from src.checks import require
from src.train.methods import Method

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class L2(Method):
    anchor: ClassVar[Literal["start", "base"] | None] = "start"

    strength: float

    def __post_init__(self) -> None:
        require(self.strength >= 0, "strength", self.strength, "at least 0")

    def penalty(self, weights: "Tensor", anchor: "Tensor", fisher: "Tensor | None") -> "Tensor":
        return self.strength * (weights - anchor).square().sum()
