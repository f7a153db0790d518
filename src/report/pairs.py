"""Two rows beside each other: the settings that differ, the scores with paired tests, the examples that differ.

The rows may be of two grids of one outputs folder. Tests are over the examples that both answered: two rows that were
asked other questions have none.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src import tasks
from src.data import jsonl
from src.evaluate.comparison import Comparison, Outcome, Seeds, compare
from src.grid.store import Store
from src.report import abilities, marks
from src.report.columns import columns
from src.report.examples import clip_of
from src.report.lines import ASIDE, Line, differing, flatten
from src.report.sets import titles


@dataclass(frozen=True)
class Pair:
    """Two lines, each with a name that tells it from the other."""

    names: tuple[str, str]
    lines: tuple[Line, Line]


@dataclass(frozen=True)
class Compared:
    """One score of both rows."""

    column: Mapping[str, Any]
    """As in table.json."""
    scores: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]
    """As in table.json; None where the row does not have it."""
    test: Comparison | None
    """Second - first; None where they did not answer the same examples."""
    changed: tuple[int, int]
    """Examples that got better and worse, over all seeds that both have."""


@dataclass(frozen=True)
class Example:
    """An example on which the verdicts differ."""

    task: str
    set: str
    asked: str
    expected: str
    answers: tuple[Mapping[str, Any], Mapping[str, Any]]
    """Lines of responses.jsonl."""
    clips: tuple[Path | None, Path | None]
    """What they said, where it was kept."""
    question: Path | None
    """The question, as it was spoken."""


def settings(pair: Pair) -> list[tuple[str, Any, Any]]:
    """(setting, first's, second's) where the resolved settings of the rows differ; "" for what is not there."""
    flat = [
        flatten({key: value for key, value in line.rows[0].config.items() if key not in ASIDE}) for line in pair.lines
    ]
    return [(key, flat[0].get(key, ""), flat[1].get(key, "")) for key in differing(flat)]


def scores(pair: Pair, store: Store) -> list[Compared]:
    """Every score that either has, means over the question sets included. One Holm family of tests for the pair."""
    told = []
    for line in pair.lines:
        own = {key: score.entry() for key, score in line.scores.items()}
        told.append(own | abilities.means(own, list(own)))
    seeds = [marks.outcomes_of(line, store) for line in pair.lines]
    shared: tuple[dict[int, Any], dict[int, Any]] = ({}, {})
    for seed in (seed for seed in seeds[0] if seed in seeds[1]):
        one, two = seeds[0][seed], seeds[1][seed]
        keys = [key for key in one if key in two and marks.sizes(one[key]) == marks.sizes(two[key])]
        for common, scored in zip(shared, (one, two), strict=True):
            common[seed] = {key: scored[key] for key in keys}
    tests = compare({"first": shared[0], "second": shared[1]}, "first", marks.LEVEL)["second"]
    named = dict.fromkeys(key for own in told for key in own)
    return [
        Compared(column, (told[0].get(column["key"]), told[1].get(column["key"])), tests.get(column["key"]),
                 _changed(column, *shared))
        for column in columns(named, titles(row for line in pair.lines for row in line.rows))
    ]  # fmt: skip


def _changed(column: Mapping[str, Any], first: Seeds, second: Seeds) -> tuple[int, int]:
    """(examples on which the second row is better, on which it is worse)."""
    sign = 1 if column["direction"] == "up" else -1
    key = column["key"]
    gains = [
        sign * (_part(second[seed][key][id]) - _part(outcome))
        for seed, own in first.items()
        for id, outcome in own.get(key, {}).items()
    ]
    return sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)


def _part(outcome: Outcome) -> int:
    return outcome[0] if isinstance(outcome, tuple) else int(outcome)


def difference(one: Compared) -> tuple[str, str]:
    """The second's score minus the first's in percent, and the adjusted p, in words; "" where there is none."""
    first, second = one.scores
    if one.test:
        p = one.test.p_adjusted
        return f"{100 * one.test.difference:+.1f}", "< 0.0001" if p < 1e-4 else f"{p:.2g}"
    if not first or not second:
        return "", ""
    return f"{100 * (second['mean'] - first['mean']):+.1f}", ""


def examples(pair: Pair, store: Store) -> list[Example]:
    """The examples of the first seed that both have whose verdicts differ: each task in turn, those that can be heard
    first."""
    rows = [{row.seed: row for row in line.rows if store.lookup(row.evaluate)} for line in pair.lines]
    seed = next((seed for seed in rows[0] if seed in rows[1]), None)
    if seed is None:
        return []
    steps = [own[seed].evaluate for own in rows]
    generated = [step.inputs["responses"] for step in steps]
    folders = [store.lookup(step) for step in generated]
    units = next((store.lookup(step.inputs["units"]) for step in generated if "units" in step.inputs), None)
    first, second = ({_identity(one): one for one in jsonl.read(store.folder(s) / "responses.jsonl")} for s in steps)
    found = []
    for identity, two in second.items():
        one = first.get(identity)
        if one is None or _asked(one) != _asked(two) or verdicts(one) == verdicts(two):
            continue
        task, name, id = identity
        spoken = task == "sqa"
        clips = [clip_of(folder, id) if spoken else None for folder in folders]
        question = clip_of(units, id) if spoken else None
        expected = " / ".join(two.get("answers") or two.get("instructions") or [two["reference"]])
        found.append(Example(task, name, _asked(two), expected, (one, two), (clips[0], clips[1]), question))
    found.sort(key=lambda each: -sum(clip is not None for clip in each.clips))
    turns: Counter[str] = Counter()
    order = []
    for example in found:
        order.append(turns[example.task])
        turns[example.task] += 1
    return [example for _, example in sorted(zip(order, found, strict=True), key=lambda pair: pair[0])]


def _identity(response: Mapping[str, Any]) -> tuple[str, str, str]:
    return response["task"], response.get("set", ""), str(response["id"])


def _asked(response: Mapping[str, Any]) -> str:
    """What was asked, in words: the prompt of a spoken question holds units."""
    return response.get("question") or response.get("reference") or response["prompt"]


def verdicts(response: Mapping[str, Any]) -> dict[str, bool]:
    """The verdicts of a response by the names of its scores: {"S2T": True, "S2S": False}; a transcript is right without
    any error."""
    chosen = tasks.TASKS[response["task"]].columns
    outcomes = {column.name: column.outcome(response) for column in chosen if column.table == "main"}
    found = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, bool)}
    return found or {chosen[0].name: response["errors"] == 0}


def by_label(first: Sequence[Line], second: Sequence[Line]) -> list[tuple[Line, Line]]:
    """The rows of two grids that belong together: those of one label, else the only ones of one strategy."""
    found = []
    for line in first:
        same = [other for other in second if other.label == line.label]
        same = same or [other for other in second if other.name == line.name]
        alike = [other for other in first if other.name == line.name]
        if len(same) == 1 and (same[0].label == line.label or len(alike) == 1):
            found.append((line, same[0]))
    return found
