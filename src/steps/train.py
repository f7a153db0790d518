"""One stage of a chain: the base model trained on, after the stages before it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from src.data.replay import Replay
from src.grid.step import Inputs, Step
from src.model.settings import Adapter
from src.steps import MODEL
from src.train.settings import Optimization

if TYPE_CHECKING:
    from src.grid.context import Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Train(Step):
    """Train a LoRA adapter, and some modules in full, on the examples of one stage."""

    version = 3
    needs = (*MODEL, "peft", "deepspeed")
    gpu = True

    stage: str
    adapter: Adapter
    optimization: Optimization
    replay: Replay | None = None
    base: Step
    examples: Mapping[str, Step]
    """Set -> its examples, all of which are trained on."""
    replayed: Mapping[str, Step] = field(default_factory=dict)
    """Set -> examples, of which some are trained on again."""
    previous: Optional["Train"] = None
    """The stage before."""

    @property
    def replays(self) -> bool:
        """Whether this stage or one before it replays anything."""
        return self.replay is not None or (self.previous is not None and self.previous.replays)

    @property
    def depth(self) -> int:
        """Stages before this one."""
        return 0 if self.previous is None else self.previous.depth + 1

    @property
    def label(self) -> str:
        return f"train-{self.stage}" + ("-replay" if self.replay else "")

    @property
    def ranks(self) -> int:
        return self.optimization.ranks

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.train.stage import choose, train_stage

        own = {name: inputs[step] for name, step in self.examples.items()}
        earlier = {name: inputs[step] for name, step in self.replayed.items()}
        chosen = choose(self.stage, own, earlier, self.replay, self.optimization.seed)
        previous = inputs[self.previous] if self.previous else None
        base = inputs[self.base]
        return train_stage(self.stage, chosen, base, previous, self.adapter, self.optimization, out, context)
