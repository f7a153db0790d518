"""The run of a training step: its measurements at the times at which they were made."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data import jsonl
from src.grid.step import Step, closure
from src.grid.store import Store, all_settings
from src.report.tracking.run import ID_LENGTH, Content, Run

if TYPE_CHECKING:
    import wandb

TRAINED = ("base", "train")
"""Kinds of steps that leave measurements while they train."""


def runs(steps: Sequence[Step], store: Store) -> Iterator[Run]:
    """The runs of the trainings that these steps need and that are in the store."""
    for step in closure(steps):
        folder = store.lookup(step)
        if folder and (folder / "metrics.jsonl").exists():
            yield _run(step, folder, store)


def run_id(step: Step) -> str:
    """One training is one run, whatever grids ask for it."""
    return step.fingerprint[:ID_LENGTH]


def config(step: Step) -> dict[str, Any]:
    """Its settings. What rows are grouped by, `label`, is the step's label here, which seeds share."""
    return {"label": step.label, "artifact": step.name, **all_settings(step)}


def timed(points: Sequence[Mapping[str, Any]], speeds: Mapping[int, float], end: float) -> list[dict[str, Any]]:
    """The measurements with the seconds of training before each and its time stamp.

    speeds: step -> tokens per second since the measurement before. end: when the step was published, in seconds since
    1970. Without a speed a measurement has no time, nor have those that follow.
    """
    made: list[dict[str, Any]] = []
    seconds: float | None = 0.0
    tokens = 0
    for point in points:
        speed, reached = speeds.get(int(point["step"])), point["tokens"]
        seconds = seconds + (reached - tokens) / speed if seconds is not None and speed else None
        tokens = reached
        made.append({**point, "tokens_per_second": speed} | ({} if seconds is None else {"seconds": seconds}))
    total = made[-1].get("seconds") if made else None
    for point in made:
        if total is not None:
            point["_timestamp"] = end - total + point["seconds"]
    return made


def _run(step: Step, folder: Path, store: Store) -> Run:
    manifest = store.manifest(step)
    end = (folder / "manifest.json").stat().st_mtime

    def fill(run: "wandb.Run", before: Content) -> None:
        summary = dict(manifest["summary"])
        speeds = dict(summary.pop("throughput", []))
        for point in timed(list(jsonl.read(folder / "metrics.jsonl")), speeds, end):
            run.log(point, step=int(point.pop("step")))
        seconds = manifest["seconds"]
        run.summary.update({**summary, "seconds": seconds, "started": end - seconds, "ended": end})

    return Run(run_id(step), step.name, "train", config(step), {"fingerprint": step.fingerprint}, fill, ("train",))
