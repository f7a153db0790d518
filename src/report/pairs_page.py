"""The page of `python -m src.compare`: pairs of rows with their scores, and examples to read and to hear."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.report import pairs
from src.report.cells import ABSENT, valued
from src.report.columns import arrow, heading
from src.report.examples import mp3
from src.report.lines import plain
from src.report.pairs import Compared, Example, Pair
from src.report.template import rendered

EXAMPLES = 40
"""Examples of a pair on the page."""
BUDGET = 4_000_000
"""Characters of encoded audio on the page."""


def render(
    title: str, found: Sequence[tuple[Pair, Sequence[tuple[str, Any, Any]], Sequence[Compared], Sequence[Example]]]
) -> str:
    """The page, self-contained. found: of each pair, the settings that differ, the scores and the examples."""
    left = BUDGET
    sections = []
    for pair, settings, scores, examples in found:
        shown = []
        for example in examples[:EXAMPLES]:
            told, used = _example(example, left)
            left -= used
            shown.append(told)
        sections.append(
            {
                "names": pair.names,
                "settings": [(key, plain(one), plain(two)) for key, one, two in settings],
                "scores": [_score(one) for one in scores if one.column["table"] != "more"],
                "examples": shown,
                "more": len(examples) - len(shown),
            }
        )
    return rendered("compare.html.j2", title=title, sections=sections)


def _score(one: Compared) -> dict[str, Any]:
    difference, p = pairs.difference(one)
    mark = one.test.mark if one.test else ""
    good = {"higher": "up", "lower": "down"}.get(mark) == one.column["direction"]
    return {
        "name": f"{heading(one.column)} {arrow(one.column)}",
        "both": [valued(score) if score else ABSENT for score in one.scores],
        "difference": difference,
        "p": p,
        "verdict": "" if not mark else "right" if good else "wrong",
        "changed": one.changed if one.test else ("", ""),
    }


def _example(example: Example, left: int) -> tuple[dict[str, Any], int]:
    """(what the page shows of it, characters of audio). left: characters that may still be used."""
    sounds = [mp3(path) if path else None for path in (example.question, *example.clips)]
    used = sum(len(sound or "") for sound in sounds)
    if used > left:
        sounds, used = [None] * 3, 0
    answers = [_answer(answer, sound) for answer, sound in zip(example.answers, sounds[1:], strict=True)]
    told = {name: getattr(example, name) for name in ("task", "set", "asked", "expected")}
    return {**told, "question": sounds[0], "answers": answers}, used


def _answer(answer: Mapping[str, Any], sound: str | None) -> dict[str, Any]:
    heard = answer.get("heard")
    return {
        "response": answer["response"],
        "verdicts": list(pairs.verdicts(answer).items()),
        "heard": heard,
        "sound": sound,
    }
