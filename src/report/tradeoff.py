"""Speech against text: one point a row, as tradeoff.svg, .pdf and .png.

To the right: answers to spoken questions, in text (S2T) and in speech (S2S). Upward: answers to written questions
(T2T), and IFEval. The Original has no speech: it is the line that text is measured by. Each point has the row's name
beside it, or, where names would cover each other or a point, the row's number in the table, with a key below.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src import tasks
from src.report import abilities, drawing, labels
from src.report import looks as looking
from src.report.looks import Look, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VERSION = 4
"""Version of the drawing; raised when the same numbers are to look different."""

GAINED, KEPT = abilities.SPOKEN, abilities.TEXT
NEAR = 7.0
"""Points between a name and what it names that need no line."""
NAMES = 16
"""Most rows whose names are tried."""
KEY_LINE = 0.16
"""Inches of a line of the key."""
WIDEST = {2: 28, 1: 62}
"""Most characters of a name in the key, by the columns that are then no wider than a panel."""
LEGEND = 0.35
"""Inches of the legend below the panels."""
Point = dict[str, abilities.Entry]
"""The abilities of one row."""


def collect(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is drawn, in the order of the table: {"row", "label", "strategy", "replay", "reference", "look",
    "abilities": {ability: entry}}. row: number in the table, from 1. reference: whether others are compared with the
    row, whose name is written in bold."""
    keys = [column["key"] for column in table["columns"]]
    means = {ability: abilities.keys_of(ability, keys) for ability in (*GAINED, *KEPT)}
    references = {label for one in table["references"] for label in one["rows"]}
    shown = looks(table["rows"])
    found = []
    for number, row in enumerate(table["rows"], start=1):
        own = {ability: entry for ability, of in means.items() if (entry := abilities.mean(row["scores"], of))}
        if own:
            named = {name: row[name] for name in ("label", "strategy", "replay")}
            named |= {"row": number, "look": asdict(shown[row["label"]])}
            found.append({**named, "reference": row["label"] in references, "abilities": own})
    return found


def draw(table: Mapping[str, Any], folder: Path) -> Path | None:
    """Write the drawing into `folder`; the path of the SVG, None if no row answers in speech."""
    rows = collect(table)
    speech, text = axes(rows)
    if not speech or not text:
        return None
    return drawing.keep(folder, "tradeoff", [VERSION, rows], lambda figure: fill(figure, rows))


def axes(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The abilities to the right and upward, a column and a row of panels each."""
    speech = [ability for ability in GAINED if any(_has(row, ability) for row in rows)]
    text = [ability for ability in KEPT if any(_has(row, ability, gained) for row in rows for gained in speech)]
    return speech, text


def _has(row: Mapping[str, Any], *needed: str) -> bool:
    return all(ability in row["abilities"] for ability in needed)


def _placed(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that are points of some panel."""
    return [row for row in rows if any(_has(row, gained) for gained in GAINED)]


def fill(figure: "Figure", rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw into an empty figure."""
    if len(_placed(rows)) <= NAMES and _fill(figure, rows, key=0.0):
        return
    figure.clear()
    _fill(figure, rows, key=0.1 + KEY_LINE * math.ceil(len(_placed(rows)) / _key_columns(_placed(rows))))


def _fill(figure: "Figure", rows: Sequence[Mapping[str, Any]], key: float) -> bool:
    """Draw with names or, with a key of so many inches, with numbers; whether no name covers another or a point."""
    speech, text = axes(rows)
    below = LEGEND + key
    handles: dict[str, Any] = {}
    panels = {}
    for kept, line in zip(text, drawing.panels(figure, len(text), len(speech), below), strict=True):
        for gained, axis in zip(speech, line, strict=True):
            panels[kept, gained] = axis
            _panel(axis, rows, gained, kept)
            axis.set_title(f"{_title(kept)}, %", loc="left", fontsize=9.5, pad=10)
            axis.set_title("better ↗", loc="right", fontsize=8.5, pad=10, color=drawing.QUIET)
            axis.set_xlabel(f"{_title(gained)}, %", labelpad=8)
            for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
                handles.setdefault(name, handle)
    inches = figure.get_figheight()
    figure.legend(
        list(handles.values()), list(handles), loc="upper left", bbox_to_anchor=(0, below / inches), ncols=len(handles),
        frameon=False, fontsize=9, handletextpad=0.4, columnspacing=1.2,
    )  # fmt: skip
    if key:
        _key(figure, _placed(rows), key / inches)
    free = True
    for (kept, gained), axis in panels.items():
        shown = [row for row in rows if _has(row, gained, kept)]
        if shown:
            names = [str(row["row"]) if key else short(row) for row in shown]
            places = _places(axis, shown, names, gained, kept)
            _name(axis, shown, names, gained, kept, places)
            free = free and not labels.covers(*places)
    return free


def short(row: Mapping[str, Any]) -> str:
    """The name of a row at its point, whose color and shape say whether it replays."""
    return row["label"].removesuffix(" w/ R") if row["replay"] else row["label"]


def _key_columns(rows: Sequence[Mapping[str, Any]]) -> int:
    return 2 if max(len(row["label"]) for row in rows) <= WIDEST[2] else 1


def _key(figure: "Figure", rows: Sequence[Mapping[str, Any]], top: float) -> None:
    """Numbers with their names, in columns. top: where it begins, in shares of the figure's height."""
    columns = _key_columns(rows)
    each = math.ceil(len(rows) / columns)
    across, down = drawing.PANEL[0] / columns / figure.get_figwidth(), KEY_LINE / figure.get_figheight()
    for i, row in enumerate(rows):
        name = row["label"] if len(row["label"]) <= WIDEST[columns] else f"{row['label'][: WIDEST[columns] - 1]}…"
        figure.text(
            0.02 * across + i // each * across, top - i % each * down, f"{row['row']}  {name}", va="top", fontsize=7.5,
            color=row["look"]["color"], fontweight="bold" if row["reference"] else "normal",
        )  # fmt: skip


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
            axis.axhspan(low, high, color=looking.ORIGINAL, alpha=0.15, linewidth=0)
            axis.axhline(value, color=looking.ORIGINAL, linewidth=1.2, linestyle=(0, (4, 2)), label="Original")
    for row in rows:
        if not _has(row, gained, kept):
            continue
        (x, left, right), (y, low, high) = _percent(row, gained), _percent(row, kept)
        look = Look(**row["look"])
        axis.errorbar(
            x, y, xerr=[[x - left], [right - x]], yerr=[[y - low], [high - y]], color=look.color, linestyle="none",
            elinewidth=0.9, alpha=0.9, label="with replay" if row["replay"] else "without replay",
            **drawing.marker(look),
        )  # fmt: skip


Places = tuple[Any, Any, Any]
"""Points [n, 2], lower left corners [n, 2] and sizes [n, 2] of their names, in typographic points."""


def _fonts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"fontsize": 7.5, "fontweight": "bold" if row["reference"] else "normal"} for row in rows]


def _places(axis: "Axes", rows: Sequence[Mapping[str, Any]], names: Sequence[str], gained: str, kept: str) -> Places:
    """Where the names go."""
    scale = axis.figure.dpi / 72  # pixels a typographic point
    spots = [(_percent(row, gained)[0], _percent(row, kept)[0]) for row in rows]
    points = axis.transData.transform(spots) / scale
    texts = [axis.text(0, 0, name, **font) for name, font in zip(names, _fonts(rows), strict=True)]
    sizes = np.array([[(box := text.get_window_extent()).width, box.height] for text in texts]) / scale
    for text in texts:
        text.remove()
    taken = _taken(axis, rows, gained, kept) / scale
    return points, labels.place(points, sizes, taken, [edge / scale for edge in axis.bbox.extents]), sizes


def _name(
    axis: "Axes", rows: Sequence[Mapping[str, Any]], names: Sequence[str], gained: str, kept: str, places: Places
) -> None:
    """Write each row's name at its place, with a thin line to the point where there is no room beside it."""
    for row, name, font, (point, corner, size) in zip(
        rows, names, _fonts(rows), zip(*places, strict=True), strict=True
    ):
        color, spot = row["look"]["color"], (_percent(row, gained)[0], _percent(row, kept)[0])
        away = labels.leader(point, np.concatenate([corner, corner + size])) - point
        if np.hypot(*away) > NEAR:
            line = {"arrowstyle": "-", "color": color, "linewidth": 0.5, "alpha": 0.6, "shrinkA": 0, "shrinkB": 3}
            axis.annotate("", spot, away, textcoords="offset points", arrowprops=line).set_in_layout(False)
        axis.annotate(name, spot, corner - point, textcoords="offset points", color=color, **font).set_in_layout(False)


def _taken(axis: "Axes", rows: Sequence[Mapping[str, Any]], gained: str, kept: str) -> Any:
    """The boxes, in pixels, of error bars and of the Original's line."""
    boxes = []
    for row in rows:
        (x, left, right), (y, low, high) = _percent(row, gained), _percent(row, kept)
        corners = axis.transData.transform([(left, y), (right, y), (x, low), (x, high)])
        for (x0, y0), (x1, y1) in ((corners[0], corners[1]), (corners[2], corners[3])):
            boxes.append((x0 - 1, y0 - 1, x1 + 1, y1 + 1))
    low_x, _, high_x, _ = axis.bbox.extents
    for line in axis.lines:
        if line.get_label() == "Original":
            y = axis.transData.transform((0.0, np.asarray(line.get_ydata())[0]))[1]
            boxes.append((low_x, y - 1, high_x, y + 1))
    return np.array(boxes)
