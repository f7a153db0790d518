"""What an outputs folder holds: its grids, the folders of its store, and which of them no grid uses.

A grid uses the steps that its plan.json names, and those that the plan of an earlier submission names, which a job in a
queue may still read. Plans are read as plain JSON here, so that a grid of an older version of this code counts too.

`remove` works while grids are planned and run. A folder of the store stays if

- a grid uses it,
- it is the work folder of a step that is being computed, or
- it was made, changed or looked up within the last hour: a grid that is being planned has not written its plan yet.

`Store.lookup` first notes the time, then looks at the artifact. `remove` first moves an artifact away, then looks at
that time, and puts the artifact back if the time is recent. So no plan counts as cached what is removed then.
"""

import json
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from src.grid import lease
from src.grid.errors import ConfigError
from src.grid.execute import failure_file
from src.grid.store import read_manifest

RECENT = 3600.0
"""Seconds in which a plan is made and frozen, and by which the clocks of two machines may differ."""
REMOVED = ".removed"
"""Folder of the store where `remove` moves what it then deletes."""
ASIDE = (".work", ".damaged", ".replaced", REMOVED)
"""Folders of the store that hold a folder for each step, but no artifacts that count."""


@dataclass(frozen=True)
class Piece:
    """One folder of the store."""

    path: Path
    kind: str
    """The kind of the step that made an artifact, `damaged` where its manifest does not tell; or a member of ASIDE."""
    files: Mapping[tuple[int, int], int]
    """Device and inode -> bytes. Artifacts share files by hard links."""
    recent: bool
    """Whether it was made, changed or looked up within the last hour."""
    used: bool = False
    """Whether a grid uses it, or a process computes it."""
    fault: str | None = None
    """What is wrong with the manifest of an artifact."""

    @property
    def step(self) -> str:
        """Name of the step."""
        return self.path.name


@dataclass(frozen=True)
class GridUse:
    """One grid."""

    folder: Path
    state: str
    """complete, running, failed, stopped, or unreadable (its plan.json)."""
    rows: int
    steps: frozenset[str]
    """Names of the steps that it uses."""
    planned: int
    """Number of steps of its plan."""
    done: int
    """Number of these that are in the store."""
    submitted: bool
    """Whether it was handed to a scheduler, so that a grid that is not running may be queued."""
    about: Mapping[str, str] = field(default_factory=dict)
    """command, date and commit of the launch."""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.folder.name


@dataclass(frozen=True)
class Usage:
    """An outputs folder at one moment."""

    grids: list[GridUse]
    """The latest first."""
    pieces: list[Piece]

    @property
    def unused(self) -> list[Piece]:
        """What `remove` would remove."""
        return [piece for piece in self.pieces if not piece.used and not piece.recent]

    @property
    def waiting(self) -> list[Piece]:
        """What no grid uses, but is too recent to be removed."""
        return [piece for piece in self.pieces if not piece.used and piece.recent]

    def freed(self, removed: Collection[Piece]) -> int:
        """Bytes that removing these pieces frees: files that others share stay."""
        kept = {file for piece in self.pieces if piece not in removed for file in piece.files}
        return size(removed, kept)


def size(pieces: Iterable[Piece], without: Collection[tuple[int, int]] = ()) -> int:
    """Bytes of the files of all pieces, each file once. without: files that do not count."""
    files = {file: count for piece in pieces for file, count in piece.files.items() if file not in without}
    return sum(files.values())


def survey(outputs: Path, without: Path | None = None, now: float | None = None) -> Usage:
    """Look at the grids of `outputs` and at its store.

    without: folder of a grid that is taken as removed. now: seconds since the epoch; default: the present.
    Raises ConfigError if there is no store.
    """
    root, now = outputs / "store", time.time() if now is None else now
    if not root.is_dir():
        raise ConfigError(f"there is no store in {outputs}; name the outputs folder of your grids: --outputs DIR")
    computed = {work.name for work in _folders(root / ".work") if _held(work, now)}
    pieces = [_artifact(folder, now) for folder in _folders(root)]
    pieces += [_aside(folder, now) for aside in ASIDE for folder in _folders(root / aside)]
    whole = {piece.step for piece in pieces if piece.path.parent == root and piece.fault is None}
    plans = sorted(outputs.glob("grids/*/plan.json"), key=_changed, reverse=True)
    grids = [_grid(plan, whole, computed) for plan in plans if plan.parent != without]
    named = {name for grid in grids for name in grid.steps}
    return Usage(grids, [replace(piece, used=_is_used(piece, named, whole, computed)) for piece in pieces])


def unknown_use(usage: Usage) -> str | None:
    """Why it cannot be told what is unused, in one line with what to do; None if it can."""
    for grid in usage.grids:
        if grid.state == "unreadable":
            return (f"{grid.folder / 'plan.json'} cannot be read, so that it is not known what the grid uses: "
                    f"remove the grid (python -m src.store clean {grid.name}) or mend the file")  # fmt: skip
    named = {name for grid in usage.grids for name in grid.steps}
    for piece in usage.pieces:
        if piece.kind == ".work" and piece.used and piece.step not in named:
            return f"{piece.step} is being computed and no grid names it, so that it is not known what it reads: wait"
    return None


def remove(outputs: Path, chosen: Iterable[Piece], now: float | None = None) -> list[Piece]:
    """Remove those of the chosen pieces that are still unused; these. Raises OSError if a file cannot be removed."""
    paths, now = {piece.path for piece in chosen}, time.time() if now is None else now
    again = survey(outputs, now=now)
    if unknown_use(again):
        return []
    return [piece for piece in again.unused if piece.path in paths and _removed(piece, outputs / "store", now)]


def remove_grid(grid: GridUse) -> None:
    """Remove the folder of a grid, its plan first, and the link to the latest grid if it points there.

    Raises OSError if a file cannot be removed.
    """
    latest = grid.folder.parents[1] / "latest"
    if latest.is_symlink() and latest.resolve() == grid.folder.resolve():
        latest.unlink()
    (grid.folder / "plan.json").unlink()
    shutil.rmtree(grid.folder)


def _removed(piece: Piece, root: Path, now: float) -> bool:
    """Whether the piece was removed. It was not if somebody looked it up or began to compute it meanwhile."""
    away = root / REMOVED / f"{piece.step}-{os.getpid()}"
    away.parent.mkdir(exist_ok=True)
    try:
        piece.path.rename(away)
    except FileNotFoundError:  # somebody else removed it
        return False
    artifact = piece.kind not in ASIDE
    if (artifact and _is_recent([_looked_up(piece.path)], now)) or (piece.kind == ".work" and _held(away, now)):
        away.rename(piece.path)
        return False
    if away.is_symlink():
        away.unlink()
    else:
        shutil.rmtree(away)
    if artifact:
        _looked_up(piece.path).unlink(missing_ok=True)
    return True


def _artifact(folder: Path, now: float) -> Piece:
    recent = _is_recent([folder, folder / "manifest.json", _looked_up(folder)], now)
    try:
        return Piece(folder, read_manifest(folder)["kind"], _files(folder), recent)
    except OSError as error:
        fault = f"the manifest cannot be read ({error.strerror})"
    except ValueError as error:
        fault = str(error)
    return Piece(folder, "damaged", _files(folder), recent, fault=fault)


def _aside(folder: Path, now: float) -> Piece:
    return Piece(folder, folder.parent.name, _files(folder), _is_recent([folder, *_entries(folder)], now))


def _is_used(piece: Piece, named: set[str], whole: set[str], computed: set[str]) -> bool:
    """named: steps that grids use. whole: steps that have an artifact. computed: steps that a process computes."""
    if piece.kind == ".work":  # scratch of a missing step: the next attempt goes on from there
        return piece.step in computed or piece.step in named - whole
    return piece.kind not in ASIDE and piece.step in named


def _grid(plan: Path, whole: set[str], computed: set[str]) -> GridUse:
    folder = plan.parent
    submissions = sorted(folder.glob("submissions/*/plan.json"))
    try:
        data = _read(plan)
        planned = {str(record["name"]) for record in data["steps"]}
        earlier = {str(record["name"]) for file in submissions for record in _read(file)["steps"]}
        rows, about = len(data["rows"]), {key: str(value) for key, value in data.get("about", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return GridUse(folder, "unreadable", 0, frozenset(), 0, 0, bool(submissions))
    missing = planned - whole
    if missing & computed:
        state = "running"
    elif any(failure_file(folder, name).exists() for name in [*missing, "report"]):
        state = "failed"
    else:
        state = "stopped" if missing else "complete"
    done = len(planned) - len(missing)
    return GridUse(folder, state, rows, frozenset(planned | earlier), len(planned), done, bool(submissions), about)


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _held(work: Path, now: float) -> bool:
    """Whether a process computes the step. One of another host that has been silent for an hour does not."""
    holder = lease.holder(work)
    return holder is not None and (holder["host"] == lease.this_host() or _is_recent(_entries(work), now))


def _is_recent(paths: Iterable[Path], now: float) -> bool:
    return any(_changed(path) > now - RECENT for path in paths)


def _changed(path: Path) -> float:
    """When the file or folder was written, renamed or touched last, in seconds since the epoch; 0 if there is none."""
    try:
        stat = path.lstat()
    except OSError:
        return 0.0
    return max(stat.st_mtime, stat.st_ctime)


def _looked_up(artifact: Path) -> Path:
    """The file whose time tells when the artifact was last looked up."""
    return artifact.parent / ".verified" / artifact.name


def _folders(parent: Path) -> Iterator[Path]:
    return (path for path in _entries(parent) if path.is_dir() and not path.name.startswith("."))


def _entries(folder: Path) -> list[Path]:
    """What is in the folder, sorted; nothing if it is gone."""
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _files(folder: Path) -> dict[tuple[int, int], int]:
    """Device and inode -> bytes of all files in the folder."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # a step that is being computed removes its files
                stat = os.lstat(os.path.join(parent, name))
                found[stat.st_dev, stat.st_ino] = stat.st_size
    return found
