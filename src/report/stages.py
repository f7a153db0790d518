"""What the stages of a training are called, whatever the chain of a row is."""

import re
from collections.abc import Sequence

from src.grid.row import Row
from src.grid.step import closure
from src.steps.train import Train

REPEATED = re.compile(r"(.+)_(\d+)")


def title(stage: str) -> str:
    """The name of a stage for a reader: asr -> "ASR", joint -> "Joint", asr_2 (the second time) -> "ASR (2)"."""
    name, again = stage, ""
    if repeated := REPEATED.fullmatch(stage):
        name, again = repeated[1], f" ({repeated[2]})"
    words = name.replace("_", " ")
    return (words.upper() if len(words) <= 3 else words[:1].upper() + words[1:]) + again


def listed(names: Sequence[str]) -> str:
    """ "ASR, TTS and SQA"."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def trained(row: Row) -> list[str]:
    """The stages of the training that a row's model rests on, in order; empty for the Original."""
    steps = [step for step in closure([row.evaluate]) if isinstance(step, Train)]
    return list(dict.fromkeys(step.stage for step in sorted(steps, key=lambda step: step.depth)))
