"""While a step trains, its measurements go to wandb as they come, where wandb is online.

The run's id is the step's fingerprint, so that a step which is requeued goes on in the same run, and the report, which
writes every training run whole in the end, completes this one. Offline there is nothing to watch, and a folder that is
written by several attempts would become several runs: there the report alone writes.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.data import jsonl
from src.grid.context import metrics_file
from src.grid.step import Step
from src.grid.store import Store
from src.report.tracking import trainings
from src.report.tracking.writing import Destination, start

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between two looks at the measurements."""
PATIENCE = 15.0
"""Seconds that a step waits for wandb when it has ended."""


@contextmanager
def streamed(store: Path, there: Destination, step: Step) -> Iterator[None]:
    """Within it, what the step measures is sent. Trouble with wandb is a line in the log."""
    if step.kind not in trainings.TRAINED or there.mode != "online":
        yield
        return
    work = Store(store).work(step)
    metrics_file(work).unlink(missing_ok=True)  # of an attempt before this one
    over = threading.Event()
    thread = threading.Thread(target=_send, args=(work, there, step, over), name="wandb", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(PATIENCE)


def _send(work: Path, there: Destination, step: Step, over: threading.Event) -> None:
    run, sent = None, 0
    try:
        while True:
            last = over.wait(INTERVAL)
            for point in _read(metrics_file(work)):
                number = int(point.pop("step"))
                if number <= sent:
                    continue
                if run is None:
                    id, about = trainings.run_id(step), trainings.config(step)
                    run = start(id, step.name, "train", about, there, ("train",))
                run.log(point, step=number)
                sent = number
            if last:
                break
    except Exception as error:
        log.warning("wandb: %s is no longer shown live: %s", step.name, " ".join(str(error).split())[:300])
    finally:
        if run is not None:
            run.finish()


def _read(file: Path) -> list[dict[str, Any]]:
    """The whole lines of the file; a published step's file is gone."""
    try:
        return list(jsonl.read(file))
    except (OSError, ValueError):
        return []
