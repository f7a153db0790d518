"""What a grid found, in a sentence for each row that the others are compared with."""

from collections.abc import Mapping
from typing import Any

from src import tasks
from src.report import abilities
from src.report.lines import Line
from src.report.stages import listed, title, trained

Sentence = list[dict[str, Any]]
"""Pieces of text: {"text", "strong"}."""


def sentences(table: Mapping[str, Any], lines: Mapping[str, Line]) -> list[Sentence]:
    """A sentence for each reference that is one row: what it kept of the Original's abilities, and what it learned.

    lines: by label. A row without scores has no sentence.
    """
    original = next((row for row in table["rows"] if row["strategy"] == "original"), None)
    found = []
    for reference in table["references"]:
        row = next(row for row in table["rows"] if row["label"] == reference["rows"][0])
        chain = [title(stage) for stage in trained(lines[row["label"]].rows[0])]
        parts = [part for ability in tasks.ABILITIES if (part := _part(row, original, ability))]
        if len(reference["rows"]) == 1 and chain and parts:
            said: Sentence = [_text(f"{row['label']}, after {listed(chain)}: ")]
            for part in parts:
                said += [*part, _text(", ")]
            found.append([*said[:-1], _text(".")])
    return found


def _part(row: Mapping[str, Any], original: Mapping[str, Any] | None, ability: str) -> Sentence:
    """ "written questions 20 % (Original: 98 %)"; empty without a score."""
    own, before = _percent(row, ability), _percent(original, ability) if original else ""
    if not own:
        return []
    about = tasks.ABILITIES[ability].about
    compared = [_text(f" (Original: {before})")] if before else []
    return [_text(f"{about[:1].lower()}{about[1:]} "), {"text": own, "strong": True}, *compared]


def _percent(row: Mapping[str, Any], ability: str) -> str:
    mean = abilities.mean(row["scores"], abilities.keys_of(ability, row["scores"]))
    return f"{100 * mean['mean']:.0f} %" if mean else ""


def _text(text: str) -> dict[str, Any]:
    return {"text": text, "strong": False}
