"""The examples of each training stage, as conversations, from the artifacts `corpus` and `units`."""

import random
from pathlib import Path
from typing import Any

from src.data import jsonl, prompts

STAGES = ("asr", "tts", "sqa")
Conversation = list[dict[str, str]]


def _exchange(user: str, assistant: str) -> Conversation:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def asr_examples(units: Path, seed: int) -> list[Conversation]:
    """Instruction + units -> transcript; the instruction is drawn by `seed`."""
    rng = random.Random(f"{seed}-asr")
    return [
        _exchange(prompts.asr(prompts.flatten(row["units"]), rng.choice(prompts.ASR_INSTRUCTIONS)), row["text"])
        for row in jsonl.read(units / "asr.jsonl")
    ]


def tts_examples(units: Path, seed: int) -> list[Conversation]:
    """Instruction + text -> interleaved text and units."""
    rng = random.Random(f"{seed}-tts")
    return [
        _exchange(
            prompts.tts(row["text"], rng.choice(prompts.TTS_INSTRUCTIONS)),
            prompts.interleave(row["words"], row["units"]),
        )
        for row in jsonl.read(units / "tts.jsonl")
    ]


def sqa_examples(units: Path, seed: int) -> list[Conversation]:
    """Units of the question -> transcript, text answer, interleaved answer."""
    examples = []
    for row in jsonl.read(units / "sqa.jsonl"):
        question, answer = row["question"], row["answer"]
        response = prompts.sqa_response(
            " ".join(question["words"]), " ".join(answer["words"]), answer["words"], answer["units"]
        )
        examples.append(_exchange(prompts.sqa(prompts.flatten(question["units"])), response))
    return examples


EXAMPLES = {"asr": asr_examples, "tts": tts_examples, "sqa": sqa_examples}


def text_pool(corpus: Path, pool: str) -> list[Conversation]:
    """The base model's own text data for replay: `pool` or `pool_with_evaluation_facts`."""
    rows: list[dict[str, Any]] = list(jsonl.read(corpus / f"{pool}.jsonl"))
    return [row["messages"] for row in rows]
