"""The paper's Figure 3 from table.json: what is left of the text abilities after each stage.

Curves of one chain share an axis, and each chain has its own.

`draw` writes figure3.svg and figure3.png.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import tasks
from src.report import abilities, drawing, stages
from src.report.cells import spread
from src.report.drawing import RULE
from src.report.looks import Look, looks
from src.stages import ORIGINAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 4
"""Version of the drawing; raised when the same numbers are to look different."""

NUMBERED = 3
"""Most curves of an axis whose last score is written beside them."""
APART = 6.0
"""Least distance of two such numbers, in percent of the axis."""


def average(scores: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> tuple[float, float] | None:
    """Mean over `keys` of a point's scores, with its spread, both in percent; None where no seed has all of them.

    The spread is the sample deviation over the seeds of each seed's mean, or the standard error of a single model's (0
    where it has none).
    """
    mean = abilities.mean(scores, keys)
    if mean is None:
        return None
    return 100 * mean["mean"], 100 * (spread(mean) or 0.0)


def panels(table: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """(title, keys that are averaged) of each panel that has something to show."""
    keys = list(dict.fromkeys(k for curve in table["curves"] for point in curve["points"] for k in point["scores"]))
    found = [(ability, abilities.keys_of(ability, keys)) for ability in abilities.TEXT]
    return [(f"{tasks.ABILITIES[name].about} ({abilities.title(name, own)})", own) for name, own in found if own]


def chains(table: Mapping[str, Any]) -> list[tuple[list[str], list[Mapping[str, Any]]]]:
    """The curves of each chain: (its stages, the Original before them, as far as a curve has a score there; curves)."""
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for curve in table["curves"]:
        found.setdefault(tuple(curve["chain"]), []).append(curve)
    reached = {chain: {point["stage"] for curve in own for point in curve["points"]} for chain, own in found.items()}
    return [([s for s in (ORIGINAL, *chain) if s in reached[chain]], own) for chain, own in found.items()]


def draw(table: Mapping[str, Any], folder: Path) -> Path | None:
    """Write figure3.svg and figure3.png into `folder`; the path of the first, None if the grid has no curve to show."""
    if not panels(table):
        return None
    shown = looks(table["rows"])
    numbers = [VERSION, table["curves"], {label: str(look) for label, look in shown.items()}]
    return drawing.keep(folder, "figure3", numbers, lambda figure: _fill(figure, table))


def _fill(figure: "Figure", table: Mapping[str, Any]) -> None:
    """A row of axes for each chain: the same place on two axes of different chains is not the same training."""
    chosen, told = panels(table), chains(table)
    columns = drawing.legend_columns([curve["label"] for curve in table["curves"]])
    below = 0.15 + 0.22 * math.ceil(len(table["curves"]) / columns)
    shown = looks(table["rows"])
    legend: dict[str, Any] = {}
    for row, (reached, curves) in zip(drawing.panels(figure, len(told), len(chosen), below), told, strict=True):
        for axis, (title, keys) in zip(row, chosen, strict=True):
            drawing.clear(axis)
            axis.set_title(f"{title}, %", loc="left", fontsize=9.5, pad=10)
            axis.set_ylim(-3, 104)
            axis.set_xlim(-0.25, len(reached) - 0.6)
            axis.set_xticks(range(len(reached)), [stages.title(stage) for stage in reached])
            axis.set_yticks(range(0, 101, 25))
            axis.grid(axis="y", color=RULE, linewidth=0.8)
            ends = [
                _line(axis, curve, keys, reached, (i, len(curves)), shown[curve["label"]])
                for i, curve in enumerate(curves)
            ]
            if len(curves) <= NUMBERED:
                _number(axis, [end for end in ends if end])
            for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
                legend.setdefault(name, handle)
    figure.legend(
        list(legend.values()), list(legend), loc="lower left", ncols=columns, frameon=False, fontsize=9,
    )  # fmt: skip


def _line(
    axis: Any, curve: Mapping[str, Any], keys: list[str], reached: list[str], place: tuple[int, int], look: Look
) -> tuple[float, float, str] | None:
    """Draw a curve over the stages. place: which of how many on this axis. Returned: where it ends, and its color."""
    found = {point["stage"]: average(point["scores"], keys) for point in curve["points"]}
    shown = [(x, *found[stage]) for x, stage in enumerate(reached) if found.get(stage)]  # type: ignore[misc]
    if not shown:
        return None
    x, y, spread = (list(numbers) for numbers in zip(*shown, strict=True))
    i, count = place
    shift = 0.03 * (i - (count - 1) / 2)
    axis.errorbar(
        [at + shift for at in x], y, yerr=spread, color=look.color, label=curve["label"], linestyle=look.line,
        linewidth=2, elinewidth=1.2, capsize=2.5, **drawing.marker(look),
    )  # fmt: skip
    return x[-1] + shift, y[-1], look.color


def _number(axis: Any, ends: Sequence[tuple[float, float, str]]) -> None:
    """Write the last score of each curve beside its end (x, score, color), one above another where they are near."""
    above = -math.inf
    for x, y, color in sorted(ends, key=lambda end: end[1]):
        above = max(y, above + APART)
        axis.annotate(
            f"{y:.0f}", (x, above), xytext=(9, 0), textcoords="offset points", color=color, va="center",
            fontweight="bold",
        )  # fmt: skip
