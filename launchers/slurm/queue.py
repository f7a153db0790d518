"""What SLURM's own commands say: squeue, sacct, scancel. A controller that is away is asked again."""

import re
import subprocess
import time
from collections.abc import Iterable
from typing import Any

from launchers.base import Queued, SchedulerError

AWAY = re.compile(
    r"unable to contact slurm controller|socket timed out|connection refused|connection reset|connection timed out"
    r"|zero bytes were transmitted|communication (connection )?failure|slurmctld is (in standby|not)|controller .*not",
    re.IGNORECASE,
)
"""What the commands print while slurmctld cannot be reached."""
PAUSE = 2.0
"""Seconds between two tries."""
HELD = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
"""States of a job that does not run, and may."""
FAILED = {"FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY"}


class Failed(SchedulerError):
    """A command of SLURM ended with an error."""


def ask(*command: str, patience: float = 0.0) -> str:
    """What the command prints, tried for `patience` seconds while the controller is away.

    Raises SchedulerError then, or if there is no such command; Failed if the command fails otherwise.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            if done.returncode == 0:
                return done.stdout
            said = done.stderr
        except subprocess.TimeoutExpired:
            said = "connection timed out"
        except FileNotFoundError:
            raise SchedulerError(f"there is no {command[0]} on the PATH") from None
        if not AWAY.search(said):
            raise Failed(f"{command[0]} failed: {' '.join(said.split())}")
        if time.monotonic() >= deadline:
            raise SchedulerError(" ".join(said.split()))
        time.sleep(PAUSE)


def queue(ids: Iterable[str], patience: float = 0.0) -> dict[str, Queued]:
    """The jobs that squeue still knows, by id; those that ended a short while ago are among them."""
    wanted = set(ids)
    if not wanted:
        return {}
    try:
        told = ask("squeue", "-h", "-r", "-t", "all", "-j", _listed(wanted), "-o", "%i|%T|%r", patience=patience)
    except Failed as error:
        if "invalid job id" in str(error).lower():  # it knows none of them any more
            return {}
        raise
    found = [_queued(*line.split("|", 2)) for line in told.splitlines() if line.count("|") >= 2]
    return {job.id: job for job in found if job.id in wanted}


def accounted(ids: Iterable[str]) -> dict[str, Queued]:
    """The jobs as sacct knows them, by id; empty where there is no accounting."""
    wanted = set(ids)
    if not wanted:
        return {}
    try:
        told = ask("sacct", "-n", "-P", "-X", "-j", _listed(wanted), "-o", "JobID,State,ExitCode")
    except (OSError, SchedulerError):
        return {}
    found = {}
    for line in told.splitlines():
        job, state, code = line.split("|")
        exited, _, killed = code.partition(":")
        how = f"signal {killed}" if killed not in ("", "0") else f"exit code {exited}"
        found[job] = _queued(job, state, how)
    return {job: told for job, told in found.items() if job in wanted}


def _queued(job: str, said: str, reason: str) -> Queued:
    """A job from SLURM's words; `said` may tell by whom it was cancelled: `CANCELLED by 1000`."""
    word, _, by = said.partition(" ")
    if word == "CANCELLED":
        return Queued(job, "cancelled", word, said if by.startswith("by ") else "")
    state: Any = (
        "waiting" if word in HELD else "done" if word == "COMPLETED" else "failed" if word in FAILED else "running"
    )
    return Queued(job, state, word, "" if reason == "None" else reason)


def _listed(jobs: Iterable[str]) -> str:
    """The jobs for an option -j, arrays as a whole."""
    return ",".join(sorted({job.partition("_")[0] for job in jobs}))


def cancel(ids: Iterable[str], patience: float = 60.0) -> None:
    """scancel; jobs that are over already are no error."""
    wanted = sorted(set(ids))
    if wanted:
        ask("scancel", "--quiet", *wanted, patience=patience)
