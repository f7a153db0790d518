"""The examples of each training stage, as conversations, from the artifacts `corpus` and `units`."""

import random
from collections.abc import Iterator
from pathlib import Path

from src.data import jsonl, prompts
from src.data.unit_format import Units

STAGES = ("asr", "tts", "sqa")
Conversation = list[dict[str, str]]


def _exchange(user: str, assistant: str) -> Conversation:
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def asr_examples(units: Path, seed: int) -> Iterator[Conversation]:
    """Instruction + units -> transcript; the instruction is drawn by `seed`."""
    rng = random.Random(f"{seed}-asr")
    repeats = Units.read(units).repeats
    for row in jsonl.read(units / "asr.jsonl"):
        heard = prompts.flatten(row["units"], repeats)
        yield _exchange(prompts.asr(heard, rng.choice(prompts.ASR_INSTRUCTIONS)), row["text"])


def tts_examples(units: Path, seed: int) -> Iterator[Conversation]:
    """Instruction + text -> interleaved text and units."""
    rng = random.Random(f"{seed}-tts")
    for row in jsonl.read(units / "tts.jsonl"):
        asked = prompts.tts(row["text"], rng.choice(prompts.TTS_INSTRUCTIONS))
        yield _exchange(asked, prompts.interleave(row["words"], row["units"]))


def sqa_examples(units: Path, seed: int) -> Iterator[Conversation]:
    """Units of the question -> transcript, text answer, interleaved answer."""
    repeats = Units.read(units).repeats
    for row in jsonl.read(units / "sqa.jsonl"):
        question, answer = row["question"], row["answer"]
        response = prompts.sqa_response(question["text"], answer["text"], answer["words"], answer["units"])
        yield _exchange(prompts.sqa(prompts.flatten(question["units"], repeats)), response)


EXAMPLES = {"asr": asr_examples, "tts": tts_examples, "sqa": sqa_examples}


def text_pool(corpus: Path, pool: str) -> Iterator[Conversation]:
    """The base model's own text data for replay: `pool` or `pool_with_evaluation_facts`."""
    for row in jsonl.read(corpus / f"{pool}.jsonl"):
        yield row["messages"]
