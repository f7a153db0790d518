"""What a row is made of, in a few words: the top of its run's configuration, and columns of the grid's table."""

from collections.abc import Mapping
from typing import Any

from src.grid.row import Row
from src.report import components as parts

NAMES = ("strategy", "replay", "merge", "alpha", "method", "seed", "profile", "model")


def components(row: Row) -> dict[str, Any]:
    """The row's NAMES. replay: the share that is replayed, 0 without."""
    config = row.config
    replay, model, given = config["replay"], config["model"], parts.given_of(config)
    return {
        "strategy": row.name,
        "replay": replay["ratio"] if replay["enabled"] else 0,
        **parts.components(row),
        "seed": row.seed,
        "profile": config["profile"],
        "model": (given and (given.get("model") or given.get("adapter"))) or model.get("pretrained") or model["name"],
    }


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """{"train.lr": 1} -> {"train": {"lr": 1}}: wandb reads a dot in a name as a step down."""
    made: dict[str, Any] = {}
    for key, value in settings.items():
        *path, last = key.split(".")
        inner = made
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return made
