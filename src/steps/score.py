"""The scores of what a model answered."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.evaluate.scoring import Scoring
from src.evaluate.tasks import any_spoken, require_known
from src.grid.step import Inputs, Step

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Score(Step):
    """Score the responses to the tasks (docs/artifacts.md describes the files)."""

    version = 2
    needs = ("numpy", "jiwer", "src.evaluate.score", "src.evaluate.preload")

    tasks: tuple[str, ...]
    config: Scoring
    responses: Step
    corpus: Step

    def __post_init__(self) -> None:
        require_known(self.tasks)

    @property
    def reads(self) -> tuple[str, ...]:
        """The rules that decide one of the scores: word errors are counted of spoken tasks alone."""
        return ("matching", "wer_normalization") if any_spoken(self.tasks) else ("matching",)

    @property
    def label(self) -> str:
        return f"score-{self.responses.label.removeprefix('generate-')}"

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.evaluate.score import score

        return score(self.tasks, self.config, inputs[self.responses], inputs[self.corpus], out, context)
