"""Question sets of a user's own beside those of the closed domain, in the words that its model reads and speaks."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.data import downloads, jsonl, question_sets
from src.data.settings import QuestionSet
from src.grid.files import link

SPEAKABLE = re.compile(r"[a-z]+('[a-z]+)*( [a-z]+('[a-z]+)*)*")
"""What the laptop's synthesizer can speak."""

EVALUATED = ("eval_ifeval.jsonl", "eval_asr.jsonl")
"""What else of the corpus a model is asked."""


def write(sets: Mapping[str, QuestionSet], corpus: Path, out: Path) -> dict[str, Any]:
    """Write eval_qa.jsonl: the corpus's questions, and behind them those of the sets, with the audio that they bring.
    The other lists of the evaluation are the corpus's own files. Returns the counts.

    Raises ValueError, which names the set, for what is wrong in its files.
    """
    rows = list(jsonl.read(corpus / "eval_qa.jsonl"))
    data: dict[str, Any] = {}
    for name, source in sets.items():
        try:
            own, data[f"eval_qa/{name}"] = rows_of(name, source, out)
        except ValueError as error:
            raise ValueError(f"data.questions.{name}: {error}") from None
        rows += own
    jsonl.write(out / "eval_qa.jsonl", rows)
    for name in EVALUATED:
        link(corpus / name, out / name)
    return {"data": data}


def rows_of(name: str, source: QuestionSet, out: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of a user's question set, in the words that the closed domain reads and speaks (lower case, no marks),
    and how many were kept and dropped.

    Their audio is copied to `out`/audio. Raises ValueError for what is wrong in its files, and for a question without
    audio that cannot be spoken as it is written.
    """
    path = downloads.question_files(name, source)
    question_sets.unchanged(source, path)
    rows: list[dict[str, Any]] = []
    unheard: list[str] = []
    for row in question_sets.load(name, source, path):
        if "fault" in row:
            unheard.append(row["fault"])
            continue
        question = plain_words(row["question"])
        if row["audio"] is None and SPEAKABLE.fullmatch(question) is None:
            raise ValueError(f"{row['question']!r} cannot be spoken: write it in words of the letters a to z")
        rows.append(question_sets.keep_audio({**row, "question": question}, out))
    return rows, question_sets.counted(len(rows), unheard)


def plain_words(text: str) -> str:
    """A text in lower case, with single spaces and without marks: "Who's there?" -> "who's there"."""
    return " ".join(word.strip("'") for word in re.sub(r"[^\w']+", " ", text.lower().replace("’", "'")).split())
