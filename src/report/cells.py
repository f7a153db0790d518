"""The text of a cell: a score in percent with its spread and its marks."""

from collections.abc import Mapping
from typing import Any

from src.report import marks
from src.report.compare import SUPERSCRIPTS

ABSENT = "-"
"""A score that its strategy does not have."""
MISSING = "–"
"""An evaluation that does not exist."""


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def spread(score: Mapping[str, Any]) -> float | None:
    """What stands after the plus-minus sign: the deviation over seeds, else the standard error."""
    return score["standard_error"] if score["std"] is None else score["std"]


def letters(row: Mapping[str, Any], key: str) -> str:
    """The marks of a score, one letter for each reference that it differs from (see `marks`); "" for none."""
    return marks.letters(row["tests"].get(key, {}))


def cell(row: Mapping[str, Any], key: str, sign: str = " ± ") -> str:
    """The text of one cell, without its marks; without `sign`, without the spread."""
    score = row["scores"].get(key)
    if score is None:
        if row["scores"]:
            return ABSENT
        return "failed" if row["state"] == "failed" else MISSING
    return valued(score, sign)


def valued(score: Mapping[str, Any], sign: str = " ± ", scale: float = 1.0) -> str:
    """A score, or what looks like one, with its spread. scale: what makes a share of it."""
    wide = spread(score)
    return percent(scale * score["mean"]) + (f"{sign}{percent(scale * wide)}" if sign and wide is not None else "")


def marked(row: Mapping[str, Any], key: str, sign: str = " ± ") -> str:
    """The text of one cell with its marks."""
    return cell(row, key, sign) + letters(row, key).translate(SUPERSCRIPTS)


def label(row: Mapping[str, Any]) -> str:
    """The label, with what is missing of it."""
    if row["state"] == "partial":
        have = max(len(score["seeds"]) for score in row["scores"].values())
        return f"{row['label']} [{have} of {len(row['seeds'])} seeds]"
    return row["label"]
