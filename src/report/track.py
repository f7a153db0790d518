"""Everything about wandb: a run for each training step, for each row, and for the grid, in one group.

A run's id is the fingerprint of what it shows, so that one result is one run however often it was asked for. Runs are
written when the grid is done, whole, from the artifacts (online, training is shown before that: src/report/stream.py);
what was written is marked in `outputs/wandb/.written` and not written again (an offline folder written twice would be
two runs with one id). A failure is a warning and never the grid's. No key is read here, only whether there is one.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data import jsonl
from src.grid.row import Row
from src.grid.step import Step, closure
from src.grid.store import Store, all_settings
from src.machine.services import resolve_mode
from src.report.cells import label, spread
from src.report.columns import heading, shown
from src.report.examples import clip_of, shorten
from src.report.lines import Line, scores_of

if TYPE_CHECKING:
    import wandb

ID_LENGTH = 16
"""Hexadecimal digits of a fingerprint that make a run's id."""
PATIENCE = 15.0
"""Seconds to wait for the server before the tracker is given up."""


@dataclass(frozen=True)
class Run:
    """One run to be written: who it is, and what fills it."""

    id: str
    name: str
    kind: str
    config: Mapping[str, Any]
    fill: Callable[["wandb.Run"], None]


def record(rows: Sequence[Row], lines: Sequence[Line], table: Mapping[str, Any], store: Store, grid: Path) -> str:
    """Write the grid's runs that are not written yet. Returns a line for the user, "" if there is nothing to say."""
    if not rows:
        return ""
    settings = rows[0].config["tracker"]
    mode = resolve_mode(settings["mode"])
    if mode == "disabled":
        return ""
    outputs = grid.absolute().parents[1]
    place = "-".join(filter(None, (mode, settings["entity"], settings["project"])))
    marks = outputs / "wandb" / ".written" / re.sub(r"[^\w.-]", "_", place)
    waiting = {run.id: run for run in runs(rows, lines, table, store, grid) if not (marks / run.id).exists()}
    if not waiting:
        return ""
    written = 0
    try:
        marks.mkdir(parents=True, exist_ok=True)
        with _staging(outputs / "wandb" / ".staging"):
            for run in waiting.values():
                _write(run, mode, settings, grid)
                (marks / run.id).touch()
                written += 1
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        kept = f"warning: wandb ({mode}) gave up after {written} of {len(waiting)} runs: {reason[:300]}"
        return kept + (" (tracker.mode=offline needs no server)" if mode == "online" else "")
    finally:
        _close()
    folder = outputs / "wandb"
    where = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    if mode == "offline":
        return f"wandb: {written} runs written offline; to upload them: wandb sync {where}/offline-run-*"
    return f"wandb: {written} runs written to project {settings['project']}, group {grid.name}"


def runs(
    rows: Sequence[Row], lines: Sequence[Line], table: Mapping[str, Any], store: Store, grid: Path
) -> Iterator[Run]:
    """The runs of a grid: training steps, rows, and the grid itself."""
    for step in closure(step for row in rows for step in row.steps):
        folder = store.lookup(step)
        if folder and (folder / "metrics.jsonl").exists():
            yield _training(step, folder, store)
    for line in lines:
        for row in line.rows:
            if folder := store.lookup(row.evaluate):
                yield _row(line, row, folder, store)
    if not table["columns"]:
        return
    identity = hashlib.sha256(json.dumps([grid.name, table], sort_keys=True).encode()).hexdigest()
    config = {"seeds": sorted({row.seed for row in rows}), **table["data"], "rows": [r["label"] for r in table["rows"]]}
    yield Run(identity[:ID_LENGTH], grid.name, "grid", config, lambda run: _fill_grid(run, table, grid))


def _training(step: Step, folder: Path, store: Store) -> Run:
    summary = dict(store.manifest(step)["summary"])
    speeds = dict(summary.pop("throughput", []))

    def fill(run: "wandb.Run") -> None:
        for point in jsonl.read(folder / "metrics.jsonl"):
            number = int(point.pop("step"))
            run.log({**point, "tokens_per_second": speeds.get(number)}, step=number)
        run.summary.update(summary)

    return Run(step.fingerprint[:ID_LENGTH], step.name, "train", {**all_settings(step), "artifact": step.name}, fill)


def _row(line: Line, row: Row, folder: Path, store: Store) -> Run:
    answers = store.lookup(row.evaluate.inputs["responses"])

    def fill(run: "wandb.Run") -> None:
        import wandb

        for key, score in scores_of(row, store).items():
            run.summary[key] = score["value"]
            run.summary[f"{key}/n"] = score["n"]
            if score.get("standard_error") is not None:
                run.summary[f"{key}/standard_error"] = score["standard_error"]
        kept = []
        for response in jsonl.read(folder / "responses.jsonl"):
            clip = clip_of(answers, response["id"]) if response["task"] == "sqa" else None
            if clip:
                verdict = "correct" if response["correct_s2s"] else "incorrect"
                caption = f"{response['question']} | {response['text_answer']} | heard: {response['heard']} ({verdict})"
                kept.append(wandb.Audio(str(clip), caption=shorten(caption)))
        if kept:
            run.log({"spoken answers": kept})

    config = {**row.config, "artifact": row.evaluate.name}
    return Run(row.evaluate.fingerprint[:ID_LENGTH], f"{line.label}, seed {row.seed}", "row", config, fill)


def _fill_grid(run: "wandb.Run", table: Mapping[str, Any], grid: Path) -> None:
    import wandb

    columns = shown(table, "main")
    names = [heading(column) for column in columns]
    told = wandb.Table(columns=["strategy", *(name + part for name in names for part in ("", " ±"))])
    for row in table["rows"]:
        scores = [row["scores"].get(column["key"]) for column in columns]
        told.add_data(label(row), *(value for s in scores for value in ((s["mean"], spread(s)) if s else (None, None))))
    drawn = [name for name in ("figure3", "tradeoff", "ifeval") if (grid / f"{name}.png").exists()]
    shown_too = {name: wandb.Image(str(grid / f"{name}.png")) for name in drawn}
    run.log({"table": told, **shown_too})


def start(
    id: str, name: str, kind: str, config: Mapping[str, Any], mode: str, settings: Mapping[str, Any], grid: Path
) -> "wandb.Run":
    """Open a run in the grid's group: a new one, or, online, the one that has this id already."""
    import wandb

    quiet = wandb.Settings(
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
    return wandb.init(
        mode=mode,  # type: ignore[arg-type]
        id=id[:ID_LENGTH],
        name=name,
        group=grid.name,
        job_type=kind,
        project=settings["project"],
        entity=settings["entity"],
        config=dict(config),
        resume="allow" if mode == "online" else None,
        dir=str(grid.absolute().parents[1]),
        reinit="create_new",
        settings=quiet,
    )


def _write(run: Run, mode: str, settings: Mapping[str, Any], grid: Path) -> None:
    if mode == "offline":
        outputs = grid.absolute().parents[1]
        for half in (outputs / "wandb").glob(f"offline-run-*-{run.id}"):  # an attempt that was cut off before its mark
            shutil.rmtree(half)
    opened = start(run.id, run.name, run.kind, run.config, mode, settings, grid)
    try:
        run.fill(opened)
    except BaseException:
        opened.finish(exit_code=1)
        raise
    opened.finish()


@contextmanager
def _staging(folder: Path) -> Iterator[None]:
    """wandb keeps copies of tables until they are uploaded, in the home folder unless it is told where."""
    before = os.environ.get("WANDB_DATA_DIR")
    os.environ["WANDB_DATA_DIR"] = before or str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["WANDB_DATA_DIR"]


def _close() -> None:
    """End wandb's service process, if it was started."""
    import sys

    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()
