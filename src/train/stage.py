"""Train one stage of a chain on top of the base model and the stages before it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.data import jsonl
from src.data.replay import Replay, sample_earlier
from src.grid.context import Context
from src.model import adapter
from src.model.settings import Adapter
from src.stages import SETS, TEXT
from src.train.examples import Selection, Stored
from src.train.loop import gathered, train
from src.train.methods import Method, Role
from src.train.settings import Optimization

DRAWN = "for the method"
"""Where the examples stand that a method draws from the text, beside the text that is replayed or a stage's own."""


@dataclass(frozen=True)
class Part:
    """What a stage is trained on of one set of examples."""

    stored: Stored
    rows: np.ndarray
    """Places in it, of those that are trained on."""
    role: Role
    dropped: int = 0
    """Examples of the stage's own that it cannot use. Replay draws from those that it can."""


def choose(
    stage: str, own: Mapping[str, Path], earlier: Mapping[str, Path], replay: Replay | None, settings: Optimization,
    method: Method | None = None, text: Path | None = None,
) -> dict[str, Part]:  # fmt: skip
    """What a stage is trained on, by set: all of its own examples, those that it replays of the text and of the sets
    before it, and those that a method draws from `text` where the stage has no text.

    Examples that the stage cannot use (Origin.usable) are left out of all sets before anything is counted or drawn: a
    ratio is of what is trained on. own, earlier: artifacts of examples by set. Their order does not matter: the sets
    stand as in SETS, and the replayed text before other replayed sets.

    Raises ValueError where the stage can use none of its own examples.
    """
    own, earlier = _sorted(own), _sorted(earlier)
    chosen: dict[str, Part] = {}
    for name, folder in own.items():
        stored = Stored(folder)
        taken = stored.usable(settings)
        chosen[name] = Part(stored, taken, _role(name, method), len(stored) - len(taken))
    size = sum(len(part.rows) for part in chosen.values())
    if not size:
        every = sum(len(part.stored) for part in chosen.values())
        raise ValueError(f"stage {stage}: max_length={settings.max_length} leaves none of {every} examples")
    seed = f"{settings.seed}-{stage}"
    if replay is not None:
        past = {name: Stored(earlier[name]) for name in sorted(earlier, key=lambda name: name != TEXT)}
        usable = {name: stored.usable(settings) for name, stored in past.items()}
        sizes = {name: len(rows) for name, rows in usable.items()}
        ratios = {name: replay.of_text if name == TEXT else replay.ratio for name in past}
        for name, places in sample_earlier(sizes, ratios, replay.basis, size, seed).items():
            chosen[name] = Part(past[name], usable[name][places], _role(name, method))
    if method is not None and method.text_ratio and text is not None:
        pool = Stored(text)
        taken = pool.usable(settings)
        drawn = sample_earlier({TEXT: len(taken)}, {TEXT: method.text_ratio}, "current", size, f"{seed}-method")
        chosen[f"{TEXT} {DRAWN}"] = Part(pool, taken[drawn[TEXT]], Role.METHOD)
    return chosen


def _role(name: str, method: Method | None) -> Role:
    if method is None:
        return Role.CROSS_ENTROPY
    return method.text if name == TEXT else method.own


def _sorted(folders: Mapping[str, Path]) -> dict[str, Path]:
    return {name: folders[name] for name in SETS if name in folders}


def train_stage(
    stage: str, chosen: Mapping[str, Part], base: Path, previous: Path | None, adapted: Adapter, settings: Optimization,
    out: Path, context: Context, method: Method | None = None, fisher: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train, and write adapter/, full.safetensors and metrics.jsonl; returns the summary.

    base: artifact of the base model. previous: that of the stage before, None for the first. fisher: artifact of the
    base's Fisher information, where the method needs it.
    """
    model = adapter.trainable(base, previous, adapted, settings.seed, settings.dtype)
    selection = Selection([(part.stored, part.rows, part.role) for part in chosen.values()], settings.max_length)
    history = train(model, selection, settings, stage, context, method, base, fisher)
    with gathered(model):
        if int(os.environ["RANK"]) == 0:
            adapter.save(model, out, previous)
    if int(os.environ["RANK"]) == 0:
        jsonl.write(out / "metrics.jsonl", history.metrics)
    return history.summary | {"data": _data(chosen, settings, history.shares)}


def _data(chosen: Mapping[str, Part], settings: Optimization, shares: Mapping[int, float]) -> dict[str, Any]:
    """How many examples of each origin were trained on, how many were not and why, how many were cut, and the origin's
    share of the examples and of the loss."""
    longest = settings.max_length
    reason = f"longer than {longest} tokens"
    if settings.too_long == "cut":
        reason = f"nothing learned in the first {longest} tokens"
    total = sum(len(part.rows) for part in chosen.values())
    data = {}
    for number, (name, part) in enumerate(chosen.items()):
        cut = int((part.stored.lengths[part.rows] > longest).sum())
        data[name] = {
            "kept": len(part.rows),
            "dropped": {reason: part.dropped} if part.dropped else {},
            **({"cut": cut} if cut else {}),
            "share_of_examples": round(len(part.rows) / total, 4),
            "share_of_loss": round(shares.get(number, 0.0), 4),
        }
    return data
