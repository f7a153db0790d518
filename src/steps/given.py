"""A model that somebody has trained already, as a row of the table."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.grid.step import Inputs, Step
from src.model.settings import GivenModel
from src.steps import MODEL

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Given(Step):
    """Copy a published spoken language model, and check that it goes with the units of the grid."""

    needs = (*MODEL, "peft")

    config: GivenModel
    units: int
    """Unit tokens that its vocabulary must have."""
    base: Step | None = None
    """What an adapter stands on; a whole model needs none."""

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.model import given

        return given.write(self.config, self.units, inputs[self.base] if self.base else None, out, context)
