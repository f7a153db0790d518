"""What a grid found, in a sentence for each row that the others are compared with: only what the tests support."""

from collections.abc import Mapping
from typing import Any

from src import tasks
from src.report import abilities
from src.report.lines import Line
from src.report.stages import listed, title, trained

Sentence = list[dict[str, Any]]
"""Pieces of text: {"text", "strong"}."""


def sentences(table: Mapping[str, Any], lines: Mapping[str, Line]) -> list[Sentence]:
    """The first reference beside the Original, and each further one beside the first; none without a finding.

    An ability is named where the tests of all its scores find a difference in one direction. lines: by label.
    """
    by_label = {row["label"]: row for row in table["rows"]}
    single = [(one["name"], by_label[one["rows"][0]]) for one in table["references"] if len(one["rows"]) == 1]
    original = next((row for row in table["rows"] if row["strategy"] == "original"), None)
    found = []
    for i, (name, row) in enumerate(single):
        against = single[0][1] if i else original
        chain = [title(stage) for stage in trained(lines[row["label"]].rows[0])]
        if against is None or not chain:
            continue
        tested, reference = (row, single[0][0]) if i else (against, name)
        parts, strong = [], True
        for ability in tasks.ABILITIES:
            keys = abilities.keys_of(ability, row["scores"])
            verdict = supported(tested, reference, keys)
            if verdict:
                strong = strong and verdict == "seeds"
                parts.append(_part(row, against, ability, keys))
        if parts:
            said: Sentence = [_text(f"{row['label']}, after {listed(chain)}: ")]
            for part in parts:
                said += [*part, _text(", ")]
            found.append([*said[:-1], _text(f". {_strength(tested, strong)}")])
    return found


def supported(row: Mapping[str, Any], reference: str, keys: list[str]) -> str:
    """Whether the row's tests against the reference find a difference in one direction in all of the scores.

    "seeds": so would those of new seeds; "models": the models of these seeds differ; "" if not all tests find one.
    """
    tests = [row["tests"].get(key, {}).get(reference) for key in keys]
    if not tests or not all(tests):
        return ""
    for claim, marks in (
        ("seeds", {test["mark"] if test["unit"] == "seeds" else "" for test in tests}),
        ("models", {test["each"]["mark"] for test in tests}),
    ):
        if len(marks) == 1 and "" not in marks:
            return claim
    return ""


def _strength(row: Mapping[str, Any], strong: bool) -> str:
    if strong:
        return "Tests say that new seeds would differ, too."
    seeds = len(row["seeds"])
    return "Tests say so of these models" + (f", in each of {seeds} seeds." if seeds > 1 else "; one seed.")


def _part(row: Mapping[str, Any], against: Mapping[str, Any], ability: str, keys: list[str]) -> Sentence:
    """ "written questions 20 % (Original: 98 %)"."""
    about = tasks.ABILITIES[ability].about
    return [
        _text(f"{about[:1].lower()}{about[1:]} "),
        {"text": _percent(row, keys), "strong": True},
        _text(f" ({against['label']}: {_percent(against, keys)})"),
    ]


def _percent(row: Mapping[str, Any], keys: list[str]) -> str:
    mean = abilities.mean(row["scores"], keys)
    return f"{100 * mean['mean']:.0f} %" if mean else ""


def _text(text: str) -> dict[str, Any]:
    return {"text": text, "strong": False}
