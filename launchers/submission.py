"""Submission of a plan to a scheduler: every missing step becomes a job, dependencies between jobs replace the driver.

What is submitted is frozen: the plan, and a copy of the source, are kept in `<grid>/submissions/N/`. A job waits for
the success of those that it needs, and the scheduler cancels it if one of them fails. The report waits for the end of
all. A step that a job of another grid is computing is waited for, and then found in the store.
"""

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from launchers.base import Request, Scheduler, SchedulerError
from launchers.bundles import Bundle, bundles
from launchers.grid import freeze, point_latest, write_report
from launchers.resources import REPORT, Settings, cost
from launchers.sent import Sent, claim, claim_file, read_claim, read_sent, settings_file, submission_folder
from launchers.snapshot import ROOT, snapshot
from launchers.view import counted, ranges
from src.grid.errors import ConfigError
from src.grid.files import there
from src.grid.job import Job
from src.grid.plan import Plan
from src.grid.step import canonical
from src.grid.store import Store

PATIENCE = 180.0
"""Seconds for which a scheduler that is away is asked again."""


def submit(
    plan: Plan, store: Store, folder: Path, scheduler: Scheduler, settings: Settings, console: Console
) -> list[Sent]:
    """Submit the plan's missing steps and the report; the jobs. Where nothing is missing, the report is written here.

    Raises ConfigError, and cancels what it submitted, if the scheduler refuses a job.
    """
    if lacking := scheduler.lacking():
        raise ConfigError(f"hydra/launcher={scheduler.name} needs {lacking[0]} on the PATH: run it on a login node, or "
                          "use hydra/launcher=local")  # fmt: skip
    store, folder = Store(store.root.absolute()), folder.absolute()
    alive = living(store, folder, plan, scheduler)
    missing = [e.step.name for e in plan.missing() if e.step.name not in alive.own]
    made = bundles(plan, missing, 60 * settings.pack_minutes)
    for bundle in made:
        settings.of(bundle)  # raises before anything is written
    _ = settings.of_report
    closed = [work for work in (claim_file(store, name).parent for name in missing) if not _writable(work)]
    if closed:
        raise ConfigError(f"{closed[0]} cannot be written: a store that several users share needs a common group "
                          "(chgrp -R, chmod -R g+rws on its folders, and umask 002 for all)")  # fmt: skip
    if not missing and alive.own and alive.report:
        jobs = ranges(dict.fromkeys(sent.job for sent in alive.own.values()))
        console.print(f"All that is missing was already submitted, with the settings of then: jobs {jobs}. "
                      f"To submit it anew: src.cancel {folder.name}", highlight=False, soft_wrap=True)  # fmt: skip
        return []
    freeze(plan, store, folder, [*missing, REPORT])
    if not missing and not alive.own:
        point_latest(folder)
        written, text = write_report(plan, store, folder)
        console.print("Nothing is left to compute.", highlight=False)
        print(text)
        if not written:
            sys.exit(1)
        return []
    submission = Submission(plan, store, folder, scheduler, settings, _number(folder), dict(alive.own), alive.others)
    try:
        submission.send(made)
    except BaseException as error:
        left = [sent.job for sent in submission.sent]
        try:
            scheduler.cancel(left, PATIENCE)
        except SchedulerError as fault:
            raise ConfigError(f"{error}; but jobs {' '.join(left)} could not be cancelled ({fault})") from None
        if left and isinstance(error, ConfigError):
            raise ConfigError(f"{error}; {counted(len(left), 'job')} of this grid cancelled again") from None
        raise
    point_latest(folder)
    if alive.report:  # the new one waits for everything
        scheduler.cancel([alive.report], PATIENCE)
    _tell(plan, folder, settings, made, submission, alive, console)
    return submission.sent


def _tell(
    plan: Plan, folder: Path, settings: Settings, made: Sequence[Bundle], submission: "Submission", alive: "Living",
    console: Console,
) -> None:  # fmt: skip
    """What was submitted, what it will cost, and how to go on."""
    total, missing = len(plan.entries), sum(len(bundle.entries) for bundle in made)
    kept = [f"{total - missing - len(alive.own)} cached"]
    kept += [f"{len(alive.own)} already submitted"] if alive.own else []
    kept += [f"{len(alive.others)} of them for a job of another grid to compute"] if alive.others else []
    jobs = [sent.job for sent in submission.sent]
    gpu, core = cost(made, settings)
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    outputs = folder.parents[1]
    elsewhere = "" if outputs == Path("outputs").absolute() else f" --outputs {shlex.quote(str(outputs))}"
    lines = [
        f"{counted(len(plan.rows), 'row')}, {counted(total, 'step')}: {missing} submitted as "
        f"{counted(len(jobs) - 1, 'job')} and the report, " + ", ".join(kept),
        f"jobs     {ranges(jobs)}",
        f"cost     about {gpu:.1f} GPU-hours, {core:.1f} core-hours (estimated)",
        f"folder   {shown}",
        f"next     python -m src.status {folder.name}{elsewhere}  (also src.logs, src.retry, src.cancel)",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Living:
    """Steps for which there is a job that is queued or runs, by name: of this grid, and of others."""

    own: Mapping[str, Sent]
    others: Mapping[str, str]
    report: str | None
    """The job of this grid's report, if it is alive."""


def living(store: Store, folder: Path, plan: Plan, scheduler: Scheduler) -> Living:
    """Ask the scheduler which of its jobs for the plan's missing steps are alive. Raises ConfigError if it is away."""
    missing = [entry.step.name for entry in plan.missing()]
    everything = {name: sent for sent in read_sent(folder) if sent.scheduler == scheduler.name for name in sent.steps}
    own = {name: sent for name, sent in everything.items() if name in missing}
    report = everything[REPORT].job if REPORT in everything else None
    claims = {name: read_claim(store, name) for name in missing}
    others: dict[str, str] = {
        name: told["job"]
        for name, told in claims.items()
        if told.get("scheduler") == scheduler.name and told["grid"] != str(folder)
    }
    asked = [*(sent.job for sent in own.values()), *others.values(), *([report] if report else [])]
    if not asked:
        return Living({}, {}, None)
    try:
        alive = {job for job, queued in scheduler.state(asked, PATIENCE).items() if queued.alive}
    except SchedulerError as error:
        raise ConfigError(f"{scheduler.title} cannot be asked: {error}") from None
    return Living(
        {name: sent for name, sent in own.items() if sent.job in alive},
        {name: job for name, job in others.items() if job in alive and not (name in own and own[name].job in alive)},
        report if report in alive else None,
    )


@dataclass
class Submission:
    """Requests in the order of the plan: the ids of earlier jobs are what later ones wait for."""

    plan: Plan
    store: Store
    folder: Path
    scheduler: Scheduler
    settings: Settings
    number: int
    jobs: dict[str, Sent]
    """Step -> the job of this grid that computes it."""
    others: Mapping[str, str]
    """Step -> a job of another grid that computes it."""
    sent: list[Sent] = field(default_factory=list)

    def send(self, made: Sequence[Bundle]) -> None:
        """Freeze plan and source, then submit all bundles and the report."""
        home = submission_folder(self.folder, self.number)
        plan, seconds = home / "plan.json", 60 * self.settings.checkpoint_minutes
        self.plan.save(plan)
        text = json.dumps(asdict(self.settings), indent=1)
        settings_file(self.folder, self.number).write_text(text, encoding="utf-8")
        code = snapshot(home / "code") if self.settings.snapshot else ROOT
        from src.report.tracking.recording import watched  # numpy, which a plan does without

        watch = partial(watched, plan, self.store.root, self.folder)
        earlier, place = dict(self.jobs), self.scheduler.place
        for group in _groups(made, self.settings, self.others, self.scheduler.most):
            jobs = [Job(plan, self.store.root, self.folder, bundle.names, seconds, place, watch) for bundle in group]
            name = group[0].names[0] if len(group) == 1 else f"{'-'.join(group[0].kinds)}-x{len(group)}"
            resources, ranks, waits = self.settings.of(group[0]), group[0].ranks, self._waits(group[0], earlier)
            ids = self._submit(Request(name, jobs, resources, ranks, *waits, self.folder, code))
            for job, bundle in zip(ids, group, strict=True):
                self._note(job, bundle.names)
        everything = list(dict.fromkeys(sent.job for sent in [*self.jobs.values(), *self.sent]))
        report = partial(write_report_job, plan, self.store.root, self.folder)
        name, resources = f"report-{self.folder.name}", self.settings.of_report
        (job,) = self._submit(Request(name, [report], resources, 1, [], everything, self.folder, code))
        self._note(job, (REPORT,))

    def _submit(self, request: Request) -> list[str]:
        return self.scheduler.submit(request, self.settings, PATIENCE)

    def _waits(self, bundle: Bundle, earlier: Mapping[str, Sent]) -> tuple[list[str], list[str]]:
        """The jobs that have to succeed, and those that have to be over: jobs of several steps and of other grids.
        After those, this one looks into the store. `earlier`: jobs of an earlier submission that are alive."""
        success: list[str] = []
        end = [self.others[name] for name in bundle.names if name in self.others]
        for name in sorted(bundle.after | (_inputs(bundle) & earlier.keys())):
            (success if len(self.jobs[name].steps) == 1 else end).append(self.jobs[name].job)
        return list(dict.fromkeys(success)), list(dict.fromkeys(end))

    def _note(self, job: str, names: tuple[str, ...]) -> None:
        """Keep who computes what, for this grid's commands and for other grids."""
        others = {name: self.others[name] for name in names if name in self.others}
        sent = Sent(self.scheduler.name, job, names, self.number, others)
        self.sent.append(sent)
        sent.note(self.folder)
        for name in names:
            if name != REPORT:
                self.jobs[name] = sent
                claim(self.store, name, self.scheduler.name, job, self.folder)


def write_report_job(plan: Path, store: Path, folder: Path) -> None:
    """Body of the report's job."""
    written, text = write_report(Plan.load(plan), Store(store), folder)
    print(text)
    if not written:
        sys.exit(1)


def _groups(
    made: Sequence[Bundle], settings: Settings, others: Mapping[str, str], most: int
) -> Iterator[list[Bundle]]:
    """Bundles that ask for the same and wait for the same go out together, `most` at a time. Every group comes after
    what it needs."""
    groups: dict[Any, list[Bundle]] = {}
    for bundle in made:
        alone = bundle.names if bundle.ranks > 1 or any(name in others for name in bundle.names) else ()
        key = (canonical(asdict(settings.of(bundle))), bundle.after, _inputs(bundle), bundle.kinds, alone)
        groups.setdefault(key, []).append(bundle)
    for group in groups.values():
        yield from (group[i : i + most] for i in range(0, len(group), most))


def _inputs(bundle: Bundle) -> frozenset[str]:
    """What the bundle reads and does not make itself."""
    return frozenset(s.name for e in bundle.entries for s in e.step.inputs.values() if s.name not in bundle.names)


def _number(folder: Path) -> int:
    """The number of a new submission, whose folder is made here: two at once get two."""
    number = 1 + len(list(folder.glob("submissions/*")))
    while True:
        try:
            submission_folder(folder, number).mkdir(parents=True)
            return number
        except FileExistsError:
            number += 1


def _writable(folder: Path) -> bool:
    """Whether this user can write there, or make it."""
    return os.access(there(folder), os.W_OK)
