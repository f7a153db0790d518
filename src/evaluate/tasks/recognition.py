"""ASR: spoken sentences, to be written down."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from src.data import jsonl, prompts
from src.data.unit_format import Units
from src.evaluate.asking import Asking, Sources
from src.evaluate.scoring import Scoring
from src.evaluate.tasks.task import Row, Scored, word_errors

INSTRUCTION = prompts.ASR_INSTRUCTIONS[0]


def examples(asking: Asking, sources: Sources) -> list[Row]:
    """The first `asr_examples` sentences as units, with their text as `reference`."""
    assert sources.units
    repeats = Units.read(sources.units).repeats
    found = []
    for row in islice(jsonl.read(sources.units / "eval_asr.jsonl"), asking.asr_examples):
        prompt = prompts.asr(prompts.flatten(row["units"], repeats), INSTRUCTION)
        found.append({"id": row["id"], "prompt": prompt, "reference": row["text"]})
    return found


def score(rows: Sequence[Row], corpus: Path, scoring: Scoring) -> Scored:
    """wer/asr: the errors of the transcripts."""
    transcripts = [" ".join(row["words"].split()) for row in rows]
    counted, errors = word_errors("wer/asr", [row["reference"] for row in rows], transcripts, scoring)
    scored = [{**row, "transcript": t, **counts} for row, t, counts in zip(rows, transcripts, counted, strict=True)]
    return Scored(scored, errors)
