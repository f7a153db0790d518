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
    method: Mapping[str, Any] | None = None
    """The training method: its name (src/train/methods), and its settings that are not at their default."""
    text: Step | None = None
    """Examples of the base's text, where the method draws its own."""
    fisher: Step | None = None
    """The base's Fisher information, where the method weighs weights by it."""

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
        method = f"-{self.method['name']}" if self.method else ""
        return f"train-{self.stage}{method}" + ("-replay" if self.replay else "")

    @property
    def plugins(self) -> tuple[str, ...]:
        return (f"src.train.methods.{self.method['name']}",) if self.method else ()

    @property
    def ranks(self) -> int:
        return self.optimization.ranks

    def run(self, inputs: Inputs, out: Path, context: "Context") -> dict[str, Any]:
        from src.train.methods import made_of
        from src.train.stage import choose, train_stage

        method = made_of(self.method) if self.method else None
        text, fisher = (inputs[step] if step else None for step in (self.text, self.fisher))
        own = {name: inputs[step] for name, step in self.examples.items()}
        earlier = {name: inputs[step] for name, step in self.replayed.items()}
        chosen = choose(self.stage, own, earlier, self.replay, self.optimization, method, text)
        previous, base = inputs[self.previous] if self.previous else None, inputs[self.base]
        settings = self.adapter, self.optimization
        return train_stage(self.stage, chosen, base, previous, *settings, out, context, method, fisher)
