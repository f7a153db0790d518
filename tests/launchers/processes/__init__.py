"""Another scheduler: jobs are processes of this machine. test_another_scheduler.py copies this folder into launchers/.

What is known of a job stands in `$SPOOL/ID/`. Its process, `python -m launchers.processes ID`, waits for other jobs,
runs the tasks, and notes how they ended.
"""

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path

from launchers import base
from launchers.base import DEPENDENCY, Queued, Request
from launchers.resources import Settings
from src.grid.place import Place


def folder(job: str) -> Path:
    """Where the job's files are."""
    return Path(os.environ["SPOOL"]) / job


def note(job: str, state: str) -> None:
    """Set the job's state. A reader finds the old or the new one, never half of it."""
    written = folder(job) / f"state.{os.getpid()}"
    written.write_text(state)
    written.replace(folder(job) / "state")


class Scheduler(base.Scheduler):
    """`hydra/launcher=processes`"""

    name = "processes"
    title = "The process scheduler"

    def submit(self, request: Request, settings: Settings, patience: float) -> list[str]:
        """Start a process for each job."""
        jobs = []
        for function in request.functions:
            job = next(str(number) for number in count(1) if not folder(str(number)).exists())
            folder(job).mkdir(parents=True)
            (folder(job) / "function.pkl").write_bytes(pickle.dumps(function))
            note(job, "waiting")
            told = {"tasks": request.tasks, "success": request.after_success, "end": request.after_end}
            (folder(job) / "job.json").write_text(json.dumps(told))
            command = [sys.executable, "-m", "launchers.processes", job]
            environment = os.environ | {"PYTHONPATH": str(request.code)}
            with (folder(job) / "output").open("w") as output:
                process = subprocess.Popen(
                    command, cwd=request.code, env=environment, stdout=output, stderr=output, start_new_session=True
                )
            (folder(job) / "process").write_text(str(process.pid))
            jobs.append(job)
        return jobs

    def state(self, jobs: Iterable[str], patience: float = 0.0) -> dict[str, Queued]:
        """From the folders."""
        known = {}
        for job in jobs:
            if folder(job).exists():
                state = (folder(job) / "state").read_text()
                reason = DEPENDENCY if state == "waiting" else ""
                known[job] = Queued(job, state, state, reason)  # type: ignore[arg-type]
        return known

    def cancel(self, jobs: Iterable[str], patience: float = 0.0) -> None:
        """Kill the processes."""
        for job in [job for job, queued in self.state(jobs).items() if queued.alive]:
            note(job, "cancelled")
            with suppress(ProcessLookupError):
                os.killpg(int((folder(job) / "process").read_text()), signal.SIGKILL)

    def output(self, grid: Path, job: str) -> list[Path]:
        """What the process and its tasks printed."""
        return [folder(job) / "output"]

    def place(self) -> Place | None:
        """From the variable that the job's process sets."""
        told = os.environ.get("PROCESSES_TASK")
        if told is None:
            return None
        job, rank, size = told.split()
        return Place(self.name, job, rank=int(rank), size=int(size), local_rank=int(rank))
