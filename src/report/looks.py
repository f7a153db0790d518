"""How a row looks in every drawing: one meaning for each color, shape, line and hatching.

Color says replay: orange without, blue with, gray for the Original (after Okabe & Ito's palette for the color-blind).
Shape, line and hatching say what else was done: merge, alpha, method, or another setting. A marker is hollow without
replay and filled with it, so that a drawing can be read in gray, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ORIGINAL, WITHOUT, WITH = "#5f6570", "#d55e00", "#0072b2"

MARKERS = ("o", "^", "v", "D", "s", "p", "P", "X", "<", ">", "h", "*")
LINES = ("-", "--", ":", "-.")
HATCHES = ("", "////", "....", "xxxx", "----", "++++")


@dataclass(frozen=True)
class Look:
    """What a row is drawn with."""

    color: str
    marker: str
    filled: bool
    line: str
    hatch: str


def looks(rows: Sequence[Mapping[str, Any]]) -> dict[str, Look]:
    """The look of each row of a table, by its label. Two that differ in replay alone differ in color and fill alone."""
    kinds: dict[str, int] = {}
    found = {}
    for row in rows:
        if row["strategy"] == "original":
            found[row["label"]] = Look(ORIGINAL, "_", True, "--", "")
            continue
        kind = kinds.setdefault(str([row[name] for name in ("merge", "alpha", "method", "settings")]), len(kinds))
        found[row["label"]] = Look(
            WITH if row["replay"] else WITHOUT, MARKERS[kind % len(MARKERS)], row["replay"],
            LINES[kind % len(LINES)], HATCHES[kind % len(HATCHES)],
        )  # fmt: skip
    return found
