"""Which kinds of instructions a row follows: IFEval by group, and the chart ifeval.svg and ifeval.png.

A group is the first half of an instruction's id, as keywords of keywords:existence. Strict, each instruction counts.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.evaluate.statistics import Estimate, wilson
from src.grid.store import Store
from src.report import abilities, drawing
from src.report.cells import spread
from src.report.lines import Line
from src.report.looks import Look, looks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 3
"""Version of the drawing; raised when the same numbers are to look different."""

FILL = 0.8
"""Share of the room of a group that its bars take up."""


def collect(lines: Sequence[Line], store: Store) -> dict[str, dict[str, abilities.Entry]]:
    """The share of followed instructions of each group, by the line's label: {label: {group: entry with n}}."""
    found: dict[str, dict[str, abilities.Entry]] = {}
    for line in lines:
        values: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
        for row in line.rows:
            for group, score in _ifeval(store.lookup(row.evaluate)).get("group", {}).items():
                values.setdefault(group, []).append((row.seed, score["strict"]))
        found[line.label] = {group: _entry(scores) for group, scores in sorted(values.items())}
    return found


def _entry(scores: Sequence[tuple[int, Mapping[str, Any]]]) -> abilities.Entry:
    """(seed, score) of each seed as one entry."""
    bounds = [_interval(score) for _, score in scores]
    made = abilities.entry([(seed, Estimate(one["value"], one["standard_error"])) for seed, one in scores], bounds[0])
    seeds = [{**seed, "interval": bound} for seed, bound in zip(made["seeds"], bounds, strict=True)]
    return {**made, "seeds": seeds, "n": scores[0][1]["n"]}


def _interval(score: Mapping[str, Any]) -> list[float] | None:
    """Wilson's 95 % interval over the prompts, where all of them agree and the standard error is 0; else None."""
    if score["value"] not in (0, 1):
        return None
    return list(wilson(round(score["value"] * score["clusters"]), score["clusters"]))


def chance(lines: Sequence[Line], store: Store) -> list[Any]:
    """Keys of the prompts whose verdict is chance in the official scorer, of all the prompt sets that were asked."""
    steps = dict.fromkeys(row.evaluate for line in lines for row in line.rows)
    return list(dict.fromkeys(key for step in steps for key in _ifeval(store.lookup(step)).get("chance", ())))


def _ifeval(folder: Path | None) -> dict[str, Any]:
    return json.loads((folder / "breakdown.json").read_text(encoding="utf-8")).get("ifeval", {}) if folder else {}


def name(group: str) -> str:
    """As a reader says it: "change_case" -> "change case"."""
    return {"startend": "start and end"}.get(group, group.replace("_", " "))


def groups(table: Mapping[str, Any]) -> list[str]:
    """Every group that some row has, by name."""
    return sorted({group for row in table["rows"] for group in row["ifeval"]})


def chosen(table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of the chart: the Original, the first row of each reference, the best other by IFEval's prompt score."""
    having = [row for row in table["rows"] if row["ifeval"]]
    originals = [row for row in having if row["strategy"] == "original"]
    references = [[row for row in having if row["label"] in one["rows"]] for one in table["references"]]
    rows = [*originals[:1], *(fitting[0] for fitting in references if fitting)]
    aside = [*originals, *(row for fitting in references for row in fitting)]
    others = [row for row in having if row not in aside and abilities.IFEVAL in row["scores"]]
    if others:
        rows.append(max(others, key=lambda row: row["scores"][abilities.IFEVAL]["mean"]))
    return rows


def draw(table: Mapping[str, Any], folder: Path) -> Path | None:
    """Write ifeval.svg and ifeval.png into `folder`; the path of the first, None if no row has the breakdown."""
    rows = [{name: row[name] for name in ("label", "strategy", "ifeval")} for row in chosen(table)]
    if not rows:
        return None
    every = looks(table["rows"])
    shown = {row["label"]: every[row["label"]] for row in rows}
    numbers = [VERSION, rows, [str(look) for look in shown.values()]]
    return drawing.keep(folder, "ifeval", numbers, lambda figure: _fill(figure, rows, groups(table), shown))


def _fill(
    figure: "Figure", rows: Sequence[Mapping[str, Any]], kinds: Sequence[str], shown: Mapping[str, Look]
) -> None:
    figure.set_size_inches(5.2, 1.1 + 0.6 * len(kinds))
    axis = figure.subplots()
    drawing.clear(axis)
    axis.set_title("Instructions followed (IFEval, strict), %", loc="left", fontsize=9.5, pad=10)
    axis.set_xlim(0, 104)
    axis.set_ylim(len(kinds) - 0.5, -0.5)
    axis.set_xticks(range(0, 101, 25))
    axis.grid(axis="x", color=drawing.RULE, linewidth=0.8)
    counts = {kind: next(row["ifeval"][kind]["n"] for row in rows if kind in row["ifeval"]) for kind in kinds}
    axis.set_yticks(range(len(kinds)), [f"{name(kind)} ({counts[kind]})" for kind in kinds])
    height = FILL / len(rows)
    for i, row in enumerate(rows):
        look = shown[row["label"]]
        own = [(at, row["ifeval"][kind]) for at, kind in enumerate(kinds) if kind in row["ifeval"]]
        axis.barh(
            [at + height * (i - (len(rows) - 1) / 2) for at, _ in own],
            [100 * one["mean"] for _, one in own],
            height=0.86 * height,
            color=look.color,
            hatch=look.hatch,
            edgecolor=drawing.PAPER,
            linewidth=0,
            label=row["label"],
            xerr=[100 * (spread(one) or 0.0) for _, one in own],
            error_kw={"elinewidth": 0.9, "ecolor": drawing.INK, "alpha": 0.55},
        )
    handles, names = axis.get_legend_handles_labels()
    columns = drawing.legend_columns(names)
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
