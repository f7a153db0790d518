"""Score what a model answered, without the model: answers, instructions, word errors.

Leaves `scores.json` (every score with its n, standard error and 95 % interval, and the settings), `responses.jsonl`
(every response with its verdict) and `breakdown.json` (IFEval by group and by instruction).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data import jsonl
from src.evaluate.scoring import Scoring
from src.evaluate.tasks import TASKS, any_spoken
from src.evaluate.tasks.task import Row, Score

if TYPE_CHECKING:
    from src.grid.context import Context


def score(
    tasks: Sequence[str], scoring: Scoring, responses: Path, corpus: Path, out: Path, context: "Context"
) -> dict[str, float]:
    """Score the responses to these tasks, keys of TASKS; returns key -> value of every score.

    responses: the artifact that `src.evaluate.responses` leaves. corpus: the artifact that the questions were from.
    Raises ValueError for a task without responses, or a response to what the corpus does not have.
    """
    answered = list(jsonl.read(responses / "responses.jsonl"))
    given = {name: [row for row in answered if row["task"] == name] for name in tasks}
    rows: list[Row] = []
    scores: dict[str, Score] = {}
    breakdown: dict[str, Any] = {}
    total = sum(map(len, given.values()))
    for name, asked in given.items():
        if not asked:
            raise ValueError(f"there is no response to score {name} on")
        found = TASKS[name].score(asked, corpus, scoring)
        rows += found.rows
        scores |= found.scores
        if found.breakdown:
            breakdown[name] = found.breakdown
        context.report(done=len(rows), total=total)
    jsonl.write(out / "responses.jsonl", rows)
    used = json.loads((responses / "settings.json").read_text(encoding="utf-8"))
    used |= {"tasks": list(tasks), "matching": scoring.matching}
    if any_spoken(tasks):
        used["wer_normalization"] = scoring.wer_normalization
    _write(out / "scores.json", {"scores": scores, "settings": used})
    _write(out / "breakdown.json", breakdown)
    return {key: entry["value"] for key, entry in scores.items()}


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
