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


def uncertainty(score: Mapping[str, Any]) -> tuple[str, float] | None:
    """What stands after the score: ("±", spread), or ("≥", bound) and ("≤", bound) where every example counted or none.

    There the spread is 0 and says nothing: the bound is that of the 95 % interval, of the widest over several seeds.
    None where that has no width either, as of a word error rate of 100 % in every utterance.
    """
    wide = spread(score)
    if wide == 0 and score["mean"] in (0, 1):
        own = [score["interval"]] if score["std"] is None else [one.get("interval") for one in score["seeds"]]
        if own and all(own):
            low, high = min(one[0] for one in own), max(one[1] for one in own)
            bound = ("≥", low) if score["mean"] else ("≤", high)
            return None if bound[1] == score["mean"] else bound
    return None if wide is None else ("±", wide)


def valued(score: Mapping[str, Any], sign: str = " ± ", scale: float = 1.0) -> str:
    """A score, or what looks like one, with its spread. sign: how ± is written, "" for no spread; scale: what makes a
    share of it."""
    more = uncertainty(score) if sign else None
    return percent(scale * score["mean"]) + (sign.replace("±", more[0]) + percent(scale * more[1]) if more else "")


def marked(row: Mapping[str, Any], key: str, sign: str = " ± ") -> str:
    """The text of one cell with its marks."""
    return cell(row, key, sign) + letters(row, key).translate(SUPERSCRIPTS)


def label(row: Mapping[str, Any]) -> str:
    """The label, with what is missing of it."""
    if row["state"] == "partial":
        have = max(len(score["seeds"]) for score in row["scores"].values())
        return f"{row['label']} [{have} of {len(row['seeds'])} seeds]"
    return row["label"]
