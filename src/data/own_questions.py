"""Question sets of a user's own beside those of the closed domain, in the words that its model reads and speaks."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
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
    own = [row for name, source in sets.items() for row in rows_of(name, source, out)]
    jsonl.write(out / "eval_qa.jsonl", [*rows, *own])
    for name in EVALUATED:
        link(corpus / name, out / name)
    counts = Counter(row["set"] for row in own)
    return {"data": {f"eval_qa/{name}": {"kept": counts[name], "dropped": {}} for name in sets}}


def rows_of(name: str, source: QuestionSet, out: Path) -> Iterator[dict[str, Any]]:
    """The rows of a user's question set, in the words that the closed domain reads and speaks: lower case, no marks.

    Their audio is copied to `out`/audio. Raises ValueError, which names the set, for what is wrong in its files, and
    for a question without audio that cannot be spoken as it is written.
    """
    try:
        path = downloads.question_files(name, source)
        question_sets.unchanged(source, path)
        for row in question_sets.load(name, source, path):
            question = plain_words(row["question"])
            if row["audio"] is None and SPEAKABLE.fullmatch(question) is None:
                raise ValueError(f"{row['question']!r} cannot be spoken: write it in words of the letters a to z")
            yield question_sets.keep_audio({**row, "question": question}, out)
    except ValueError as error:
        raise ValueError(f"data.questions.{name}: {error}") from None


def plain_words(text: str) -> str:
    """A text in lower case, with single spaces and without marks: "Who's there?" -> "who's there"."""
    return " ".join(word.strip("'") for word in re.sub(r"[^\w']+", " ", text.lower().replace("’", "'")).split())
