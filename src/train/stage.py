"""Train one stage of a chain on top of the base model and the stages before it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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

Chosen = dict[str, tuple[Stored, list[int], Role]]
"""Set -> its examples, which of them are trained on, and by which losses."""
DRAWN = "for the method"
"""Where the examples stand that a method draws from the text, beside the text that is replayed or a stage's own."""


def choose(
    stage: str, own: Mapping[str, Path], earlier: Mapping[str, Path], replay: Replay | None, seed: int,
    method: Method | None = None, text: Path | None = None,
) -> Chosen:  # fmt: skip
    """What a stage is trained on, by set: all of its own examples, those that it replays of the text and of the sets
    before it, and those that a method draws from `text` where the stage has no text.

    own, earlier: artifacts of examples by set. Their order does not matter: the sets stand as in SETS, and the replayed
    text before other replayed sets.
    """
    own, earlier = _sorted(own), _sorted(earlier)
    stored = {name: Stored(folder) for name, folder in own.items()}
    size = sum(map(len, stored.values()))
    chosen = {name: (examples, list(range(len(examples)))) for name, examples in stored.items()}
    if replay is not None:
        past = {name: Stored(earlier[name]) for name in sorted(earlier, key=lambda name: name != TEXT)}
        sizes = {name: len(examples) for name, examples in past.items()}
        ratios = {name: replay.of_text if name == TEXT else replay.ratio for name in past}
        replayed = sample_earlier(sizes, ratios, replay.basis, size, f"{seed}-{stage}")
        chosen |= {name: (past[name], rows) for name, rows in replayed.items()}
    roles = {name: _role(name, method) for name in chosen}
    made = {name: (*part, roles[name]) for name, part in chosen.items()}
    if method is not None and method.text_ratio and text is not None:
        pool = Stored(text)
        drawn = sample_earlier({TEXT: len(pool)}, {TEXT: method.text_ratio}, "current", size, f"{seed}-{stage}-method")
        made[f"{TEXT} {DRAWN}"] = (pool, drawn[TEXT], Role.METHOD)
    return made


def _role(name: str, method: Method | None) -> Role:
    if method is None:
        return Role.CROSS_ENTROPY
    return method.text if name == TEXT else method.own


def _sorted(folders: Mapping[str, Path]) -> dict[str, Path]:
    return {name: folders[name] for name in SETS if name in folders}


def train_stage(
    stage: str, chosen: Chosen, base: Path, previous: Path | None, adapted: Adapter, settings: Optimization, out: Path,
    context: Context, method: Method | None = None, fisher: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train, and write adapter/, full.safetensors and metrics.jsonl; returns the summary.

    base: artifact of the base model. previous: that of the stage before, None for the first. fisher: artifact of the
    base's Fisher information, where the method needs it.
    """
    model = adapter.trainable(base, previous, adapted, settings.seed, settings.dtype)
    history = train(model, Selection(list(chosen.values())), settings, stage, context, method, base, fisher)
    with gathered(model):
        if int(os.environ["RANK"]) == 0:
            adapter.save(model, out, previous)
    if int(os.environ["RANK"]) == 0:
        jsonl.write(out / "metrics.jsonl", history.metrics)
    return history.summary | {"data": _data(chosen, settings.max_length)}


def _data(chosen: Chosen, longest: int) -> dict[str, Any]:
    """How many examples of each origin were trained on, and how many were not."""
    counts = {}
    for name, (stored, rows, _) in chosen.items():
        dropped = int((stored.lengths[rows] > longest).sum())
        reasons = {f"longer than {longest} tokens": dropped} if dropped else {}
        counts[name] = {"kept": len(rows) - dropped, "dropped": reasons}
    return counts
