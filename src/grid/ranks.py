"""The processes that compute one step together: this one alone, several that are started here, or the tasks of a job.

torch.distributed finds its way by RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, which are set here. In a
job the tasks come first and the step follows: rank 0 takes the lease and says in a file what is to be done and where
to meet; the others wait for that file.
"""

import json
import logging
import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

from src.grid import processes
from src.grid.context import STOPPED, Context, deferred_stop
from src.grid.devices import VISIBLE
from src.grid.errors import StepError
from src.grid.files import write_whole
from src.grid.place import Place
from src.grid.processes import ending, enter_child
from src.grid.step import Step

log = logging.getLogger(__name__)

POLL = 0.1
"""Seconds between two looks for rank 0's invitation."""


@dataclass(frozen=True)
class Call:
    """One attempt at a step, the same for all its ranks."""

    inputs: Mapping[str, str]
    """Name of an input step -> the folder of its artifact."""
    out: str
    work: str
    attempt: int
    checkpoint_seconds: float
    size: int
    address: str
    port: int

    def run(self, step: Step, rank: int, local_rank: int) -> dict[str, Any]:
        """This rank's part; only rank 0's summary counts."""
        os.environ.update(
            RANK=str(rank),
            WORLD_SIZE=str(self.size),
            LOCAL_RANK=str(local_rank),
            MASTER_ADDR=self.address,
            MASTER_PORT=str(self.port),
        )
        inputs = {source: Path(self.inputs[source.name]) for source in step.inputs.values()}
        if self.size > 1:
            log.info("%s joins as rank %d of %d on %s", step.name, rank, self.size, os.uname().nodename)
        context = Context(Path(self.work), step.label, rank > 0, self.attempt, self.checkpoint_seconds)
        return step.run(inputs, Path(self.out), context)


@dataclass(frozen=True)
class Task:
    """This process as one of those that a scheduler started for a step."""

    rank: int
    size: int
    local_rank: int
    meeting: Path
    """The file in which rank 0 invites the others; of this start of this job alone."""

    @classmethod
    def at(cls, place: Place, folder: Path) -> "Task":
        """From the place of this process; the ranks meet in `folder`. A task that sees one GPU has it as its first."""
        alone = len(os.environ.get(VISIBLE, ",").split(",")) == 1
        meeting = folder / f"meeting-{place.job}-{place.restart}.json"
        return cls(place.rank, place.size, 0 if alone else place.local_rank, meeting)

    def invite(self, call: Call | None) -> None:
        """Rank 0: tell the others what is to be done; None: nothing."""
        self.meeting.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.meeting, json.dumps(asdict(call) if call else None))

    def join(self, step: Step) -> None:
        """Another rank: wait for the invitation, and follow it."""
        while not self.meeting.exists():
            time.sleep(POLL)
        invitation = json.loads(self.meeting.read_text(encoding="utf-8"))
        if invitation:
            Call(**invitation).run(step, self.rank, self.local_rank)


def compute(
    step: Step,
    inputs: Mapping[Step, Path],
    out: Path,
    work: Path,
    attempt: int,
    checkpoint_seconds: float,
    task: Task | None,
) -> dict[str, Any]:
    """Run the step in as many processes as the step has ranks; `task` is this process as rank 0 of a job's.

    Raises StepError with the first traceback if one of several ranks fails.
    """
    together = task is not None and task.size > 1
    call = Call(
        {source.name: str(folder) for source, folder in inputs.items()}, str(out), str(work.resolve()), attempt,
        checkpoint_seconds, step.ranks, socket.gethostname() if together else "127.0.0.1", _free_port(),
    )  # fmt: skip
    if step.ranks == 1:
        return call.run(step, 0, 0)
    if task is None:
        return _spawn(step, call)
    if task.size != step.ranks:
        raise StepError(f"{step.name} needs {step.ranks} ranks, and its job has {task.size} tasks")
    task.invite(call)
    return call.run(step, 0, task.local_rank)


def _spawn(step: Step, call: Call) -> dict[str, Any]:
    context = multiprocessing.get_context("forkserver")
    ranks = {}
    for rank in range(step.ranks):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=_rank_process,
            args=(sender, call, step, rank, os.getpgrp(), processes.log_file, os.environ.get(VISIBLE)),
            name=f"{step.name}-rank{rank}",
        )
        process.start()
        sender.close()
        ranks[receiver] = (rank, process)
    summary: dict[str, Any] = {}
    try:
        with deferred_stop():
            waiting = set(ranks)
            while waiting:
                for ready in wait(waiting):
                    receiver = cast(Connection, ready)
                    rank, process = ranks[receiver]
                    waiting.remove(receiver)
                    try:
                        result, error = receiver.recv()
                    except EOFError:
                        process.join()
                        if process.exitcode == STOPPED:
                            sys.exit(STOPPED)
                        raise StepError(f"{step.name}: rank {rank} {ending(process.exitcode)}") from None
                    if error:
                        raise StepError(f"{step.name}: rank {rank} failed\n{error}")
                    if rank == 0:
                        summary = result
    finally:
        for _, process in ranks.values():
            process.kill()
            process.join()
    return summary


def _rank_process(
    sender: Connection, call: Call, step: Step, rank: int, group: int, log_file: Path | None, devices: str | None
) -> None:  # fmt: skip
    enter_child(log_file, group, devices)
    try:
        sender.send((call.run(step, rank, rank), None))
    except Exception:
        sender.send((None, traceback.format_exc()))
        sys.exit(1)


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port
