"""The closed domain's text: lists for the base model, for speech, for replay and for evaluation."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data.settings import ClosedDomain
from src.grid.step import Inputs, Step

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus(Step):
    """Write every list of the corpus (docs/artifacts.md describes the files)."""

    version = 2

    config: ClosedDomain

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.data import corpus

        return corpus.write(self.config, out)
