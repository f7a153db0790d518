"""Where every step of a grid stands: from the store first, then from its scheduler. A local grid has no jobs."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from launchers.base import DEPENDENCY, Queued, SchedulerError, scheduler
from launchers.resources import REPORT
from launchers.sent import Sent, read_sent
from launchers.view import duration, numbers_text
from src.grid import lease
from src.grid.context import read_progress
from src.grid.execute import failure_file, failure_reason
from src.grid.job import read_attempts
from src.grid.plan import Plan
from src.grid.step import Step
from src.grid.store import Store
from src.report.table import to_text

STYLES = {
    "cached": "green", "done": "green", "running": "bold cyan", "queued": "", "waiting": "dim", "failed": "bold red",
    "blocked": "yellow", "cancelled": "yellow", "not run": "dim",
}  # fmt: skip
OVER = {"cached", "done", "failed", "blocked", "cancelled", "not run"}
INTERVAL = 10.0
"""Seconds between two looks of `follow`."""


@dataclass(frozen=True)
class State:
    """One step, or the report."""

    step: str
    state: str
    """A key of STYLES."""
    note: str = ""
    """What it waits for, why it failed, how far it is."""
    job: str | None = None
    requeued: int = 0
    progress: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of a running step: done, total, loss, seconds_left ..."""


@dataclass(frozen=True)
class Overview:
    """All steps of a grid at one moment."""

    grid: str
    steps: list[State]
    report: State
    fault: str | None
    """Which scheduler could not be asked, and why; the states rest on the store alone then."""

    @property
    def over(self) -> bool:
        """Whether nothing is going on any more, as far as can be told."""
        if self.fault:
            return self.complete and self.report.state == "done"
        return all(each.state in OVER for each in [*self.steps, self.report])

    @property
    def complete(self) -> bool:
        """Whether every step is in the store."""
        return all(each.state in ("cached", "done") for each in self.steps)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        counts = Counter(each.state for each in self.steps)
        return {
            "grid": self.grid,
            "counts": dict(counts),
            "steps": [asdict(each) for each in self.steps],
            "report": asdict(self.report),
            "fault": self.fault,
        }


def overview(folder: Path) -> Overview:
    """Look at every step. Raises PlanError if the grid's plan cannot be read."""
    plan, store = Plan.load(folder / "plan.json"), Store(folder.parents[1] / "store")
    sent = {name: each for each in read_sent(folder) for name in each.steps}
    missing = {name for name, entry in plan.entries.items() if store.lookup(entry.step) is None}
    asked = {each.key for name, each in sent.items() if name in missing or name == REPORT}
    held = {name: holder for name in missing if (holder := lease.holder(store.work(plan[name])))}
    holding = {name: (holder["scheduler"], holder["job"]) for name, holder in held.items() if holder.get("job")}
    known, fault = _ask(asked | set(holding.values()))
    if not fault:  # a job that is over holds nothing
        held = {n: h for n, h in held.items() if n not in holding or (holding[n] in known and known[holding[n]].alive)}
    missing = {name for name in missing if store.lookup(plan[name]) is None}  # published while the scheduler was asked
    states: dict[str, State] = {}
    for name, entry in plan.entries.items():
        job = sent.get(name)
        if name in missing:
            states[name] = _missing(entry.step, folder, store, missing, job, known, held.get(name), states, fault)
        else:
            states[name] = State(name, "cached" if entry.cached else "done", job=job.job if job else None,
                                 requeued=_requeued(folder, job))  # fmt: skip
    return Overview(folder.name, list(states.values()), _report(folder, sent.get(REPORT), known, fault), fault)


Known = Mapping[tuple[str, str], Queued]
"""By scheduler and id."""


def _ask(jobs: Iterable[tuple[str, str]]) -> tuple[Known, str | None]:
    """What the schedulers know of the jobs, and which could not be asked, and why."""
    known: dict[tuple[str, str], Queued] = {}
    ids: dict[str, set[str]] = {}
    for name, job in jobs:
        ids.setdefault(name, set()).add(job)
    for name, wanted in ids.items():
        asked = scheduler(name)
        try:
            found = asked.state(wanted)
        except SchedulerError as error:
            return {}, f"{asked.title} cannot be asked ({error})"
        found |= asked.past(wanted - found.keys())
        known |= {(name, job): queued for job, queued in found.items()}
    return known, None


def _missing(
    step: Step,
    folder: Path,
    store: Store,
    missing: set[str],
    sent: Sent | None,
    known: Known,
    held: Mapping[str, Any] | None,
    states: Mapping[str, State],
    fault: str | None,
) -> State:
    """The state of a step that is not in the store."""
    queued = known.get(sent.key) if sent else None
    job, requeued = (sent.job, _requeued(folder, sent)) if sent else (None, 0)

    def state(word: str, note: str = "", progress: Mapping[str, Any] | None = None) -> State:
        return State(step.name, word, note, job, requeued, progress or {})

    lost = [states[s.name] for s in step.inputs.values() if s.name in missing]
    causes = [each for each in lost if each.state in ("failed", "blocked", "cancelled")]
    failure = failure_file(folder, step.name)
    if queued and queued.state == "running":
        if failure.exists():
            return state("failed", failure_reason(failure))
        assert sent is not None
        if causes:
            return state("blocked", f"by {_cause(causes[0])}")
        before = [name for name in sent.steps[: sent.steps.index(step.name)] if name in missing]
        if any(states[name].state not in ("failed", "blocked") for name in before):
            return state("waiting", f"for its turn in job {sent.job}")
        progress = read_progress(store.work(step))
        return state("running", numbers_text(progress) or queued.word.lower(), progress)
    if causes:
        return state("blocked", f"by {_cause(causes[0])}")
    if queued and queued.alive:
        if queued.reason in (DEPENDENCY, "") and lost:
            assert sent is not None
            return state("waiting", f"for {', '.join(sorted({each.step for each in lost}))}")
        if queued.reason == DEPENDENCY and sent and step.name in sent.others:
            return state("waiting", f"for job {sent.others[step.name]} of another grid, which computes it")
        return state("queued", queued.reason)
    if failure.exists():
        return state("failed", failure_reason(failure))
    if held:
        progress = read_progress(store.work(step))
        where = f"by process {held['pid']} on {held['host'].partition('/')[0]}"
        return state("running", f"{numbers_text(progress)} {where}".strip(), progress)
    if queued and queued.state == "cancelled":
        return state("cancelled", queued.reason)
    if queued:
        how = f" ({queued.reason})" if queued.reason else ""
        return state("failed", f"its job ended as {queued.word}{how} and left no artifact: "
                     f"python -m src.logs {folder.name} {step.name}")
    if sent and not fault:
        return state("failed", f"its job {sent.job} is gone, and {scheduler(sent.scheduler).title} knows no more of it")
    if lost:
        return state("waiting" if fault else "not run", f"for {', '.join(sorted({each.step for each in lost}))}")
    return state("queued" if sent else "not run", f"job {sent.job}" if sent else "")


def _report(folder: Path, sent: Sent | None, known: Known, fault: str | None) -> State:
    job = sent.job if sent else None
    queued = known.get(sent.key) if sent else None
    failure = failure_file(folder, REPORT)
    if queued and queued.state == "running":
        return State(REPORT, "running", "", job)
    if queued and queued.state == "waiting":
        waiting = queued.reason in (DEPENDENCY, "")
        return State(REPORT, *(("waiting", "for all jobs") if waiting else ("queued", queued.reason)), job=job)
    if failure.exists():
        return State(REPORT, "failed", failure_reason(failure), job)
    if queued and queued.state != "done":
        return State(REPORT, "cancelled" if queued.state == "cancelled" else "failed", queued.word, job)
    if (folder / "table.json").exists():
        return State(REPORT, "done", str(folder / "index.html"), job)
    return State(REPORT, "waiting" if fault else "not run", "", job)


def _cause(state: State) -> str:
    """The step that failed first."""
    return state.note.removeprefix("by ") if state.state == "blocked" else state.step


def _requeued(folder: Path, sent: Sent | None) -> int:
    if sent is None:
        return 0
    return max(0, sum("reached" in note for note in read_attempts(folder, sent.job)) - 1)


def render(seen: Overview) -> RenderableType:
    """The overview as a table."""
    table = Table(box=None, pad_edge=False)
    for header in ("step", "state", "job", "left", ""):
        table.add_column(header, no_wrap=header != "")
    for each in [*seen.steps, seen.report]:
        again = f" (requeued {each.requeued} x)" if each.requeued else ""
        left = each.progress.get("seconds_left")
        table.add_row(
            Text(each.step), Text(each.state + again, STYLES[each.state]), Text(each.job or ""),
            Text(duration(float(left)) if left is not None else ""), Text(each.note),
        )  # fmt: skip
    counts = Counter(each.state for each in seen.steps)
    lines = [", ".join(f"{counts[word]} {word}" for word in STYLES if counts[word]) + f" of {len(seen.steps)} steps"]
    if seen.fault:
        lines.append(f"{seen.fault}: this is what the store tells")
    return Group(table, Text(""), *(Text(line, "bold") for line in lines))


def follow(folder: Path, console: Console) -> int:
    """Show the grid until it is over, live in a terminal, else a line for each change, and then its table. 0 if all is
    complete, 1 if something failed, 130 after Ctrl-C, which changes nothing."""
    before: dict[str, tuple[str, int]] = {}
    fault: str | None = None
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    try:
        if live:
            live.start()
        while True:
            seen = overview(folder)
            if live:
                live.update(render(seen), refresh=True)
            else:
                for each in [*seen.steps, seen.report]:
                    now = (each.state, each.requeued)
                    if before.get(each.step) != now and now[0] != "cached":
                        text = f"{each.state:<9} {each.step}{each.note and ': ' + each.note}"
                        console.print(Text(text, STYLES[each.state]), soft_wrap=True)
                    before[each.step] = now
                if seen.fault and seen.fault != fault:
                    console.print(seen.fault, markup=False, highlight=False)
                fault = seen.fault
            if seen.over:
                if seen.report.state == "done":
                    console.print(Text(to_text(json.loads((folder / "table.json").read_text("utf-8")), console.width)))
                return 0 if seen.complete and seen.report.state == "done" else 1
            time.sleep(INTERVAL)
    except KeyboardInterrupt:
        console.print("No longer watching; the jobs go on.", highlight=False)
        return 130
    finally:
        if live:
            live.stop()
