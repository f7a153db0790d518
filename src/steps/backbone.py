"""The base model: a published text model with the units in its vocabulary."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.grid.step import Inputs, Step
from src.model.settings import PublishedModel

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Backbone(Step):
    """Fetch a published model, take its text part, and extend its vocabulary."""

    version = 2
    needs = ("torch", "transformers", "transformers.models.llama.modeling_llama")

    config: PublishedModel
    units: int
    """Unit tokens to add."""

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.model import theta_zero

        return theta_zero.write(self.config, self.units, out, context)
