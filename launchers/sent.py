"""What is noted of submitted jobs: in the grid's folder for its commands, beside each step's lease for other grids."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from src.grid.store import Store


@dataclass(frozen=True)
class Sent:
    """A submitted job."""

    scheduler: str
    """Name of its folder in launchers/."""
    job: str
    """The scheduler's id: `12`, or `12_3` for an element of an array."""
    steps: tuple[str, ...]
    submission: int
    others: Mapping[str, str] = field(default_factory=dict)
    """Step -> the job of another grid that this one waits for, because it computes the step."""

    @property
    def key(self) -> tuple[str, str]:
        """What no other job has."""
        return self.scheduler, self.job

    def note(self, folder: Path) -> None:
        """Add the job to those of the grid."""
        with (folder / "jobs.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(self)) + "\n")


def read_sent(folder: Path) -> list[Sent]:
    """The jobs that were submitted for a grid, oldest first."""
    try:
        lines = (folder / "jobs.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    records = [json.loads(line) for line in lines]
    return [Sent(**record | {"steps": tuple(record["steps"])}) for record in records]


def submission_folder(folder: Path, number: int) -> Path:
    """Where what a submission was made from is kept."""
    return folder / "submissions" / str(number)


def settings_file(folder: Path, number: int) -> Path:
    """Where the launcher's settings of a submission are kept."""
    return submission_folder(folder, number) / "launcher.json"


def claim_file(store: Store, name: str) -> Path:
    """The note, beside the step's lease, of the job that is to compute it."""
    return store.root / ".work" / name / "job.json"


def claim(store: Store, name: str, scheduler: str, job: str, folder: Path) -> None:
    """Let other grids know which job is to compute the step."""
    file = claim_file(store, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"scheduler": scheduler, "job": job, "grid": str(folder)})
    file.write_text(text, encoding="utf-8")


def read_claim(store: Store, name: str) -> dict[str, Any]:
    """Scheduler, job and grid of the step's claim; empty if there is none."""
    try:
        record: dict[str, Any] = json.loads(claim_file(store, name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record
