"""A small training with a method, in place of the step: speech examples and some of the text pool."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.data import jsonl
from src.grid.context import Context
from src.model import adapter
from src.model.settings import Adapter
from src.train import methods
from src.train.examples import Selection, Stored
from src.train.loop import gathered, train
from src.train.methods import Role
from src.train.settings import Optimization

OWN, TEXTS = 30, 10


def selection(inputs: Mapping[str, Path], method: methods.Method, replay: bool) -> Selection:
    """`replay`: texts are replayed; else they are there for the method alone, where it draws any."""
    parts = [(Stored(inputs["asr"]), range(OWN), method.own)]
    if replay or method.text_ratio:
        parts.append((Stored(inputs["text"]), range(TEXTS), method.text if replay else Role.METHOD))
    return Selection(parts, 10**6)


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, context: Context) -> dict[str, Any]:
    settings = Optimization(**config["optimization"])
    method = methods.made_of(config["method"])
    previous = inputs.get("previous")
    model = adapter.trainable(inputs["base"], previous, Adapter(**config["adapter"]), settings.seed, settings.dtype)
    examples = selection(inputs, method, config["replay"])
    history = train(model, examples, settings, "asr", context, method, inputs["base"], inputs.get("fisher"))
    with gathered(model):
        if int(os.environ["RANK"]) == 0:
            adapter.save(model, out, previous)
            jsonl.write(out / "metrics.jsonl", history.metrics)
    return history.summary
