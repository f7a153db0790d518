"""Train one stage (ASR, TTS or SQA) on top of the base model and the stages before it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from src.data import jsonl
from src.data.replay import sample_earlier
from src.data.stages import EXAMPLES, STAGES, Conversation, text_pool
from src.grid.context import Context
from src.model import adapter
from src.model.adapter import AdapterConfig
from src.model.chat import Chat
from src.train.loop import Optimization, gathered, train


def stage_conversations(
    stage: str, replay: Mapping[str, Any] | None, corpus: Path, units: Path, seed: int
) -> tuple[list[Conversation], dict[str, int]]:
    """The stage's own examples and what is replayed of the stages and the text before it; counts by origin."""
    own = EXAMPLES[stage](units, seed)
    counts = {stage: len(own)}
    if replay is None:
        return own, counts
    before = STAGES[: STAGES.index(stage)]
    earlier = {"text": text_pool(corpus, replay["pool"])} | {name: EXAMPLES[name](units, seed) for name in before}
    ratios = {name: replay["text_ratio"] if name == "text" else replay["ratio"] for name in earlier}
    replayed = sample_earlier(earlier, ratios, replay["basis"], len(own), f"{seed}-{stage}")
    counts |= {name: len(examples) for name, examples in replayed.items()}
    return own + [talk for examples in replayed.values() for talk in examples], counts


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, context: Context) -> dict[str, Any]:
    """config: stage, seed, adapter, optimization, replay. inputs: base, corpus, units and, after ASR, previous.

    Writes adapter/, full.safetensors and metrics.jsonl.
    """
    settings = Optimization.of(config["optimization"])
    base, previous = inputs["base"], inputs.get("previous")
    tokenizer = AutoTokenizer.from_pretrained(base / "model")
    conversations, counts = stage_conversations(
        config["stage"], config["replay"], inputs["corpus"], inputs["units"], settings.seed
    )
    examples = Chat(tokenizer).encode(conversations)
    model = adapter.trainable(base, previous, AdapterConfig.of(config["adapter"]), settings.seed)
    history = train(model, examples, settings, config["stage"], context)
    with gathered(model):
        if int(os.environ["RANK"]) == 0:
            adapter.save(model, out)
    if int(os.environ["RANK"]) == 0:
        jsonl.write(out / "metrics.jsonl", history.metrics)
    return history.summary | {"counts": counts}
