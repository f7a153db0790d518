"""What a running step knows of its surroundings: scratch space that outlives a killed attempt, where to tell progress,
and whether it is asked to stop."""

import glob
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.grid.files import write_whole

STOPPED = 143
"""Exit code of a process that ended because it was asked to."""

_stop_requested = False
_stop_deferred = False


def listen_for_stop() -> None:
    """SIGTERM asks this process to end: at once, or, within Context.deferred_stop(), when the step is ready to."""
    signal.signal(signal.SIGTERM, _stop)


def _stop(*_: object) -> None:
    global _stop_requested
    _stop_requested = True
    if not _stop_deferred:
        _end()


def _end() -> None:
    """By an exception, so that the lease is released; a second signal must not interrupt that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(STOPPED)


@contextmanager
def deferred_stop() -> Iterator[None]:
    """Within it a request to stop only sets `Context.stop_requested`: who is in it looks there, or waits for others
    that were asked as well."""
    global _stop_deferred
    _stop_deferred = True
    try:
        yield
    finally:
        _stop_deferred = False


class Context:
    """Handed to `Step.run` as its last argument."""

    def __init__(
        self, work: Path, label: str, silent: bool = False, attempt: int = 1, checkpoint_seconds: float = 60.0
    ) -> None:
        """`silent` (ranks other than 0): report() writes nothing."""
        self.work = work
        """Scratch folder. It survives a killed or failed attempt; publishing removes it."""
        self.label = label
        self.checkpoint_seconds = checkpoint_seconds
        """Longest time between two checkpoints."""
        self.checkpoints = work / "checkpoints" / str(attempt)
        """Where this attempt saves, each checkpoint in a folder `step-N`, named in the file `latest` when it is
        complete. No other attempt writes there."""
        self.attempt = attempt
        self._silent = silent
        self._numbers: dict[str, Any] = {}
        self._written = 0.0
        self._first: tuple[float, float] | None = None

    def report(self, **numbers: float | str) -> None:
        """Tell how far the step is: `done` of `total`, `loss`, `tokens_per_second` ... Cheap: call it often.

        Values are kept between calls, and written to `<work>/progress.json` at most four times a second, together with
        `seconds_left`, as far as done and total tell it.
        """
        self._numbers.update(numbers)
        now = time.monotonic()
        if self._silent or now - self._written < 0.25:
            return
        self._written = now
        if {"done", "total"} <= self._numbers.keys():
            done, total = float(self._numbers["done"]), float(self._numbers["total"])
            first_done, first_time = self._first = self._first or (done, now)
            if done > first_done:
                self._numbers["seconds_left"] = (now - first_time) * (total - done) / (done - first_done)
        write_whole(progress_file(self.work), json.dumps(self._numbers, ensure_ascii=False))

    def chunk(self, name: str, fill: Callable[[Path], None]) -> tuple[Path, bool]:
        """The folder of a part of the work, and whether it was made just now: `fill` is called with an empty folder,
        unless an earlier attempt has left the whole part. Of two attempts at once the first to be done counts."""
        whole = chunks_folder(self.work) / name
        if whole.is_dir():
            return whole, False
        begun = whole.with_name(f".{self.attempt}-{name}")
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir(parents=True)
        fill(begun)
        try:
            begun.rename(whole)
        except OSError:
            if not whole.is_dir():
                raise
            shutil.rmtree(begun, ignore_errors=True)
        return whole, True

    def chunks(self, prefix: str) -> list[Path]:
        """The folders of the whole parts whose names begin so, by any attempt, in the order of their names."""
        return sorted(chunks_folder(self.work).glob(f"{glob.escape(prefix)}*"))

    def begin_metrics(self, points: Sequence[Mapping[str, float]]) -> None:
        """Start the list of measurements that others follow while the step runs, with those from before a resume."""
        if not self._silent:
            lines = "".join(json.dumps(point) + "\n" for point in points)
            metrics_file(self.work).write_text(lines, encoding="utf-8")

    def add_metrics(self, point: Mapping[str, float]) -> None:
        """Append a measurement to it."""
        if not self._silent:
            with metrics_file(self.work).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(point) + "\n")

    @property
    def stop_requested(self) -> bool:
        """Whether this process was asked to end."""
        return _stop_requested

    def stop(self) -> None:
        """End the process, as it was asked to."""
        _end()

    def keep_only(self, checkpoint: Path) -> None:
        """Remove every other checkpoint, those of earlier attempts too."""
        for old in [*checkpoint.parent.iterdir(), *checkpoint.parent.parent.iterdir()]:
            if old.is_dir() and old not in (checkpoint, checkpoint.parent):
                shutil.rmtree(old, ignore_errors=True)


def latest_checkpoint(work: Path) -> Path | None:
    """The complete checkpoint with the highest step that any attempt left in `work`, as `.../step-N`."""
    found = []
    for file in work.glob("checkpoints/*/latest"):
        folder = file.parent / file.read_text(encoding="utf-8").strip()
        if folder.is_dir() and folder.name.startswith("step-"):
            found.append(folder)
    return max(found, key=checkpoint_step, default=None)


def checkpoint_step(checkpoint: Path | None) -> int:
    """The N of `step-N`, 0 where there is no checkpoint."""
    return int(checkpoint.name.removeprefix("step-")) if checkpoint else 0


def reached(work: Path) -> int:
    """How far the scratch of a step has come: the N of its latest checkpoint, or how many chunks in it are whole."""
    chunks = sum(not chunk.name.startswith(".") for chunk in chunks_folder(work).glob("*"))
    return max(checkpoint_step(latest_checkpoint(work)), chunks)


def chunks_folder(work: Path) -> Path:
    """Where Context.chunk keeps what is whole, and, by names with a dot before them, what is not."""
    return work / "chunks"


def metrics_file(work: Path) -> Path:
    """Where Context.add_metrics writes."""
    return work / "metrics.jsonl"


def progress_file(work: Path) -> Path:
    """Where Context.report writes."""
    return work / "progress.json"


def read_progress(work: Path) -> dict[str, Any]:
    """The last reported numbers, empty if there are none."""
    try:
        numbers: dict[str, Any] = json.loads(progress_file(work).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return numbers
