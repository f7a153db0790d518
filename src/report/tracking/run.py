"""A run of wandb as data: who it is, what it says, and how its history is filled."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import wandb

ID_LENGTH = 16
"""Hexadecimal digits of a run's id."""

Content = Mapping[str, Any]
"""What a run shows, of JSON types: it decides whether the run is written again."""


@dataclass(frozen=True)
class Run:
    """One run to be written."""

    id: str
    name: str
    kind: str
    """wandb's job type: row, train or grid."""
    config: Mapping[str, Any]
    content: Content
    fill: Callable[["wandb.Run", Content], None]
    """Log what is not in the second argument: the content that was written before, {} if none was."""
    tags: tuple[str, ...] = ()
    failed: bool = False
    """Whether wandb is to show it as failed."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """More of the configuration, which is no reason to write the run again: the command that asked for it."""

    @property
    def digest(self) -> str:
        """Equal for runs that say the same."""
        told = [self.id, self.name, self.kind, self.config, self.content, self.tags, self.failed]
        return identity(told)


def identity(what: Any) -> str:
    """A run's id, or a digest, from what tells it from others."""
    text = json.dumps(what, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]
