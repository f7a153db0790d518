"""What a scheduler's job runs, once in each of its tasks: the steps that were given to it, in order, each in a child.

Exit codes tell the scheduler what to do. 0: all are in the store. 1: a step failed and left its traceback, or one
that it needs is missing. REQUEUE: the time limit is near, and what can be saved is saved. STOPPED: asked to end by
somebody else. 128 + N: a process was killed by signal N. After the last three the job goes back into the
queue, unless the scheduler has ended it already; a job that gets no further between two requeues fails.
"""

import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.grid.context import STOPPED, reached
from src.grid.execute import Watch, failure_file, record_failure, unwatched, work_on
from src.grid.place import Place
from src.grid.plan import Plan
from src.grid.processes import ending, fork_server
from src.grid.ranks import Task
from src.grid.store import Store

log = logging.getLogger(__name__)

REQUEUE = 75
WARNING = signal.SIGUSR2
"""What the scheduler sends some time before the limit."""


@dataclass(frozen=True)
class Job:
    """Called by each task of the job."""

    plan: Path
    """The frozen plan of this submission."""
    store: Path
    grid: Path
    steps: tuple[str, ...]
    """Names, in an order in which they can be run."""
    checkpoint_seconds: float
    place: Callable[[], Place | None]
    """Tells in a task which one it is."""
    watch: Watch = unwatched
    """Entered in rank 0's task while a step is computed."""

    def __call__(self) -> None:
        """Compute the steps that are not in the store. Exits with a code other than 0 if any is missing afterwards."""
        place = self.place()
        assert place is not None, "a Job runs inside of a scheduler's job"
        place.enter()
        try:
            self._run(place)
        except Exception:  # of this process, not of a step: without a note it would be taken for a killed rank
            where = f"rank {place.rank} on {os.uname().nodename}\n"
            unfinished = [name for name in self.steps if not (self.store / name / "manifest.json").exists()]
            record_failure(failure_file(self.grid, [*unfinished, *self.steps][0]), where + traceback.format_exc())
            raise

    def _run(self, place: Place) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
        task = Task.at(place, jobs_folder(self.grid))
        for wish in (signal.SIGTERM, WARNING):
            signal.signal(wish, signal.SIG_IGN)  # the fork server inherits it: all processes of a job are signalled
        plan, store = Plan.load(self.plan), Store(self.store)
        steps = [plan[name] for name in self.steps]
        # what rank 0 finds to do is what all do
        missing = [step for step in steps if task.rank > 0 or store.lookup(step) is None]
        if task.size > 1 and not missing:
            task.invite(None)
        forking = fork_server(missing, self.grid / "logs" / f"libraries-{task.rank}.log")
        signals = Signals()
        if task.rank == 0 and missing:
            for step in missing:
                failure_file(self.grid, step.name).unlink(missing_ok=True)
            start = [len(steps) - len(missing), reached(store.work(missing[0]))]
            self._record(place, {"restart": place.restart, "host": os.uname().nodename, "reached": start})
            fault = stuck(read_attempts(self.grid, place.job))
            if fault:
                record_failure(failure_file(self.grid, missing[0].name), f"{missing[0].name}: {fault}")
                log.error(fault)
                sys.exit(1)
        code = 0
        for step in missing:
            lost = [source.name for source in step.inputs.values() if store.lookup(source) is None]
            if lost and task.rank == 0:
                log.error("%s is not run: it needs %s", step.name, ", ".join(lost))
                code = 1
                continue
            log.info("%s begins", step.name)
            arguments = (step, store, self.grid, self.checkpoint_seconds, task)
            child = forking.Process(target=work_on, args=arguments, name=step.name)
            with (self.watch if task.rank == 0 else unwatched)(step):
                ended = signals.run(child)
            log.info("%s %s", step.name, ending(ended))
            if ended == 0:
                continue
            if signals.received or ended == STOPPED:
                why = signals.received.name if signals.received else "SIGTERM"
                self._record(place, {"end": f"stopped by {why}", "own": signals.received == WARNING})
                # any code but 0 ends the other tasks, and rank 0 may still be writing
                sys.exit(0 if task.rank > 0 else REQUEUE if signals.received == WARNING else STOPPED)
            if ended != 1:
                self._record(place, {"end": f"rank {task.rank} on {os.uname().nodename} {ending(ended)}", "own": True})
                sys.exit(128 - ended if ended < 0 else 128 + signal.SIGKILL)
            code = 1
        if code:
            sys.exit(code)

    def _record(self, place: Place, note: dict[str, Any]) -> None:
        """Note a start or an end of this job; each rank has a file of its own."""
        file = attempts_file(self.grid, place.job, place.rank)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"at": time.time(), **note}) + "\n")


class Signals:
    """Hands the wishes of the scheduler on to the child that computes."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._child: Any = None
        for wish in (signal.SIGTERM, WARNING):
            signal.signal(wish, self._handle)

    def _handle(self, number: int, _: object) -> None:
        self.received = self.received or signal.Signals(number)
        log.warning("received %s", self.received.name)
        if self._child is not None and self._child.is_alive():
            os.kill(self._child.pid, signal.SIGTERM)

    def run(self, child: Any) -> int:
        """Start the process, wait for its end, and return its exit code; STOPPED if it need not begin."""
        if self.received:
            return STOPPED
        child.start()
        self._child = child
        if self.received:
            os.kill(child.pid, signal.SIGTERM)
        child.join()
        self._child = None
        code: int = child.exitcode
        return code


def stuck(notes: Sequence[dict[str, Any]]) -> str | None:
    """Why a job should not be started once more: it came no further in its last starts, though it put itself back into
    the queue twice (the time limit, a killed process), or was put back by others five times."""
    starts = [i for i, note in enumerate(notes) if "reached" in note]
    same = [i for i in starts if all(notes[j]["reached"] == notes[starts[-1]]["reached"] for j in starts if j >= i)]
    if not same:
        return None
    ends = [note for note in notes[same[0] :] if "end" in note]
    if len(same) < 3 or (sum(note["own"] for note in ends) < 2 and len(same) < 6):
        return None
    return (
        f"no progress between two requeues: the last {len(same)} starts of this job began where this one would. "
        "If the time limit ended them: raise hydra.launcher.resources.KIND.minutes or lower "
        "hydra.launcher.checkpoint_minutes; if a process was killed: look at its memory. "
        f"Last end on record: {ends[-1]['end'] if ends else 'none, it was killed at once'}"
    )


def jobs_folder(grid: Path) -> Path:
    """Where a grid keeps what its jobs leave: scripts, output of the script itself, attempts."""
    return grid / "jobs"


def attempts_file(grid: Path, job: str, rank: int) -> Path:
    """Where a rank notes the starts and ends of its job."""
    return jobs_folder(grid) / f"attempts-{job}-{rank}.jsonl"


def read_attempts(grid: Path, job: str) -> list[dict[str, Any]]:
    """The notes of all ranks on a job's starts (of rank 0) and ends, in order; none if it has not started."""
    notes = []
    for file in sorted(jobs_folder(grid).glob(f"attempts-{job}-*.jsonl")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                notes.append(json.loads(line))
            except ValueError:  # not written to its end
                continue
    return sorted(notes, key=lambda note: note["at"])
