"""What a person sees: the plan as a table; its execution as a live view in a terminal, as plain lines elsewhere."""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from src.grid.context import read_progress
from src.grid.plan import Entry, Plan, Totals
from src.grid.step import Step
from src.grid.store import Store


def duration(seconds: float) -> str:
    """`0.4 s`, `8 s`, `3 min 20 s`, `2 h 05 min`"""
    if 0 < seconds < 2:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def size(megabytes: float) -> str:
    """`0.4 MB`, `120 MB`, `3.1 GB`"""
    if megabytes >= 1000:
        return f"{megabytes / 1000:.1f} GB"
    return f"{megabytes:.1f} MB" if megabytes < 10 else f"{megabytes:.0f} MB"


def plan_table(plan: Plan, workers: int, damaged: Mapping[str, str], gpus: int = 0) -> RenderableType:
    """The plan: each step, whether it is in the store, how many rows share it, what it costs; and the totals."""
    table = Table(box=None, pad_edge=False)
    for header, justify in (("step", "left"), ("rows", "right"), ("time", "right"), ("size", "right"), ("", "left")):
        table.add_column(header, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for run in _runs(plan.entries.values(), damaged):
        first = run[0]
        state = Text("cached", "green") if first.cached else Text("new", "yellow")
        if first.step.name in damaged:
            state = Text(f"new: {damaged[first.step.name]}", "red")
        seconds, megabytes = sum(entry.seconds for entry in run), sum(entry.megabytes for entry in run)
        name = run_name([entry.step for entry in run])
        table.add_row(name, str(len(first.rows)), duration(seconds), size(megabytes), state)

    def line(what: str, totals: Totals) -> str:
        return f"{what:<18}{totals.steps:>4} steps  {duration(totals.seconds):>12}  {size(totals.megabytes):>8}"

    kinds = [entry.step.kind for entry in plan.entries.values()]
    summary = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    by = f"{workers} workers" + (f" and {gpus} GPUs" if gpus else "")
    ahead = f"  (about {duration(plan.makespan(workers, gpus=gpus))} by {by})"
    lines = [
        "",
        f"{len(plan.rows)} rows; {summary}",
        line("without sharing", plan.unshared()),
        line("with sharing", plan.shared()),
        line("left to compute", plan.to_compute()) + ahead,
        "Times and sizes are estimates, of a step on its own worker or GPUs; those that the store has are measured.",
    ]
    return Group(table, *(Text(each) for each in lines))


def run_name(steps: Sequence[Step]) -> str:
    """`units-asr-000 ... 063 (64 steps)`: the shards of one piece of work on one line; of one step, its name."""
    if len(steps) == 1:
        return steps[0].name
    return f"{steps[0].label} ... {_numbered(steps[-1].label)[1]} ({len(steps)} steps)"


def shards(steps: Iterable[Step]) -> list[list[Step]]:
    """The steps in their order, those together that follow each other and whose labels differ in a last number."""
    runs: list[list[Step]] = []
    for step in steps:
        stem, number = _numbered(step.label)
        last = runs[-1][-1] if runs else None
        if last and number and last.kind == step.kind and _numbered(last.label)[0] == stem:
            runs[-1].append(step)
        else:
            runs.append([step])
    return runs


def _numbered(label: str) -> tuple[str, str]:
    """A label and the number that it ends with, "" where it does not."""
    found = re.fullmatch(r"(.+-)(\d+)", label)
    return (found[1], found[2]) if found else (label, "")


def _runs(entries: Iterable[Entry], damaged: Mapping[str, str]) -> list[list[Entry]]:
    """The same of entries that also have the same rows and state."""
    known = {entry.step.name: entry for entry in entries}
    runs: list[list[Entry]] = []
    for steps in shards(entry.step for entry in known.values()):
        run = [known[step.name] for step in steps]
        for _, same in groupby(run, key=lambda each: (each.cached, each.rows, damaged.get(each.step.name))):
            runs.append(list(same))
    return runs


class View:
    """Shows an execution: `with View(...) as view:`, tell it what starts and ends, and `refresh()` now and then."""

    def __init__(self, plan: Plan, store: Store, workers: int, console: Console, gpus: int = 0) -> None:
        self.plan, self.store, self.workers, self.console, self.gpus = plan, store, workers, console, gpus
        self.total = len(plan.missing())
        self.ended: dict[str, str] = {}
        self.running: dict[str, float] = {}
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> "View":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def start(self, step: Step) -> None:
        """The step began."""
        self.running[step.name] = time.monotonic()
        if not self._live:
            self._line(f"started   {step.name}")

    def end(self, step: Step, outcome: str, note: str = "") -> None:
        """The step ended: outcome is `done` or `failed`."""
        began = self.running.pop(step.name, None)
        self.ended[step.name] = outcome
        took = f" in {duration(time.monotonic() - began)}" if began is not None else ""
        if self._live:
            self._live.update(self._render())
        style = "green" if outcome == "done" else "bold red"
        self._line(f"{outcome:<9} {step.name}{took}{note and ': ' + note}", style)

    def again(self, step: Step, why: str) -> None:
        """The step is to begin once more."""
        self.running.pop(step.name, None)
        self._line(f"again     {step.name}: {why}", "yellow")

    def skip(self, names: Sequence[str], cause: Step) -> None:
        """These steps will not be run, because `cause` failed."""
        self.ended.update(dict.fromkeys(names, "not run"))
        if names:
            self._line(f"not run   {len(names)} step(s) that need {cause.name}", "yellow")

    def refresh(self) -> None:
        """Draw the running steps anew."""
        if self._live:
            self._live.update(self._render(), refresh=True)

    def _line(self, text: str, style: str = "") -> None:
        count = f"[{len(self.ended)}/{self.total}]"
        self.console.print(Text(f"{count:>8} "), Text(text, style), soft_wrap=True, sep="")

    def _render(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, show_header=False)
        left = {e.step.name: e.seconds for e in self.plan.missing() if e.step.name not in self.ended}
        for name, began in self.running.items():
            numbers = read_progress(self.store.work(self.plan[name]))
            done, total = float(numbers.get("done", 0)), float(numbers.get("total", 0))
            left[name] = float(numbers.get("seconds_left", max(left[name] - (time.monotonic() - began), 1.0)))
            bar = ProgressBar(total=total or None, completed=done, width=24, pulse=total == 0)
            table.add_row(Text(name), bar, Text(numbers_text(numbers)), Text(f"{duration(left[name])} left", "dim"))
        rest = duration(self.plan.makespan(self.workers, left, self.gpus))
        summary = f"{len(self.ended)} of {self.total} steps, {len(self.running)} running, about {rest} left"
        return Group(table, Text(summary, "bold"))


def numbers_text(numbers: Mapping[str, float | str]) -> str:
    parts = []
    if "total" in numbers:
        parts.append(f"{numbers.get('done', 0):g}/{numbers['total']:g}")
    if isinstance(numbers.get("loss"), float):
        parts.append(f"loss {numbers['loss']:.3f}")
    if "tokens_per_second" in numbers:
        parts.append(f"{float(numbers['tokens_per_second']):,.0f} tokens/s")
    if "hours" in numbers:
        parts.append(f"{float(numbers['hours']):,.1f} h of audio")
    if "hours_per_hour" in numbers:
        parts.append(f"{float(numbers['hours_per_hour']):,.0f} h/h")
    return "  ".join(parts)


def counted(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`"""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def ranges(jobs: Iterable[str]) -> str:
    """`12-15, 17, 20_0-20_3` from the ids of jobs."""
    runs: list[list[str]] = []
    for job in jobs:
        if runs and _follows(runs[-1][-1], job):
            runs[-1].append(job)
        else:
            runs.append([job])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _follows(before: str, job: str) -> bool:
    (stem, number), (next_stem, next_number) = _last_number(before), _last_number(job)
    return stem == next_stem and "" not in (number, next_number) and int(next_number) == int(number) + 1


def _last_number(job: str) -> tuple[str, str]:
    """The id of a job without the number that it ends with, and that."""
    number = re.search(r"\d*$", job)[0]  # type: ignore[index]
    return job[: len(job) - len(number)], number
