"""Train one stage (ASR, TTS or SQA) on top of the base model and the stages before it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.data import jsonl
from src.data.replay import sample_earlier
from src.data.stages import STAGES
from src.grid.context import Context
from src.model import adapter
from src.model.settings import Adapter
from src.train.examples import Selection, Stored
from src.train.loop import gathered, train
from src.train.methods import Role
from src.train.settings import Optimization


def stage_examples(
    stage: str, replay: Mapping[str, Any] | None, inputs: Mapping[str, Path], seed: int
) -> dict[str, tuple[Stored, list[int]]]:
    """What is trained on, by origin: all of the stage's own examples, and those replayed of the text and the stages
    before it.

    inputs: the artifacts of examples by stage, and `text`.
    """
    own = Stored(inputs[stage])
    chosen = {stage: (own, list(range(len(own))))}
    if replay is None:
        return chosen
    earlier = {name: Stored(inputs[name]) for name in ("text", *STAGES[: STAGES.index(stage)])}
    sizes = {name: len(stored) for name, stored in earlier.items()}
    ratios = {name: replay["text_ratio"] if name == "text" else replay["ratio"] for name in earlier}
    replayed = sample_earlier(sizes, ratios, replay["basis"], len(own), f"{seed}-{stage}")
    return chosen | {name: (earlier[name], rows) for name, rows in replayed.items()}


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, context: Context) -> dict[str, Any]:
    """config: stage, seed, adapter, optimization, replay. inputs: base; after ASR, previous; examples by the name of
    their stage: its own and, with replay, those before it and `text`.

    Writes adapter/, full.safetensors and metrics.jsonl.
    """
    settings = Optimization(**config["optimization"])
    chosen = stage_examples(config["stage"], config["replay"], inputs, settings.seed)
    model = adapter.trainable(
        inputs["base"], inputs.get("previous"), Adapter(**config["adapter"]), settings.seed, settings.dtype
    )
    examples = Selection([(*part, Role.CROSS_ENTROPY) for part in chosen.values()])
    history = train(model, examples, settings, config["stage"], context)
    with gathered(model):
        if int(os.environ["RANK"]) == 0:
            adapter.save(model, out, inputs.get("previous"))
    if int(os.environ["RANK"]) == 0:
        jsonl.write(out / "metrics.jsonl", history.metrics)
    return history.summary | {"data": _data(chosen, settings.max_length)}


def _data(chosen: Mapping[str, tuple[Stored, list[int]]], longest: int) -> dict[str, Any]:
    """How many examples of each origin were trained on, and how many were not."""
    counts = {}
    for name, (stored, rows) in chosen.items():
        dropped = int((stored.lengths[rows] > longest).sum())
        reasons = {f"longer than {longest} tokens": dropped} if dropped else {}
        counts[name] = {"kept": len(rows) - dropped, "dropped": reasons}
    return counts
