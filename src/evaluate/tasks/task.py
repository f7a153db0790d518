"""What a task consists of, and what several tasks share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.data import jsonl
from src.evaluate import qa, wer
from src.evaluate.asking import Asking, Sources
from src.evaluate.scoring import Scoring
from src.evaluate.statistics import accuracy, bootstrap, wilson

Row = dict[str, Any]
Score = dict[str, Any]
"""value, n, standard_error, interval (low, high; None where too little was measured), and counts."""


@dataclass(frozen=True)
class Scored:
    """What the responses to a task are worth."""

    rows: list[Row]
    """Each response with its verdict."""
    scores: dict[str, Score]
    breakdown: dict[str, Any] = field(default_factory=dict)
    """Scores of parts of the task."""


@dataclass(frozen=True)
class Task:
    """One kind of question to a model."""

    examples: Callable[[Asking, Sources], list[Row]]
    """The examples, as rows of `responses.jsonl` that still lack the response: `id`, `prompt` (what the user says), and
    whatever the scores need. Questions of a set have it as `set`."""
    score: Callable[[Sequence[Row], Path, Scoring], Scored]
    """Scores the rows of `responses.jsonl`; the second argument is the corpus. Raises ValueError for a response to what
    the corpus does not have."""
    spoken: bool = False
    """Whether speech is in the prompt or in the response."""
    units: Callable[[str], Sequence[int]] | None = None
    """The units in the text of a response, which the recognizer then hears. None: a response is not spoken."""
    instruction: str = ""
    """What the user says before what is spoken or to be spoken."""


def asked_of(rows: Sequence[Row], file: Path, key: str = "id") -> list[Row]:
    """The corpus's example of each response, out of a JSONL file. Raises ValueError if it has none."""
    examples = {example[key]: example for example in jsonl.read(file)}
    for row in rows:
        if row["id"] not in examples:
            raise ValueError(f"a response to {row['id']!r} ({row['task']}), which is not in the corpus's {file.name}")
    return [examples[row["id"]] for row in rows]


def answers(rows: Sequence[Row], corpus: Path) -> list[list[str]]:
    """The accepted answers to the question of each row."""
    return [question["answers"] for question in asked_of(rows, corpus / "eval_qa.jsonl")]


def matches(texts: Sequence[str], accepted: Sequence[list[str]], scoring: Scoring) -> list[bool]:
    """Whether each text holds an accepted answer."""
    return [qa.correct(text, right, scoring.matching) for text, right in zip(texts, accepted, strict=True)]


def share_of(verdicts: Sequence[bool]) -> Score:
    """The score that is the share of true verdicts."""
    return {**accuracy(verdicts), "interval": wilson(sum(verdicts), len(verdicts))}


def by_set(rows: Sequence[Mapping[str, Any]], verdict: str, name: str) -> dict[str, Score]:
    """Accuracy of each question set, in order of appearance. verdict: the field of a row that says it."""
    sets = dict.fromkeys(row["set"] for row in rows)
    return {f"qa/{s}/{name}": share_of([row[verdict] for row in rows if row["set"] == s]) for s in sets}


def word_errors(
    key: str, references: Sequence[str], hypotheses: Sequence[str], scoring: Scoring
) -> tuple[list[dict[str, int]], dict[str, Score]]:
    """For each utterance {"errors", "words_counted"}, the words being those of the reference; and, by its key, the
    score of all. There is no score where no reference has a word."""
    counts = wer.per_utterance(references, hypotheses, scoring.wer_normalization)
    errors = [sum(count[kind] for kind in wer.ERRORS.values()) for count in counts]
    words = [count["words"] for count in counts]
    counted = [{"errors": e, "words_counted": n} for e, n in zip(errors, words, strict=True)]
    return counted, {key: {**wer.total(counts), "interval": bootstrap(errors, words)}} if any(words) else {}
