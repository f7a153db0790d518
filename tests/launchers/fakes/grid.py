"""A grid of toy steps, to be submitted to the fake cluster."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from launchers.base import scheduler
from launchers.grid import freeze, point_latest
from launchers.sent import Sent
from launchers.slurm.settings import Settings
from launchers.submission import submit
from src.grid.execute import execute, failure_file
from src.grid.plan import Plan, make_plan
from src.grid.row import Row
from src.grid.step import Step, closure
from src.grid.store import Store
from tests.grid.toys import toy, toy_row


class Grid:
    """One row for each of the given steps; jobs run the source as it is, and each step has its own, unless told.

    seconds: what the rows estimate, by label or kind.
    """

    def __init__(self, outputs: Path, *ends: Step, name: str = "toys", **seconds: float) -> None:
        self.store, self.folder = Store(outputs / "store"), outputs / "grids" / name
        self.rows: list[Row] = [toy_row(end.label, end, **seconds) for end in ends]
        self.printed = StringIO()
        """What the submissions told."""

    def plan(self) -> Plan:
        return make_plan(self.rows, self.store)

    def submit(self, **settings: Any) -> list[Sent]:
        """Submit what is missing now."""
        plain = Settings(**{"snapshot": False, "pack_minutes": 0.0, **settings})
        return submit(
            self.plan(), self.store, self.folder, scheduler("slurm"), plain, Console(file=self.printed, width=200)
        )

    def freeze(self) -> None:
        """As a grid that was started in another way than by SLURM."""
        freeze(self.plan(), self.store, self.folder, [])
        point_latest(self.folder)

    def compute(self, *steps: Step) -> None:
        """Complete the steps and what they need."""
        for step in closure(steps):
            execute(step, self.store)

    def fail(self, step: Step, text: str = "Traceback\nValueError: it broke\n") -> None:
        """Leave the traceback that a failed step leaves."""
        failure_file(self.folder, step.name).parent.mkdir(parents=True, exist_ok=True)
        failure_file(self.folder, step.name).write_text(text)

    def job(self, step: Step | str) -> str:
        """The last job of a step."""
        name = step if isinstance(step, str) else step.name
        lines = (self.folder / "jobs.jsonl").read_text().splitlines()
        return [sent["job"] for sent in map(json.loads, lines) if name in sent["steps"]][-1]

    def note(self, job: str, *notes: dict[str, Any]) -> None:
        """What a job notes of its starts and ends."""
        file = self.folder / "jobs" / f"attempts-{job}-0.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps({"at": at, **note}) + "\n" for at, note in enumerate(notes)))


def diamond() -> dict[str, Step]:
    """a; b and c from a; d from b and c."""
    a = toy("a")
    b, c = toy("b", 10, {"a": a}), toy("c", 100, {"a": a})
    return {"a": a, "b": b, "c": c, "d": toy("d", 1000, {"b": b, "c": c})}


def jobs_of(sent: Sequence[Sent]) -> dict[tuple[str, ...], str]:
    """Labels of the steps of each job -> its id."""
    return {tuple(name.rpartition("-")[0] or name for name in one["steps"]): one["job"] for one in map(asdict, sent)}
