"""Compute one step of a frozen plan: `python -m src.grid.execute outputs/grids/NAME/plan.json STEP`.

Whoever runs a step (a local worker, a job) does the same: take the lease, look into the store again, verify the inputs,
run the step beside the store, publish. A process that is killed at any moment leaves a store that is right.
"""

import logging
import os
import re
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from src.grid import lease
from src.grid.context import listen_for_stop, progress_file
from src.grid.errors import PlanError, StepError
from src.grid.plan import Plan
from src.grid.processes import enter_child
from src.grid.ranks import Task, compute
from src.grid.source import reaching
from src.grid.space import full, is_full
from src.grid.step import Step, canonical
from src.grid.store import Store

log = logging.getLogger(__name__)

LOST_PEER = re.compile(r"(closed|reset|aborted) by peer|connection (closed|reset|refused)|gloo|nccl", re.IGNORECASE)
"""In the message of a rank whose neighbor is gone: the neighbor's end is the cause, and its own story."""
PEER_SECONDS = 20.0

Watch = Callable[[Step], AbstractContextManager[None]]
"""Something to be entered while a step is computed by another process."""


def unwatched(_: Step) -> AbstractContextManager[None]:
    """Watches nothing."""
    return nullcontext()


class Superseded(StepError):
    """Another attempt at the step began while this one was thought dead; what this one does counts no more."""


def execute(
    step: Step, store: Store, checkpoint_seconds: float = 60.0, task: Task | None = None
) -> Path:
    """The step's artifact folder, computed here unless the store has it or another process is computing it.

    `task`: this process as rank 0 of those that a job started for the step.

    Raises StepError if an input is missing or damaged, and whatever the step raises.
    """

    def done() -> bool:
        return store.lookup(step) is not None

    work = store.work(step)
    held = lease.acquire(work, done)
    if held:
        with held:
            inputs = {source: _verified(source, step, store) for source in step.inputs.values()}
            read = {role: store.content(source) for role, source in step.inputs.items()}
            source_files = reaching(step)
            out = _empty_out(work, held.attempt)
            start = time.monotonic()
            try:
                summary = compute(step, inputs, out, work, held.attempt, checkpoint_seconds, task)
            except Exception as error:
                if not held.held():
                    raise Superseded(f"{step.name}: another process took the step over") from error
                raise
            canonical(summary)  # a summary that is not JSON fails here, by name, and not inside the manifest
            if not held.held():
                raise Superseded(f"{step.name}: another process took the step over while this one was silent")
            seconds = time.monotonic() - start
            store.publish(step, out, summary, seconds, source_files, read)
            log.info("%s: published after %.1f s", step.name, seconds)
            shutil.rmtree(work, ignore_errors=True)
    elif task and task.size > 1:
        task.invite(None)
    return store.folder(step)


def _verified(source: Step, step: Step, store: Store) -> Path:
    folder = store.lookup(source, rehash=True)
    if folder is None:
        raise StepError(f"{step.name} needs {source.name}, which is missing or damaged in {store.root}")
    return folder.resolve()


def _empty_out(work: Path, attempt: int) -> Path:
    """A folder of this attempt alone: what an earlier attempt may still be writing goes nowhere."""
    for old in work.glob("out-*"):
        shutil.rmtree(old, ignore_errors=True)
    progress_file(work).unlink(missing_ok=True)
    out = work.resolve() / f"out-{attempt}"
    out.mkdir()
    return out


def work_on(
    step: Step, store: Store, grid: Path, checkpoint_seconds: float = 60.0, task: Task | None = None,
    devices: str | None = None,
) -> None:  # fmt: skip
    """What a worker process does: compute the step, or leave its traceback in the grid's folder and exit with code 1.

    devices: the GPUs that it may use, as in CUDA_VISIBLE_DEVICES; None: those of its parent.
    """
    enter_child(log_file(grid, step.name), None if task else 0, devices)
    if not run_recorded(step, store, grid, checkpoint_seconds, task):
        sys.exit(1)


def run_recorded(
    step: Step, store: Store, grid: Path, checkpoint_seconds: float = 60.0, task: Task | None = None
) -> bool:
    """Compute the step; on failure write the traceback to `<grid>/failures/<name>.txt` and return False.

    A rank of several leaves the file of a rank that failed before it.
    """
    file = failure_file(grid, step.name)
    if not task:
        file.unlink(missing_ok=True)
    try:
        if task and task.rank > 0:
            task.join(step)
        else:
            execute(step, store, checkpoint_seconds, task)
    except Superseded:
        traceback.print_exc()
        return False
    except Exception as error:
        text = traceback.format_exc()
        with suppress(OSError):  # on a full disk
            print(text, file=sys.stderr)
        if is_full(error, store.root):
            text += f"\n{full(store.root)}\n"
        where = ""
        if task and task.size > 1:
            where = f"rank {task.rank} on {os.uname().nodename}\n"
            if LOST_PEER.search(str(error)):
                time.sleep(PEER_SECONDS)  # the scheduler ends this rank meanwhile, because of the other
        record_failure(file, where + text)
        return False
    return True


def failure_file(grid: Path, name: str) -> Path:
    """Where the traceback of a failed step is kept."""
    return grid / "failures" / f"{name}.txt"


def record_failure(file: Path, text: str) -> None:
    """Write the file, unless there is one: the first failure is the cause of the others.

    Where it cannot be written the log says so: the failure is what counts.
    """
    temporary = file.with_name(f".{file.name}-{os.uname().nodename}-{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.link(temporary, file)
    except FileExistsError:
        pass
    except OSError as error:
        log.error("%s cannot be written: %s", file, error.strerror)
    finally:
        with suppress(OSError):
            temporary.unlink()


def failure_reason(file: Path) -> str:
    """The line of a recorded failure that says most."""
    return reason_in(file.read_text(encoding="utf-8", errors="replace"))


def reason_in(traceback: str) -> str:
    """The line of a traceback that says most: the last."""
    lines = [line for line in traceback.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it left no message"


def log_file(grid: Path, name: str) -> Path:
    """Where the output of a step is kept."""
    return grid / "logs" / f"{name}.log"


def main(arguments: list[str]) -> int:
    """Run one step of a frozen plan in this process."""
    if len(arguments) != 2:
        print("usage: python -m src.grid.execute PLAN.json STEP", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    listen_for_stop()
    file = Path(arguments[0]).resolve()
    try:
        step = Plan.load(file)[arguments[1]]
    except PlanError as error:
        print(error, file=sys.stderr)
        return 2
    grid = file.parent
    return 0 if run_recorded(step, Store(grid.parents[1] / "store"), grid) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
