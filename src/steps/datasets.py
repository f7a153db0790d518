"""Published data as the lists that every other step reads: speech, texts, questions and instructions."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data.settings import PublishedData
from src.grid.step import Inputs, Step

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Datasets(Step):
    """Draw the lists from the sources, and write them."""

    version = 2

    config: PublishedData

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.data import published

        return published.write(self.config, out, context)
