"""The examples of a set, tokenized once for all the stages that train on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.grid.step import Inputs, Step
from src.stages import SETS
from src.steps import MODEL

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples(Step):
    """Make the conversations of a set and tokenize them."""

    needs = MODEL

    set: str
    """A key of SETS (src/stages.py)."""
    file: str
    """The list that the conversations are made of, in `source`: FILE.jsonl."""
    seed: int | None = None
    """For what is drawn; null where nothing is."""
    base: Step
    """The model whose tokenizer is used."""
    source: Step
    """Units or a corpus."""

    @property
    def label(self) -> str:
        return f"examples-{self.set}"

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.train.examples import tokenize

        file = inputs[self.source] / f"{self.file}.jsonl"
        conversations = SETS[self.set].conversations(file, self.seed or 0)
        return tokenize(conversations, file, inputs[self.base], out, context)
