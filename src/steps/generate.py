"""What a model answers. Nothing is scored here, so that responses are scored again by other rules without the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.evaluate.asking import Asking
from src.evaluate.tasks import require_known
from src.grid.step import Inputs, Step

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Generate(Step):
    """Ask a model the tasks, and keep its responses (docs/artifacts.md describes the files)."""

    version = 4
    needs = ("torch", "transformers", "transformers.models.llama.modeling_llama", "peft", "jiwer")
    gpu = True

    tasks: tuple[str, ...]
    config: Asking
    model: Step
    base: Step
    corpus: Step
    units: Step | None = None
    """Spoken tasks need it, as well as a vocoder and a recognizer."""
    vocoder: Step | None = None
    recognizer: Step | None = None

    def __post_init__(self) -> None:
        require_known(self.tasks)
        for task in self.tasks:
            if task not in self.config.max_new_tokens:
                raise ValueError(f"max_new_tokens.{task} is not set")

    @property
    def label(self) -> str:
        return f"generate-{self.model.label.removeprefix('train-')}"

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.evaluate import responses

        folders = {role: inputs[step] for role, step in self.inputs.items()}
        return responses.collect(self.tasks, self.config, responses.Sources(**folders), out, context)
