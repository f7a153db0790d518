"""Training examples whose units are done: those that the paper's authors have published."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data.settings import ReadyUnits
from src.grid.step import Inputs, Step

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Ready(Step):
    """Write the lists of the stages in the form of a step `units`."""

    config: ReadyUnits
    excluded_categories: tuple[str, ...]
    """Values of task_category that are left out."""
    clusters: int
    """How many units there are."""

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.data import authors

        return authors.write(self.config, self.excluded_categories, self.clusters, out, context)
