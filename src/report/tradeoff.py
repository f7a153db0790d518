"""What was gained in speech against what was kept in text: one point a row, as tradeoff.svg and tradeoff.png.

To the right: answers to spoken questions, in text (S2T) and, smaller, in speech (S2S). Upward: answers to written
questions (T2T), and IFEval. The Original has no speech: it is the line that text is measured by.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src import tasks
from src.report import abilities, drawing, labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VERSION = 2
"""Version of the drawing; raised when the same numbers are to look different."""

GAINED, KEPT = abilities.SPOKEN, abilities.TEXT
WIDE = 1.75
"""Width of the first column of panels, in those of the others."""
NEAR = 7.0
"""Points between a name and what it names that need no line."""
Point = dict[str, abilities.Entry]
"""The abilities of one row."""


def collect(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is drawn, in the order of the table: {"label", "strategy", "replay", "reference", "abilities": {ability:
    entry}}. reference: whether others are compared with the row, whose name is written in bold."""
    keys = [column["key"] for column in table["columns"]]
    means = {ability: abilities.keys_of(ability, keys) for ability in (*GAINED, *KEPT)}
    references = {label for one in table["references"] for label in one["rows"]}
    found = []
    for row in table["rows"]:
        own = {ability: entry for ability, of in means.items() if (entry := abilities.mean(row["scores"], of))}
        if own:
            named = {name: row[name] for name in ("label", "strategy", "replay")}
            found.append({**named, "reference": row["label"] in references, "abilities": own})
    return found


def draw(table: Mapping[str, Any], folder: Path) -> Path | None:
    """Write tradeoff.svg and tradeoff.png into `folder`; the path of the first, None if no row answers in speech."""
    rows = collect(table)
    speech = [ability for ability in GAINED if any(_has(row, ability) for row in rows)]
    text = [ability for ability in KEPT if any(_has(row, ability, gained) for row in rows for gained in speech)]
    if not speech or not text:
        return None
    return drawing.keep(folder, "tradeoff", [VERSION, rows], lambda figure: _fill(figure, rows, speech, text))


def _has(row: Mapping[str, Any], *needed: str) -> bool:
    return all(ability in row["abilities"] for ability in needed)


def _fill(figure: "Figure", rows: Sequence[Mapping[str, Any]], speech: Sequence[str], text: Sequence[str]) -> None:
    widths = [WIDE, *(1.0 for _ in speech[1:])]
    figure.set_size_inches(3.0 * sum(widths) + 0.4, 3.3 * len(text) + 0.5)
    axes = figure.subplots(len(text), len(speech), sharex="col", sharey=True, squeeze=False, width_ratios=widths)
    for i, kept in enumerate(text):
        for j, gained in enumerate(speech):
            axis = axes[i][j]
            _panel(axis, rows, gained, kept)
            axis.set_title("better ↗", loc="right", fontsize=8.5, pad=10, color=drawing.QUIET)
            if j == 0:
                axis.set_title(f"{_title(kept)} kept, %", loc="left", fontsize=10, pad=10)
            if i == len(text) - 1:
                axis.set_xlabel(f"{_title(gained)}, %", labelpad=8)
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9
    )
    figure.draw_without_rendering()
    for i, kept in enumerate(text):
        for j, gained in enumerate(speech):
            _name(axes[i][j], rows, gained, kept)


def _title(ability: str) -> str:
    """ "Spoken questions answered in text (S2T)"."""
    return f"{tasks.ABILITIES[ability].about} ({tasks.ABILITIES[ability].title})"


def _limits(rows: Sequence[Mapping[str, Any]], gained: str) -> tuple[float, float]:
    """From 0 to a little more than the best, so that the gain takes up the width."""
    highest = max(_percent(row, gained)[2] for row in rows if _has(row, gained))
    return -3.0, min(104.0, 10 * np.ceil(highest / 10 + 0.3))


def _percent(row: Mapping[str, Any], ability: str) -> tuple[float, float, float]:
    """(mean, low, high) in percent, within 0 and 100."""
    entry = row["abilities"][ability]
    low, high = entry["interval"] or (entry["mean"], entry["mean"])
    return 100 * entry["mean"], 100 * min(max(low, 0.0), entry["mean"]), 100 * max(min(high, 1.0), entry["mean"])


def _panel(axis: "Axes", rows: Sequence[Mapping[str, Any]], gained: str, kept: str) -> None:
    drawing.clear(axis)
    axis.set_xlim(*_limits(rows, gained))
    axis.set_ylim(-3, 107)
    axis.set_yticks(range(0, 101, 25))
    axis.grid(color=drawing.RULE, linewidth=0.8)
    for row in rows:
        if row["strategy"] == "original" and _has(row, kept):
            value, low, high = _percent(row, kept)
            axis.axhspan(low, high, color=drawing.INK, alpha=0.08, linewidth=0)
            axis.axhline(value, color=drawing.INK, linewidth=1.2, linestyle=(0, (4, 2)), label="Original")
    for row in rows:
        if not _has(row, gained, kept):
            continue
        (x, left, right), (y, low, high) = _percent(row, gained), _percent(row, kept)
        axis.errorbar(
            x,
            y,
            xerr=[[x - left], [right - x]],
            yerr=[[y - low], [high - y]],
            color=drawing.WITH if row["replay"] else drawing.WITHOUT,
            label="with replay" if row["replay"] else "without replay",
            linestyle="none",
            marker="o" if row["replay"] else "s",
            markersize=6 if row["replay"] else 5.5,
            markeredgecolor=drawing.PAPER,
            markeredgewidth=0.7,
            elinewidth=0.9,
            alpha=0.9,
        )


def _name(axis: "Axes", rows: Sequence[Mapping[str, Any]], gained: str, kept: str) -> None:
    """Write each row's name beside its point, with a thin line to it where there is no room at the point."""
    shown = [row for row in rows if _has(row, gained, kept)]
    if not shown:
        return
    scale = axis.figure.dpi / 72  # pixels a typographic point
    spots = [(_percent(row, gained)[0], _percent(row, kept)[0]) for row in shown]
    points = axis.transData.transform(spots) / scale
    names = [row["label"].removesuffix(" w/ R") if row["replay"] else row["label"] for row in shown]
    fonts: list[dict[str, Any]] = [
        {"fontsize": 7.5, "fontweight": "bold" if row["reference"] else "normal"} for row in shown
    ]
    texts = [axis.text(0, 0, name, **font) for name, font in zip(names, fonts, strict=True)]
    sizes = np.array([[(box := text.get_window_extent()).width, box.height] for text in texts]) / scale
    for text in texts:
        text.remove()
    taken = _taken(axis, shown, gained, kept, 4.0 * scale) / scale
    places = labels.place(points, sizes, taken, [edge / scale for edge in axis.bbox.extents])
    for row, name, font, spot, point, corner, size in zip(
        shown, names, fonts, spots, points, places, sizes, strict=True
    ):
        color = drawing.WITH if row["replay"] else drawing.WITHOUT
        away = labels.leader(point, np.concatenate([corner, corner + size])) - point
        if np.hypot(*away) > NEAR:
            line = {"arrowstyle": "-", "color": color, "linewidth": 0.5, "alpha": 0.6, "shrinkA": 0, "shrinkB": 3}
            axis.annotate("", spot, away, textcoords="offset points", arrowprops=line).set_in_layout(False)
        axis.annotate(
            name, spot, corner - point, textcoords="offset points", color=color, **font
        ).set_in_layout(False)


def _taken(axis: "Axes", rows: Sequence[Mapping[str, Any]], gained: str, kept: str, radius: float) -> Any:
    """The boxes, in pixels, of markers, of error bars and of the Original's line."""
    boxes = []
    for row in rows:
        (x, left, right), (y, low, high) = _percent(row, gained), _percent(row, kept)
        corners = axis.transData.transform([(x, y), (left, y), (right, y), (x, low), (x, high)])
        for (x0, y0), (x1, y1) in ((corners[0], corners[0]), (corners[1], corners[2]), (corners[3], corners[4])):
            wide = radius if (x0, y0) == (x1, y1) else 1.0
            boxes.append((x0 - wide, y0 - wide, x1 + wide, y1 + wide))
    low_x, _, high_x, _ = axis.bbox.extents
    for line in axis.lines:
        if line.get_label() == "Original":
            y = axis.transData.transform((0.0, np.asarray(line.get_ydata())[0]))[1]
            boxes.append((low_x, y - 1, high_x, y + 1))
    return np.array(boxes)
