"""The diagonal Fisher information of the base model on its own text, which EWC weighs weights by."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.grid.step import Inputs, Step
from src.model.settings import Adapter
from src.steps import MODEL

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Fisher(Step):
    """Estimate how much each weight that a chain trains matters to the base's answers."""

    needs = (*MODEL, "peft", "deepspeed")
    gpu = True

    adapter: Adapter
    most: int
    """Texts to estimate it on, the first of the pool."""
    seed: int
    """That of the stages, by which LoRA's A is drawn."""
    base: Step
    text: Step
    """Examples of the base's text."""

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.train import fisher
        from src.train.examples import Stored

        examples = Stored(inputs[self.text])[: self.most]

        def progress(done: int) -> None:
            context.report(done=done, total=len(examples))

        fisher.write(inputs[self.base], self.adapter, examples, self.seed, out, progress)
        return {"examples": len(examples)}
