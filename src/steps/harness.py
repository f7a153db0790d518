"""Scores of a model by lm-evaluation-harness, one step for each of its tasks."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.evaluate.asking import Dtype
from src.evaluate.settings import HarnessOptions
from src.evaluate.task_files import TaskFiles
from src.grid.step import Inputs, Step

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Harness(Step):
    """Score a model on a task, a group or a tag (docs/artifacts.md describes the files)."""

    version = 3
    needs = ("torch", "transformers", "transformers.models.llama.modeling_llama")  # lm_eval would start threads
    gpu = True

    task: str
    found: TaskFiles
    """The task itself, as it was when the grid was planned."""
    options: HarnessOptions
    dtype: Dtype = "float32"
    """Of the model's weights and arithmetic."""
    model: Step
    base: Step

    @property
    def label(self) -> str:
        return re.sub(r"[^\w.-]", "_", f"harness-{self.task}-{self.model.label.removeprefix('train-')}")

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.evaluate import harness

        model, base = inputs[self.model], inputs[self.base]
        return harness.score(self.task, self.found, self.options, self.dtype, model, base, out, context)
