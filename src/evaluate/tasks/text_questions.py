"""T2T: text question, text answer."""

from collections.abc import Sequence
from pathlib import Path

from src.data import jsonl, prompts
from src.evaluate.asking import Asking, Sources
from src.evaluate.scoring import Scoring
from src.evaluate.tasks.task import Row, Scored, answers, by_set, matches


def examples(asking: Asking, sources: Sources) -> list[Row]:
    """The questions of the corpus."""
    rows = jsonl.read(sources.corpus / "eval_qa.jsonl")
    return [{"id": row["id"], "set": row["set"], "prompt": prompts.plain(row["question"])} for row in rows]


def score(rows: Sequence[Row], corpus: Path, scoring: Scoring) -> Scored:
    """qa/<set>/t2t: the share of right answers."""
    accepted = answers(rows, corpus)
    correct = matches([row["words"] for row in rows], accepted, scoring)
    scored = [
        {**row, "answers": right, "correct": verdict}
        for row, right, verdict in zip(rows, accepted, correct, strict=True)
    ]
    return Scored(scored, by_set(scored, "correct", "t2t"))
