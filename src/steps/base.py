"""The laptop's base model, trained from scratch, with the units in its vocabulary."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.grid.step import Inputs, Step
from src.model.settings import Architecture
from src.steps import MODEL
from src.train.settings import Pretraining

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Base(Step):
    """Train theta_0 on the corpus's own text."""

    version = 2
    needs = (*MODEL, "deepspeed")
    gpu = True

    units: int
    """Unit tokens in the vocabulary."""
    architecture: Architecture
    optimization: Pretraining
    corpus: Step

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.train.pretrain import pretrain

        return pretrain(self.units, self.architecture, self.optimization, inputs[self.corpus], out, context)
