"""Writing runs, online or into folders that `wandb sync` sends later.

Offline, a run that has changed is written whole, in the place of its folder from before: wandb sends a folder from its
first line on, so that a run which is sent twice is overwritten and not doubled. Online the run is resumed.
"""

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.machine import services
from src.report.tracking.run import Run

if TYPE_CHECKING:
    import wandb

PATIENCE = 15.0
"""Seconds to wait for the server, or for another process that writes the same run."""


@dataclass(frozen=True)
class Destination:
    """Where the runs of a grid go."""

    mode: str
    """online, offline or disabled."""
    project: str
    entity: str | None
    tags: tuple[str, ...]
    notes: str | None
    grid: Path
    """The grid's folder; its name is the group of the runs."""

    @classmethod
    def of(cls, tracker: Mapping[str, Any] | None, grid: Path) -> "Destination":
        """tracker: the cell's settings; what they leave open, the environment says."""
        mode = services.resolve_mode(tracker["mode"]) if tracker else "disabled"
        given = tracker or {}
        project = services.named(given, "project") or services.PROJECT
        entity, notes = services.named(given, "entity"), services.named(given, "notes")
        return cls(mode, project, entity, services.tags(given), notes, grid.absolute())

    @property
    def folder(self) -> Path:
        """wandb's own, beside the store."""
        return self.grid.parents[1] / "wandb"

    def mark(self, id: str) -> Path:
        """The file that notes what was written of a run there."""
        place = [self.mode, services.host() if self.mode == "online" else "", self.entity or "", self.project]
        return self.folder / ".written" / re.sub(r"[^\w.-]", "_", "-".join(filter(None, place))) / id


def write(runs: Iterable[Run], there: Destination) -> int:
    """Write the runs that have changed since they were written last. Returns their number; raises what wandb raises."""
    written = 0
    for run in runs:
        with _marked(there.mark(run.id)) as mark:
            if mark.get("digest") == run.digest:
                continue
            with _staging(there.folder / ".staging"):
                _write(run, mark.get("content", {}), there)
            mark.update(digest=run.digest, content=run.content)
            written += 1
    return written


def start(
    id: str, name: str, kind: str, config: Mapping[str, Any], there: Destination, tags: tuple[str, ...] = ()
) -> "wandb.Run":
    """Open a run in the grid's group: a new one, or, online, the one that has this id already."""
    package = library()
    quiet = package.Settings(
        silent=True,
        console="off",
        init_timeout=PATIENCE,
        disable_git=True,
        disable_code=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    opened: wandb.Run = package.init(
        mode=there.mode,
        id=id,
        name=name,
        group=there.grid.name,
        job_type=kind,
        project=there.project,
        entity=there.entity,
        config=dict(config),
        tags=[*there.tags, *tags],
        notes=there.notes,
        resume="allow" if there.mode == "online" else None,
        dir=str(there.folder.parent),
        reinit="create_new",
        settings=quiet,
    )
    return opened


def library() -> Any:
    """The package wandb, imported so that it is quiet and quick."""
    os.environ.setdefault("WANDB_SILENT", "true")  # it would write into the view of the running steps
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to its makers, by libraries that take time to load
    import wandb.util

    wandb.util.pd_available = False  # else it imports pandas to see that what is logged is no data frame
    return wandb


def close() -> None:
    """End wandb's service process, if it was started."""
    import sys

    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


def _write(run: Run, before: Mapping[str, Any], there: Destination) -> None:
    if there.mode == "offline":
        before = {}
        for old in there.folder.glob(f"offline-run-*-{run.id}"):
            shutil.rmtree(old)
    opened = start(run.id, run.name, run.kind, {**run.config, **run.origin}, there, run.tags)
    try:
        run.fill(opened, before)
    except BaseException:
        opened.finish(exit_code=1)
        raise
    opened.finish(exit_code=1 if run.failed else 0)


@contextmanager
def _marked(file: Path) -> Iterator[dict[str, Any]]:
    """The mark of a run, empty if there is none; changes are saved. Nobody else writes the run meanwhile."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8") as stream:
        _lock(stream.fileno())
        stream.seek(0)
        try:
            mark: dict[str, Any] = json.loads(stream.read())
        except ValueError:  # new, or cut off
            mark = {}
        before = json.dumps(mark)
        yield mark
        if json.dumps(mark) != before:
            stream.truncate(0)
            json.dump(mark, stream, default=str)


def _lock(descriptor: int) -> None:
    """Raises TimeoutError if another process keeps it. Where the file system has no locks, none is taken."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError("another process is writing the same run") from None
            time.sleep(0.1)
        except OSError:
            return None


@contextmanager
def _staging(folder: Path) -> Iterator[None]:
    """wandb keeps copies of tables until they are uploaded, in the home folder unless it is told where."""
    before = os.environ.get("WANDB_DATA_DIR")
    os.environ["WANDB_DATA_DIR"] = before or str(folder)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("WANDB_DATA_DIR", None)
