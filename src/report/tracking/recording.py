"""Which runs a grid has, and when they are written: rows as soon as they are scored or have failed, all in the end."""

import logging
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.grid.plan import Plan
from src.grid.row import Row
from src.grid.step import Step, closure
from src.grid.store import Store
from src.report import retention
from src.report.lines import Line, collapse
from src.report.tracking import grids, rows, trainings
from src.report.tracking.training_live import streamed
from src.report.tracking.writing import PATIENCE, Destination, close, write

log = logging.getLogger(__name__)


def record(
    lines: Sequence[Line], forgotten: rows.Forgotten, table: Mapping[str, Any], plan: Plan, store: Store, grid: Path
) -> str:
    """Write what is not written yet of a grid's runs. Returns a line for the user, "" if there is nothing to say."""
    there = Destination.of(plan.rows[0].config.get("tracker") if plan.rows else None, grid)
    if there.mode == "disabled":
        return ""
    steps = [step for row in plan.rows for step in row.steps]
    runs = [*trainings.runs(steps, store), *rows.runs(lines, forgotten, plan, store, grid)]
    if table["columns"]:
        runs.append(grids.run(lines, table, plan, store, grid))
    written = 0
    try:
        for run in runs:
            written += write([run], there)
    except Exception as error:
        gave_up = f"warning: wandb ({there.mode}) gave up after {written} runs of {len(runs)}: {_line(error)}"
        return gave_up + (" (tracker.mode=offline needs no server)" if there.mode == "online" else "")
    finally:
        close()
    if not written:
        return ""
    if there.mode == "offline":
        folder = there.folder
        where = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
        return (f"wandb: {len(runs)} runs are kept offline; to send them: wandb sync {where}/offline-run-*; to look at "
                f"them here: wandb leet {where}")  # fmt: skip
    return f"wandb: {len(runs)} runs in project {there.project}, group {grid.name}"


class Recorder:
    """Within it, a row is written as soon as a step has ended that decides it, by a thread, so that no step waits for
    wandb. Trouble with wandb is a line in the log."""

    def __init__(self, plan: Plan, store: Store, grid: Path) -> None:
        self.plan, self.store, self.grid = plan, store, grid
        self.there = Destination.of(plan.rows[0].config.get("tracker") if plan.rows else None, grid)
        self._looks: queue.SimpleQueue[Sequence[Row] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="wandb rows", daemon=True)

    def __enter__(self) -> "Recorder":
        if self.there.mode != "disabled":
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._looks.put(None)
            self._thread.join(PATIENCE)

    def look(self, among: Sequence[Row]) -> None:
        """If one of these rows is scored, or will not be, write whatever is so and not written."""
        self._looks.put(among)

    @contextmanager
    def watch(self, step: Step) -> Iterator[None]:
        """To be entered while a step is computed: what it measures is sent, and what it decides is written."""
        with streamed(self.store.root, self.there, step):
            yield
        self.look([row for row in self.plan.rows if step in closure(row.steps)])

    def _work(self) -> None:
        try:
            while (among := self._looks.get()) is not None:
                if not any(map(self._decided, among)):
                    continue
                decided = list(filter(self._decided, self.plan.rows))
                lines = collapse(self.plan.rows, self.store)
                forgotten = retention.collect(lines, self.store)
                write(rows.runs(lines, forgotten, self.plan, self.store, self.grid, decided), self.there)
        except Exception as error:
            log.warning("wandb: rows are written with the report, not before: %s", _line(error))

    def _decided(self, row: Row) -> bool:
        return rows.state_of(row, self.store, self.grid)[0] != "not run"


@contextmanager
def watched(plan: Path, store: Path, grid: Path, step: Step) -> Iterator[None]:
    """The same for one step of a frozen plan: for a job."""
    with Recorder(Plan.load(plan), Store(store), grid) as recorder, recorder.watch(step):
        yield


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
