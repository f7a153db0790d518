"""Checkpoints of a training: when they are saved, and how a training goes on from one to the bit."""

import json
import time
from pathlib import Path
from typing import Any

import torch

from src.grid.context import Context, latest_checkpoint

SAVING = 20
"""Times as long as a checkpoint took passes before the next: those of a large model are many gigabytes."""
GO_ON, SAVE, STOP = range(3)


class Checkpoints:
    """Saves every `context.checkpoint_seconds`, or less often where that would take more than a twentieth of the time,
    and when the process is asked to stop."""

    def __init__(self, engine: Any, context: Context, rank: int, world: int):
        self.engine, self.context, self.rank, self.world = engine, context, rank, world
        self._saved = time.monotonic()
        self._pause = context.checkpoint_seconds

    def resume(self) -> dict[str, Any] | None:
        """Load the latest checkpoint, if there is one, and return the state that was saved with it."""
        found = [latest_checkpoint(self.context.work)]
        if self.world > 1:
            torch.distributed.broadcast_object_list(found, 0)  # a shared file system may differ between ranks
        state = _load(self.engine, found[0]) if found[0] else None
        self._saved = time.monotonic()
        return state

    def after_step(self, state: dict[str, Any], last: bool) -> bool:
        """Save if it is time. Returns whether the process was asked to stop: then it has saved too."""
        due = not last and time.monotonic() - self._saved > self._pause
        wish = self._agree(STOP if self.context.stop_requested else SAVE if due else GO_ON)
        if wish != GO_ON:
            began = time.monotonic()
            self._save(state)
            self._saved = time.monotonic()
            self._pause = max(self.context.checkpoint_seconds, SAVING * (self._saved - began))
        return wish == STOP

    def _agree(self, wish: int) -> int:
        """What rank 0 wishes: clocks and signals differ between ranks, and all must save together."""
        if self.world == 1:
            return wish
        flag = torch.tensor([wish], device=self.engine.device)
        torch.distributed.broadcast(flag, 0)
        return int(flag.item())

    def _save(self, state: dict[str, Any]) -> None:
        """Save everything that the next step depends on; the checkpoint before is removed only then."""
        tag, folder = f"step-{state['step']}", self.context.checkpoints
        client = {"state": json.dumps(state)}
        # what is frozen is in the base model
        self.engine.save_checkpoint(str(folder), tag=tag, client_state=client, exclude_frozen_parameters=True)
        if self.world > 1:
            torch.distributed.barrier()  # no rank leaves before all have written
        if self.rank == 0:
            self.context.keep_only(folder / tag)


def _load(engine: Any, checkpoint: Path) -> dict[str, Any]:
    path, client = engine.load_checkpoint(str(checkpoint.parent), tag=checkpoint.name, load_module_strict=False)
    if path is None:
        raise RuntimeError(f"{checkpoint} cannot be loaded; remove that folder to start the stage again")
    state: dict[str, Any] = json.loads(client["state"])
    return state
