"""A lease: one process at a time computes a step.

A lease is a numbered file `lease.N` in the step's work folder; N is the attempt. The highest number holds the step,
until it is marked as released or is stale. Taking it means to hard-link `lease.N+1`, which only one process can do, so
that a take-over needs no lock and a process that dies at any moment leaves a state that the next one understands.

A lease is stale when its process is dead (same host: pid and start time are compared), when a scheduler has started the
holder's job again (a job has one start at a time: what is left of the one before is being killed), or, for any other
process of another host, when its heartbeat (the file's modification time) has not moved for `limit` seconds while it
was being watched: no clocks of two machines are compared.
"""

import json
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from src.grid.place import here

log = logging.getLogger(__name__)

HEARTBEAT = 10.0
"""Seconds between heartbeats."""
LIMIT = 120.0
"""Seconds without a heartbeat after which a lease of another host is stale."""
POLL = 0.5
"""Seconds between two looks at a lease that is held by another process."""


@cache
def this_host() -> str:
    """Name of the set of processes whose pids this process can see: host name and, on Linux, pid namespace."""
    try:
        return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def started(pid: int) -> str | None:
    """When a process of this host began, as text that no other process of the same pid shares; None if it is dead."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"
    listing = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listing.stdout.strip() or None


class Lease:
    """Held by this process from `acquire` until `release`, or `with` it."""

    def __init__(self, path: Path, attempt: int) -> None:
        self.path = path
        self.attempt = attempt
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            try:
                os.utime(self.path)
            except OSError:
                return

    def held(self) -> bool:
        """Whether no other process has taken the step over since."""
        return _newest(self.path.parent) == self.attempt

    def release(self) -> None:
        """Let others have the step. The file stays, marked, so that attempts go on being counted."""
        self._stop.set()
        self._thread.join()
        if self.held():
            temporary = _write(self.path.parent, {"released": True})
            os.replace(temporary, self.path)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def acquire(work: Path, done: Callable[[], bool], limit: float = LIMIT) -> Lease | None:
    """Wait for the lease of the step whose work folder is `work`. None as soon as `done()` says that it is complete."""
    watched: tuple[int, int] | None = None
    since = time.monotonic()
    announced = 0
    while not done():
        work.mkdir(parents=True, exist_ok=True)
        newest = _newest(work)
        if newest:
            try:
                record = _read(work, newest)
                beat = (newest, _file(work, newest).stat().st_mtime_ns)
            except FileNotFoundError:
                continue
            if beat != watched:
                watched, since = beat, time.monotonic()
            if not _free(record, time.monotonic() - since, limit):
                if announced != newest:
                    log.info("%s: waiting for process %s on %s", work.name, record["pid"], record["host"])
                    announced = newest
                time.sleep(POLL)
                continue
            if not record.get("released"):
                log.warning("%s: taking over from process %s on %s", work.name, record["pid"], record["host"])
        lease = _take(work, newest + 1)
        if lease and done():  # published between the look and the take
            lease.release()
        elif lease:
            return lease
    return None


def holder(work: Path) -> dict[str, Any] | None:
    """Who computes the step now (host, pid, start, attempt); None if nobody does, as far as this host can tell."""
    newest = _newest(work)
    try:
        record = _read(work, newest)
    except FileNotFoundError:
        return None
    return None if _free(record, 0.0, LIMIT) else record


def _free(record: dict[str, Any], silence: float, limit: float) -> bool:
    if record.get("released"):
        return True
    place = here()
    if place and place.follows(record):
        return True
    if record["host"] == this_host():
        return started(record["pid"]) != record["start"]
    return silence > limit


def _take(work: Path, attempt: int) -> Lease | None:
    """Create `lease.attempt`, or None if another process was faster."""
    target = _file(work, attempt)
    own = {"host": this_host(), "pid": os.getpid(), "start": started(os.getpid())}
    place = here()
    job = {name: getattr(place, name, None) for name in ("scheduler", "job", "restart")}
    record = {**own, **job, "attempt": attempt}
    try:
        temporary = _write(work, record)
        try:
            os.link(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except (FileExistsError, FileNotFoundError):  # lost the race, or the winner has published and cleared the folder
        return None
    if _newest(work) != attempt:  # a later attempt began and swept this number away before it was linked again
        target.unlink(missing_ok=True)
        return None
    for older in work.glob("lease.*"):
        number = older.suffix[1:]
        if number.isdigit() and int(number) < attempt:
            older.unlink(missing_ok=True)
    return Lease(target, attempt)


def _write(work: Path, record: dict[str, Any]) -> Path:
    temporary = work / f"lease.{os.getpid()}-{secrets.token_hex(4)}"
    temporary.write_text(json.dumps(record), encoding="utf-8")
    return temporary


def _read(work: Path, attempt: int) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(_file(work, attempt).read_text(encoding="utf-8"))
    except ValueError:  # leases are linked whole: the machine went down before this one reached the disk
        return {"released": True}
    return record


def _file(work: Path, attempt: int) -> Path:
    return work / f"lease.{attempt}"


def _newest(work: Path) -> int:
    """The highest attempt on record, 0 if there is none."""
    return max((int(f.suffix[1:]) for f in work.glob("lease.*") if f.suffix[1:].isdigit()), default=0)
