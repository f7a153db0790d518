"""The default launcher: run the plan in processes of this machine, independent steps side by side.

A fork server imports the slow libraries once; every step that needs them is then a fork of it, so that it starts at
once and shares nothing with the other steps. Steps are started in the order of their priority (the longest chain of
work first). When one fails, the rest goes on. Whatever interrupts the run, the same command goes on from what is
complete.
"""

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess, SpawnProcess
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from launchers.base import scheduler, scheduler_names
from launchers.grid import Grid, GridLauncher, freeze, named_gpu, point_latest, write_report
from launchers.view import View, duration, plan_table
from src.grid.devices import VISIBLE, visible
from src.grid.errors import ConfigError
from src.grid.execute import (
    Watch,
    failure_file,
    failure_reason,
    log_file,
    record_failure,
    unwatched,
    work_on,
)
from src.grid.plan import Entry, Plan
from src.grid.processes import ending, fork_server, memory_kills
from src.grid.space import lacking
from src.grid.step import Step
from src.grid.store import Store
from src.machine.loads import loads
from src.machine.refusals import refusal
from src.machine.requirements import answers, requirements
from src.machine.software import packages_asked_for
from src.steps.train import Train

Process = ForkServerProcess | SpawnProcess

GRACE = 5.0
"""Seconds that an interrupted step gets to end by itself."""
ORPHANED = 255
"""What multiprocessing takes for the exit code of a process whose fork server was killed. It may go on by itself."""
NAMED = 12
"""Steps that are named where many could not be run."""


class LocalLauncher(GridLauncher):
    """`hydra/launcher=local`"""

    def __init__(self, workers: int | None = None, gpus: int | None = None, gpu: Any = None) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.workers = cores if workers is None else workers
        self.gpus, self.given = gpus, gpu

    def check(self) -> None:
        """The numbers of workers and GPUs."""
        if not isinstance(self.workers, int) or self.workers < 1:
            raise ConfigError(f"hydra.launcher.workers={self.workers}: give a number from 1 up, or null for all cores")
        if self.gpus is not None and (not isinstance(self.gpus, int) or self.gpus < 0):
            raise ConfigError(f"hydra.launcher.gpus={self.gpus}: give a number, or null for all that there are")
        self.gpu = named_gpu(self.given)
        self.devices = usable(self.gpus)

    def show(self, grid: Grid, console: Console) -> None:
        """The plan."""
        console.print(plan_table(grid.plan, self.workers, grid.store.damaged, len(self.devices or ())))

    def run(self, grid: Grid, console: Console) -> None:
        """Run the plan, write the report. Exits as run_grid() does."""
        for place in filter(None, (scheduler(name).place() for name in scheduler_names())):
            place.enter()  # leases then say in which job this process runs
        run_grid(grid, self.workers, console, self.devices)

    def fault(self, grid: Grid) -> str | None:
        """What is missing here of packages and GPUs. `gpus=0` is to do without GPUs, whatever the plan says."""
        rows = grid.plan.rows if grid.plan.missing() else ()
        wanting = [found for row in rows for found in packages_asked_for(row.config) if found.state == "no"]
        if wanting:
            return f"{wanting[0].text}: {wanting[0].remedy}"
        wide = [entry.step for entry in grid.plan.missing() if entry.step.gpu]
        if not wide or self.gpus == 0:
            return None
        if not self.devices:
            if self.gpu.memory_gb is None and not any(row.config.get("gpu") for row in grid.plan.rows):
                return None
            return ("the plan is for a GPU (gpu), and there is none here: run it where there is one, hand it to a "
                    "cluster (another hydra/launcher), or compute it without (hydra.launcher.gpus=0)")  # fmt: skip
        most, count = max(step.ranks for step in wide), len(self.devices)
        if most > count:
            line = f"train.ranks={most}: there are {count} GPUs here, and each rank needs one: set train.ranks={count}"
            by_ranks = any(isinstance(step, Train) and step.optimization.loss_average == "ranks" for step in wide)
            return line + (" train.loss_average=examples, which is the same on any number" if by_ranks else "")
        sizes = [(device.memory_gb, device.name) for device in visible()[:count] if device.memory_gb is not None]
        if not sizes:
            return None
        memory, name = min(sizes)
        here = {"name": name, "memory_gb": math.floor(10 * memory) / 10}
        return refusal(requirements(grid.plan, grid.store, here), answers(grid.plan, here), loads(grid.plan, here))


def usable(gpus: int | None) -> list[str] | None:
    """The GPUs that steps may use, as CUDA_VISIBLE_DEVICES names them: the first `gpus`, or all that there are.

    None where none was found or asked for: what CUDA finds is then left to the steps.
    """
    found = [device.id for device in visible()] if gpus != 0 else []
    if gpus is None:
        return found or None
    return (found or [str(number) for number in range(gpus)])[:gpus]


def run_grid(grid: Grid, workers: int, console: Console, devices: Sequence[str] | None = None) -> None:
    """Freeze the plan, run it, write the report. Exits with 1 if a step or the report fails, 130 on Ctrl-C or SIGTERM.

    devices: as of run_plan().
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends in order, as on Ctrl-C
    try:
        freeze(grid.plan, grid.store, grid.folder, (entry.step.name for entry in grid.plan.missing()))
        point_latest(grid.folder)
    except OSError as error:
        raise ConfigError(f"{grid.folder} cannot be written: {error.strerror}") from None
    ahead, total = grid.plan.to_compute(), len(grid.plan.entries)
    estimate = ""
    if ahead.steps:
        by = f"{workers} workers" + (f" and {len(devices)} GPUs" if devices else "")
        estimate = f", about {duration(grid.plan.makespan(workers, gpus=len(devices or ())))} by {by}"
    console.print(f"{len(grid.plan.rows)} rows, {total} steps, {ahead.steps} to compute{estimate}", highlight=False)
    for name, fault in grid.store.damaged.items():
        text = f"damaged: {name}: {fault}. It does not count and is computed again."
        console.print(text, style="yellow", markup=False, highlight=False)
    from src.report.tracking.recording import Recorder  # numpy, which a plan does without

    with Recorder(grid.plan, grid.store, grid.folder) as recorder:
        if ahead.steps:  # else the report comes at once, with all rows
            recorder.look(grid.plan.rows)
        outcome = run_plan(
            grid.plan, grid.store, grid.folder, workers, console, watch=recorder.watch, devices=devices
        )
    if outcome.interrupted:
        done = total - ahead.steps + len(outcome.done)
        text = f"Interrupted. {done} of {total} steps are complete and kept; the same command goes on from there."
        console.print(text, style="bold yellow", highlight=False)
        sys.exit(130)
    written, text = write_report(grid.plan, grid.store, grid.folder)
    print(text)
    for name, (reason, file) in outcome.failed.items():
        text = f"failed: {name}: {reason}\n  {file}"
        console.print(text, style="bold red", markup=False, highlight=False, soft_wrap=True)
    if outcome.blocked:
        labels = [grid.plan[name].label for name in outcome.blocked]
        more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
        text = f"not run, because of that: {', '.join(labels[:NAMED])}{more}"
        console.print(text, style="yellow", markup=False, highlight=False)
    if outcome.failed or not written:
        sys.exit(1)
    console.print(str(grid.folder), markup=False, highlight=False)


@dataclass
class Outcome:
    """How an execution ended, by the names of the steps."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, tuple[str, Path]] = field(default_factory=dict)
    """Name -> last line of the traceback (or how the process died), file that holds all of it."""
    blocked: list[str] = field(default_factory=list)
    """Not run, because a step that they need failed."""
    interrupted: bool = False


def run_plan(
    plan: Plan,
    store: Store,
    grid: Path,
    workers: int,
    console: Console,
    watch: Watch = unwatched,
    devices: Sequence[str] | None = None,
) -> Outcome:
    """Compute the plan's missing steps in `workers` processes. Ctrl-C ends it in order, with `interrupted` set.

    watch: entered for each step while it runs. devices: GPUs by the names of CUDA_VISIBLE_DEVICES. A step that computes
    with a model has one for each rank to itself, and waits while there is none; the others see none. None: all steps
    see what this process sees.
    """
    waiting = {entry.step.name: entry for entry in sorted(plan.missing(), key=lambda entry: -entry.priority)}
    outcome = Outcome()
    running: dict[str, Process] = {}
    if not waiting:
        return outcome
    if any(entry.step.needs for entry in waiting.values()):
        console.print("loading the libraries, once for all workers", style="dim", highlight=False)
    if devices is not None and not devices:
        os.environ[VISIBLE] = ""  # for the fork server, too: DeepSpeed looks for a GPU when it is imported
    forking = partial(fork_server, [entry.step for entry in waiting.values()], grid / "logs" / "libraries.log")
    spawning = multiprocessing.get_context("spawn")  # for steps that need not wait for the fork server's imports
    free = workers
    idle = list(devices or ())
    lent: dict[str, list[str]] = {}
    orphaned: set[str] = set()
    kills = memory_kills()
    try:
        with View(plan, store, workers, console, len(idle)) as view, ExitStack() as watched:
            watches: dict[str, ExitStack] = {}

            def failed(name: str, reason: str) -> None:
                outcome.failed[name] = (reason, failure_file(grid, name))
                view.end(plan[name], "failed", reason)
                lost = _dependents(name, waiting)
                outcome.blocked += lost
                view.skip(lost, plan[name])
                for dependent in lost:
                    del waiting[dependent]

            while waiting or running:
                queued = False
                for name in _ready(waiting, running):
                    step = plan[name]
                    if step.alone and any(plan[other].alone for other in running):
                        continue
                    width = min(step.ranks, workers)
                    if width > free:
                        break  # and nothing less urgent goes first: a step of many ranks would wait for ever
                    cards = step.ranks if devices and step.gpu else 0
                    if cards and (queued or cards > len(idle)):
                        queued = True  # for the same reason; what needs no GPU goes on
                        continue
                    entry = waiting.pop(name)
                    if fault := lacking(store.root, entry.megabytes):
                        record_failure(failure_file(grid, name), f"{fault}\n")
                        failed(name, fault)
                        break
                    lent[name], idle = idle[:cards], idle[cards:]
                    seen = None if devices is None else ",".join(lent[name])
                    context = forking() if step.needs else spawning
                    watches[name] = watched.enter_context(ExitStack())
                    watches[name].enter_context(watch(step))
                    arguments = {"devices": seen}
                    process = context.Process(target=work_on, args=(step, store, grid), kwargs=arguments, name=name)
                    _start(process, forking)
                    running[name] = process
                    view.start(step)
                    free -= width
                view.refresh()
                connection.wait([process.sentinel for process in running.values()], timeout=0.5)
                for name in [name for name, process in running.items() if not process.is_alive()]:
                    process = running.pop(name)
                    process.join()
                    watches.pop(name).close()
                    free += min(plan[name].ranks, workers)
                    idle += lent.pop(name)
                    if process.exitcode == 0:
                        outcome.done.append(name)
                        view.end(plan[name], "done")
                    elif process.exitcode == ORPHANED and name not in orphaned:
                        orphaned.add(name)
                        _stop([process])
                        waiting = {name: plan.entries[name], **waiting}
                        view.again(plan[name], "the process that starts the workers was killed")
                    else:
                        failed(name, _failure(plan[name], store, grid, process.exitcode, kills))
                        kills = memory_kills()
    except KeyboardInterrupt:
        outcome.interrupted = True
    finally:
        _stop(running.values())
    return outcome


def _start(process: Process, forking: Callable[[], object]) -> None:
    """Start it. A fork server that is being killed refuses, and for a moment still looks alive: it is asked again.

    forking: sees to it that there is a fork server.
    """
    deadline = time.monotonic() + GRACE
    while True:
        try:
            process.start()
        except (ConnectionError, EOFError):
            if time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(0.1)
        forking()


def _ready(waiting: Mapping[str, Entry], running: Mapping[str, Any]) -> list[str]:
    """Steps all of whose inputs are in the store, the most urgent first."""
    unfinished = waiting.keys() | running.keys()
    return [n for n, e in waiting.items() if not any(s.name in unfinished for s in e.step.inputs.values())]


def _dependents(name: str, waiting: Mapping[str, Entry]) -> list[str]:
    """The waiting steps that need `name`, directly or not."""
    lost = {name}
    grown = True
    while grown:
        found = {n for n, e in waiting.items() if any(s.name in lost for s in e.step.inputs.values())}
        grown = not found <= lost
        lost |= found
    return [n for n in waiting if n in lost]


def _failure(step: Step, store: Store, grid: Path, exitcode: int | None, kills: int) -> str:
    """Why the step failed, in one line; the failure file says it at length, where there is space to write it."""
    file = failure_file(grid, step.name)
    if exitcode == 1 and file.exists():
        return failure_reason(file)
    reason = lacking(store.root) or f"its process {ending(exitcode, kills)}"
    log = log_file(grid, step.name)
    tail = log.read_text(encoding="utf-8", errors="replace")[-4000:] if log.exists() else ""
    record_failure(file, f"The end of its output ({log}):\n{tail}\n\n{reason}\n")
    return reason


def _stop(processes: Iterable[Process]) -> None:
    """End the steps with all their processes: asked first, so that leases are given back, then killed."""
    alive = list(processes)
    for sent in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE
        for process in alive:
            try:
                os.killpg(cast(int, process.pid), sent)
            except ProcessLookupError:
                process.terminate()
        for process in alive:
            process.join(max(0.0, deadline - time.monotonic()))
        alive = [process for process in alive if process.is_alive()]
