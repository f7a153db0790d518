"""The plan: the distinct steps that the rows of a grid need, in an order in which they can be run.

It is frozen as `plan.json` in the grid's folder when the grid is launched. Whoever runs a step later (a worker, a job
on another machine) reads that file, never the YAML again.
"""

import json
import shlex
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from src.grid.errors import PlanError
from src.grid.files import write_whole
from src.grid.row import Row
from src.grid.step import Step, closure, read
from src.grid.store import Store, git_commit, same_work


@dataclass(frozen=True)
class Entry:
    """One step of a plan."""

    step: Step
    rows: tuple[str, ...]
    """Names of the rows that need it."""
    cached: bool
    """Whether the store had it, and all that it rests on, when the plan was made."""
    seconds: float
    """Estimate: measured on an earlier run of the same work, else the row's."""
    megabytes: float
    priority: float = 0.0
    """Seconds of the longest path from its start to the end of the grid, over steps that are not cached."""
    measured: bool = False
    """Whether `seconds` are those of an earlier run."""


@dataclass(frozen=True)
class Totals:
    """What a set of steps costs."""

    steps: int
    seconds: float
    megabytes: float


@dataclass(frozen=True)
class Plan:
    """Rows and their steps, by name, inputs before what reads them."""

    rows: tuple[Row, ...]
    entries: Mapping[str, Entry]
    about: Mapping[str, str | None] = field(default_factory=dict)
    """Who launched it, as `launched` tells it; empty in the plan of an older version."""

    def __getitem__(self, name: str) -> Step:
        if name not in self.entries:
            raise PlanError(f"no step is named {name}; the plan has: {', '.join(self.entries)}")
        return self.entries[name].step

    def resting_on(self, kinds: Collection[str]) -> list[Step]:
        """The steps of these kinds, and all that rest on them."""
        found: dict[str, Step] = {}
        for name, entry in self.entries.items():
            if entry.step.kind in kinds or any(source.name in found for source in entry.step.inputs.values()):
                found[name] = entry.step
        return list(found.values())

    def missing(self) -> list[Entry]:
        """The entries that have to be computed."""
        return [entry for entry in self.entries.values() if not entry.cached]

    def shared(self) -> Totals:
        """What the whole grid costs, each step once."""
        return _total(self.entries.values())

    def unshared(self) -> Totals:
        """What it would cost if every row computed all that it needs."""
        return _total(entry for entry in self.entries.values() for _ in entry.rows)

    def to_compute(self) -> Totals:
        """What is left to do."""
        return _total(self.missing())

    def makespan(self, workers: int, left: Mapping[str, float] | None = None, gpus: int = 0) -> float:
        """Estimated seconds until the last step ends, run by priority on `workers` and, where there are some, `gpus`.

        `left`: seconds left of each step that is to be computed (default: all that are not cached, in full).
        """
        left = {e.step.name: e.seconds for e in self.missing()} if left is None else left
        waiting = sorted(left, key=lambda name: -self.entries[name].priority)
        ends: dict[str, float] = {}
        clock, free, spare, running = 0.0, workers, gpus, dict[str, tuple[int, int]]()
        lonely = {name for name in left if self.entries[name].step.alone}
        while waiting or running:
            queued = False
            for name in list(waiting):
                step = self.entries[name].step
                width = min(step.ranks, workers)
                cards = min(step.ranks, gpus) if step.gpu else 0
                if any(source.name in left and source.name not in ends for source in step.inputs.values()):
                    continue
                if name in lonely and lonely & running.keys():
                    continue
                if width > free:
                    break
                if cards and (queued or cards > spare):
                    queued = True
                    continue
                waiting.remove(name)
                running[name], free, spare = (width, cards), free - width, spare - cards
                left = {**left, name: clock + left[name]}
            name = min(running, key=lambda n: left[n])
            clock = ends[name] = left[name]
            width, cards = running.pop(name)
            free, spare = free + width, spare + cards
        return clock

    def timed(self, seconds: Mapping[str, float]) -> "Plan":
        """With other estimates (name -> seconds), except of steps whose work was measured."""
        entries = {
            name: replace(entry, seconds=entry.seconds if entry.measured else seconds.get(name, entry.seconds))
            for name, entry in self.entries.items()
        }
        return replace(self, entries=_prioritized(entries))

    def save(self, file: Path) -> None:
        """Write it as JSON, whole or not at all."""
        steps = [
            {
                "name": entry.step.name,
                "fingerprint": entry.step.fingerprint,
                "label": entry.step.label,
                "ranks": entry.step.ranks,
                "rows": entry.rows,
                "cached": entry.cached,
                "seconds": entry.seconds,
                "megabytes": entry.megabytes,
                "priority": entry.priority,
                **entry.step.record(),
            }
            for entry in self.entries.values()
        ]
        rows = [
            {
                "name": row.name,
                "label": row.label,
                "seed": row.seed,
                "evaluate": row.evaluate.name,
                "curve": {key: step.name for key, step in row.curve.items()},
                "recognizer": row.recognizer.name if row.recognizer else None,
                "further": {task: step.name for task, step in row.further.items()},
                "estimate": row.estimate,
                "overrides": row.overrides,
                "config": row.config,
            }
            for row in self.rows
        ]
        data = {"about": dict(self.about), "steps": steps, "rows": rows}
        write_whole(file, json.dumps(data, indent=1, ensure_ascii=False))

    @classmethod
    def load(cls, file: Path) -> "Plan":
        """Read a frozen plan. PlanError if it is not one, or if a kind's version has changed since."""
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            entries: dict[str, Entry] = {}
            for record in data["steps"]:
                entry = _entry(record, entries)
                entries[entry.step.name] = entry
            rows = tuple(
                Row(
                    name=row["name"],
                    label=row["label"],
                    seed=row["seed"],
                    config=row["config"],
                    evaluate=entries[row["evaluate"]].step,
                    curve={key: entries[name].step for key, name in row["curve"].items()},
                    recognizer=entries[row["recognizer"]].step if row["recognizer"] else None,
                    further={task: entries[name].step for task, name in row["further"].items()},
                    estimate={label: (pair[0], pair[1]) for label, pair in row["estimate"].items()},
                    overrides=tuple(row["overrides"]),
                )
                for row in data["rows"]
            )
            about = dict(data.get("about", {}))
        except OSError as error:
            raise PlanError(f"{file} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise PlanError(f"{file} is not a frozen plan ({type(error).__name__}: {error})") from error
        return cls(rows, entries, about)


def launched() -> dict[str, str | None]:
    """The command line of this process, the date with its time zone, and the commit of the source."""
    command = shlex.join(["python", *sys.orig_argv[1:]])
    return {"command": command, "date": datetime.now().astimezone().isoformat("T", "seconds"), "commit": git_commit()}


def make_plan(rows: Sequence[Row], store: Store, recompute: Collection[str] = ()) -> Plan:
    """The plan of `rows` against what `store` holds now.

    recompute: kinds of steps that count as missing, with all that rests on them. Raises PlanError for a kind that no
    row needs.
    """
    needed: dict[str, list[str]] = {}
    estimates: dict[str, tuple[float, float]] = {}
    steps = {step.name: step for step in closure(step for row in rows for step in row.steps)}
    for row in rows:
        for step in closure(row.steps):
            needed.setdefault(step.name, []).append(row.name)
            estimates.setdefault(step.name, row.estimated(step))
    kinds = {step.kind for step in steps.values()}
    for kind in recompute:
        if kind not in kinds:
            raise PlanError(f"recompute={kind}: no row needs such a step; the kinds are {', '.join(sorted(kinds))}")
    measured = {
        same_work(known["kind"], known["label"], known["settings"]): (
            known["seconds"],
            sum(file["bytes"] for file in known["files"].values()) / 1e6,
        )
        for known in store.manifests()
    }
    entries: dict[str, Entry] = {}
    for name, step in steps.items():
        key = same_work(step.kind, step.label, step.settings)
        seconds, megabytes = measured.get(key, estimates[name])
        whole = all(entries[source.name].cached for source in step.inputs.values())
        cached = whole and step.kind not in recompute and store.lookup(step) is not None
        entries[name] = Entry(step, tuple(needed[name]), cached, seconds, megabytes, measured=key in measured)
    return Plan(tuple(rows), _prioritized(entries))


def _prioritized(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The same, with their priorities."""
    made, after = dict(entries), dict.fromkeys(entries, 0.0)
    for name in reversed(made):
        entry = made[name]
        priority = after[name] + (0.0 if entry.cached else entry.seconds)
        made[name] = replace(entry, priority=priority)
        for source in entry.step.inputs.values():
            after[source.name] = max(after[source.name], priority)
    return made


def _entry(record: dict[str, Any], entries: Mapping[str, Entry]) -> Entry:
    step = read(record, {name: entry.step for name, entry in entries.items()})
    if step.fingerprint != record["fingerprint"]:
        raise PlanError(f"{record['name']} is another step in this code, or the plan was edited: launch the grid again")
    return Entry(
        step, tuple(record["rows"]), record["cached"], record["seconds"], record["megabytes"], record["priority"]
    )


def _total(entries: Iterable[Entry]) -> Totals:
    listed = list(entries)
    return Totals(len(listed), sum(e.seconds for e in listed), sum(e.megabytes for e in listed))
