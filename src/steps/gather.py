"""The units of all lists in one artifact, joined from their shards."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.grid.step import Inputs, Step

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Gather(Step):
    """Join the shards of every list."""

    shards: Mapping[str, Step]
    """asr-000, asr-001 ..: the steps `utterances` of every list."""

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.speech import gather

        return gather.join_lists({name: inputs[step] for name, step in self.shards.items()}, out, context)
