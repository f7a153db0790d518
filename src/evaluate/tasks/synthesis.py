"""TTS: sentences to be spoken."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from src.data import jsonl, prompts
from src.evaluate.asking import Asking, Sources
from src.evaluate.scoring import Scoring
from src.evaluate.tasks.task import Row, Scored, word_errors

INSTRUCTION = prompts.TTS_INSTRUCTIONS[0]


def examples(asking: Asking, sources: Sources) -> list[Row]:
    """The first `tts_examples` sentences that are there as speech too, with their text as `reference`."""
    assert sources.units
    rows = islice(jsonl.read(sources.units / "eval_asr.jsonl"), asking.tts_examples)
    return [
        {"id": row["id"], "prompt": prompts.tts(row["text"], INSTRUCTION), "reference": row["text"]} for row in rows
    ]


def units(text: str) -> Sequence[int]:
    """The units in a response, wherever they stand."""
    return prompts.units_of(text)


def score(rows: Sequence[Row], corpus: Path, scoring: Scoring) -> Scored:
    """wer/tts: the errors of what the recognizer hears."""
    heard = [row["heard"] for row in rows]
    counted, errors = word_errors("wer/tts", [row["reference"] for row in rows], heard, scoring)
    return Scored([{**row, **counts} for row, counts in zip(rows, counted, strict=True)], errors)
