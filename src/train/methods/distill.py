"""Distillation from the base (learning without forgetting: Li & Hoiem 2016, arXiv 1606.09282).

    weight * temperature^2 * KL(base || model)

on the answer tokens of text, both distributions softened by the temperature (Hinton et al. 2015, arXiv 1503.02531,
section 2, whose factor temperature^2 keeps the gradients' size). Replayed text has it beside its cross-entropy. A stage
without text draws its own share of the pool, which has the KL alone.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from src.checks import require
from src.train.methods import Method, Role

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Distill(Method):
    teacher: ClassVar[bool] = True
    text: ClassVar[Role] = Role.BOTH

    weight: float
    """How much a token of the base's answers weighs, beside one that is learned."""
    temperature: float
    ratio: float
    """Texts drawn where none is replayed, as a share of the stage's own examples."""

    def __post_init__(self) -> None:
        require(self.weight >= 0, "weight", self.weight, "at least 0")
        require(self.temperature > 0, "temperature", self.temperature, "greater than 0")
        require(self.ratio >= 0, "ratio", self.ratio, "at least 0")

    @property
    def text_ratio(self) -> float:
        return self.ratio

    def loss(self, logits: "Tensor", targets: "Tensor", teacher: "Tensor | None") -> "Tensor":
        from torch.nn import functional

        assert teacher is not None
        ours, theirs = (functional.log_softmax(x / self.temperature, dim=-1) for x in (logits, teacher))
        kl = functional.kl_div(ours, theirs, reduction="sum", log_target=True)
        return self.weight * self.temperature**2 * kl
