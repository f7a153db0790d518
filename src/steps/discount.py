"""A trained stage whose LoRA scaling is lowered."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.grid.step import Inputs, Step
from src.steps import MODEL
from src.steps.train import Train

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Discount(Step):
    """Apply a stage's adapter with a smaller alpha than it was trained with."""

    version = 2
    needs = MODEL

    alpha: float
    trained_alpha: float
    stage: Train

    @property
    def replays(self) -> bool:
        return self.stage.replays

    @property
    def depth(self) -> int:
        return self.stage.depth

    @property
    def label(self) -> str:
        return f"discount-{self.alpha:g}-{self.stage.stage}" + ("-replay" if self.replays else "")

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.merge.discount import discount

        return discount(self.alpha, self.trained_alpha, inputs[self.stage], out)
