"""Where a process stands in a scheduler's job. The engine knows schedulers by this alone.

A scheduler's job enters its place before it computes; its children inherit it through one environment variable.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

VARIABLE = "PALIMPSEST_PLACE"


@dataclass(frozen=True)
class Place:
    """One rank of one start of a job."""

    scheduler: str
    """Name of the scheduler's folder in launchers/."""
    job: str
    """The id by which the scheduler's commands know the job."""
    restart: int = 0
    """How often the job was requeued before."""
    rank: int = 0
    size: int = 1
    """Number of ranks of the job."""
    local_rank: int = 0
    """Number of this rank on its node."""

    def enter(self) -> None:
        """Make this the place of this process and of its later children."""
        os.environ[VARIABLE] = json.dumps(asdict(self))

    def follows(self, record: Mapping[str, Any]) -> bool:
        """Whether this is a later start of the job that wrote its place into the record."""
        same = (record.get("scheduler"), record.get("job")) == (self.scheduler, self.job)
        return same and self.restart > record["restart"]


def here() -> Place | None:
    """The place of this process; None outside of a scheduler's job."""
    text = os.environ.get(VARIABLE)
    return Place(**json.loads(text)) if text else None
