"""Trained stages merged with each other and the base by mergekit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.grid.step import Inputs, Step
from src.steps import MODEL
from src.steps.discount import Discount
from src.steps.train import Train

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Merge(Step):
    """Merge models by mergekit, with roles in place of paths: `base`, and the names of stages."""

    version = 3
    needs = (*MODEL, "mergekit.merge")

    method: str
    base_model: str | None = None
    models: Mapping[str, Mapping[str, Any]]
    """Role -> mergekit's parameters of that model."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """mergekit's parameters of the merge."""
    seed: int = 0
    """For the masks of random methods."""
    dtype: str = "float32"
    """Type of the arithmetic and of the result."""
    base: Step
    stages: Mapping[str, Train | Discount]

    @property
    def label(self) -> str:
        replays = any(stage.replays for stage in self.stages.values())
        return f"merge-{self.method}" + ("-replay" if replays else "")

    @property
    def alone(self) -> bool:
        """A published model takes tens of gigabytes to merge."""
        return self.base.kind == "backbone"

    def recipe(self) -> dict[str, Any]:
        """The merge as src/merge/merge.py has it, its models in the order of training."""
        order = sorted(self.models, key=lambda role: self.stages[role].depth if role in self.stages else -1)
        return {
            "method": self.method,
            "base_model": self.base_model,
            "models": {role: dict(self.models[role]) for role in order},
            "parameters": dict(self.parameters),
            "dtype": self.dtype,
        }

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.merge.merge import merge

        stages = {role: inputs[step] for role, step in self.stages.items()}
        return merge(self.recipe(), self.seed, inputs[self.base], stages, out, context)
