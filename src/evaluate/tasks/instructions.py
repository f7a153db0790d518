"""IFEval: instructions that a program can check."""

from collections.abc import Sequence
from pathlib import Path

from src.data import jsonl, prompts
from src.evaluate import ifeval
from src.evaluate.asking import Asking, Sources
from src.evaluate.scoring import Scoring
from src.evaluate.statistics import Interval, bootstrap, wilson
from src.evaluate.tasks.task import Row, Score, Scored, asked_of


def examples(asking: Asking, sources: Sources) -> list[Row]:
    """The prompts of the corpus. Raises FileNotFoundError if the checkers lack nltk's data, long before they run."""
    found = list(jsonl.read(sources.corpus / "eval_ifeval.jsonl"))
    ifeval.require_nltk_data(found)
    return [{"id": row["key"], "prompt": prompts.plain(row["prompt"])} for row in found]


def score(rows: Sequence[Row], corpus: Path, scoring: Scoring) -> Scored:
    """ifeval/<level>_<way>: prompt and instruction level, strict and loose.

    The breakdown is by group and by instruction, with the keys of the prompts whose verdict is chance in the official
    scorer.
    """
    asked = asked_of(rows, corpus / "eval_ifeval.jsonl", "key")
    verdicts = [ifeval.check(example, row["words"]) for row, example in zip(rows, asked, strict=True)]
    scored = [
        {
            **row,
            "instructions": example["instruction_id_list"],
            "strict": list(verdict.strict),
            "loose": list(verdict.loose),
        }
        for row, example, verdict in zip(rows, asked, verdicts, strict=True)
    ]
    scores: dict[str, Score] = {}
    for name, entry in ifeval.scores(verdicts).items():
        level, way = name.split("_")
        followed = [getattr(verdict, way) for verdict in verdicts]
        if level == "prompt" or entry["value"] in (0, 1):  # where all prompts agree, the bootstrap has no width
            interval: Interval | None = wilson(sum(map(all, followed)), len(followed))
        else:
            interval = bootstrap(list(map(sum, followed)), list(map(len, followed)))
        scores[f"ifeval/{name}"] = {**entry, "interval": interval}
    return Scored(scored, scores, {**ifeval.breakdown(asked, verdicts), "chance": ifeval.chance(asked)})
