"""Question sets of a user's own, beside those of the closed domain."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data.settings import QuestionSet
from src.grid.step import Inputs, Step

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Questions(Step):
    """Add question sets to what a model is asked. Nothing is trained on them, so that no training depends on it."""

    version = 2

    sets: Mapping[str, QuestionSet]
    corpus: Step

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.data import own_questions

        return own_questions.write(self.sets, inputs[self.corpus], out)
