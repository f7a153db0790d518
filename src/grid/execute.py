"""Compute one step of a frozen plan: `python -m src.grid.execute outputs/grids/NAME/plan.json STEP`.

Whoever runs a step (a local worker, a job) does the same: take the lease, look into the store again, verify the inputs,
run the body beside the store, publish. A process that is killed at any moment leaves a store that is right.
"""

import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import closing
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

from src.grid import lease
from src.grid.bodies import BODIES, Body
from src.grid.context import Context, progress_file
from src.grid.errors import PlanError, StepError
from src.grid.plan import Plan
from src.grid.step import Step, canonical
from src.grid.store import Store

Bodies = Mapping[str, Body]


def execute(step: Step, store: Store, bodies: Bodies = BODIES) -> Path:
    """The step's artifact folder, computed here unless the store has it or another process is computing it.

    Raises StepError if an input is missing or damaged, and whatever the body raises.
    """

    def done() -> bool:
        return store.lookup(step) is not None

    work = store.work(step)
    held = lease.acquire(work, done)
    if held:
        with held:
            inputs = {role: _verified(source, step, store) for role, source in step.inputs.items()}
            out = _empty_out(work, held.attempt)
            start = time.monotonic()
            summary = _compute(step, bodies, inputs, out, work)
            canonical(summary)  # a summary that is not JSON fails here, by name, and not inside the manifest
            if not held.held():
                raise StepError(f"{step.name}: another process took the step over while this one was silent")
            store.publish(step, out, summary, time.monotonic() - start)
            shutil.rmtree(work, ignore_errors=True)
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


def _compute(step: Step, bodies: Bodies, inputs: Mapping[str, Path], out: Path, work: Path) -> dict[str, Any]:
    """Run the body, in this process or in as many as the step has ranks."""
    if step.ranks == 1:
        return _run_rank(0, 1, _free_port(), bodies[step.kind], step, inputs, out, work)
    context = multiprocessing.get_context("forkserver")
    port, group = _free_port(), os.getpgrp()
    ranks = {}
    for rank in range(step.ranks):
        receiver, sender = context.Pipe(duplex=False)
        arguments = (sender, rank, step.ranks, port, bodies[step.kind], step, inputs, out, work, group, _log_file)
        process = context.Process(target=_rank_process, args=arguments, name=f"{step.name}-rank{rank}")
        process.start()
        sender.close()
        ranks[receiver] = (rank, process)
    summary: dict[str, Any] = {}
    try:
        waiting = set(ranks)
        while waiting:
            for ready in wait(waiting):
                receiver = cast(Connection, ready)
                rank, process = ranks[receiver]
                waiting.remove(receiver)
                try:
                    result, error = receiver.recv()
                except EOFError:
                    process.join()
                    raise StepError(f"{step.name}: rank {rank} {ending(process.exitcode)}") from None
                if error:
                    raise StepError(f"{step.name}: rank {rank} failed\n{error}")
                if rank == 0:
                    summary = result
    finally:
        for _, process in ranks.values():
            process.kill()
            process.join()
    return summary


def _run_rank(
    rank: int,
    size: int,
    port: int,
    body: Body,
    step: Step,
    inputs: Mapping[str, Path],
    out: Path,
    work: Path,
) -> dict[str, Any]:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    return body.load()(step.config, inputs, out, Context(work.resolve(), step.label, silent=rank > 0))


def _rank_process(sender: Connection, rank: int, *arguments: Any) -> None:
    *rest, group, log_file = arguments
    enter_child(log_file, group)
    try:
        sender.send((_run_rank(rank, *rest), None))
    except BaseException:
        sender.send((None, traceback.format_exc()))
        sys.exit(1)


def work_on(step: Step, store: Store, grid: Path, bodies: Bodies = BODIES) -> None:
    """Body of a worker process: compute the step, or leave its traceback in the grid's folder and exit with code 1."""
    enter_child(grid / "logs" / f"{step.name}.log", 0)
    if not run_recorded(step, store, grid, bodies):
        sys.exit(1)


def run_recorded(step: Step, store: Store, grid: Path, bodies: Bodies = BODIES) -> bool:
    """Compute the step; on failure write the traceback to `<grid>/failures/<name>.txt` and return False."""
    file = failure_file(grid, step.name)
    file.unlink(missing_ok=True)
    try:
        execute(step, store, bodies)
    except Exception:
        traceback.print_exc()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(traceback.format_exc(), encoding="utf-8")
        return False
    return True


def failure_file(grid: Path, name: str) -> Path:
    """Where the traceback of a failed step is kept."""
    return grid / "failures" / f"{name}.txt"


_log_file: Path | None = None
"""Where this process writes its output, if not where its parent does."""


def enter_child(log_file: Path | None, group: int) -> None:
    """Set up a new process: its output goes to `log_file`, it is in `group` (0: its own), and it ends with its parent.

    A step and all its ranks are one group, so that one signal reaches what they start as well.
    """
    global _log_file
    _log_file = log_file
    os.setpgid(0, group)
    if log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the lease is released
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def ending(exitcode: int | None) -> str:
    """How a process ended, in words."""
    if exitcode is not None and exitcode < 0:
        return f"was killed by signal {-exitcode} ({signal.Signals(-exitcode).name})"
    return f"ended with exit code {exitcode}"


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def main(arguments: list[str]) -> int:
    """Run one step of a frozen plan in this process."""
    if len(arguments) != 2:
        print("usage: python -m src.grid.execute PLAN.json STEP", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
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
