"""What a row is made of, in a few words: the top of its run's configuration, and columns of the grid's table."""

from collections.abc import Mapping
from typing import Any

from src.grid.row import Row

NAMES = ("strategy", "replay", "merge", "alpha", "method", "seed", "profile", "model")


def components(row: Row) -> dict[str, Any]:
    """The row's NAMES.

    replay: the share that is replayed, 0 without. alpha: LoRA's at evaluation, None for the Original.
    """
    config = row.config
    replay, trained = config.get("replay") or {}, (config.get("train") or {}).get("adapter") or {}
    model = config.get("model") or {}
    alpha = (config.get("discount") or {}).get("alpha")
    return {
        "strategy": row.name,
        "replay": replay.get("ratio") if replay.get("enabled") else 0,
        "merge": (config.get("merge") or {}).get("method") or "none",
        "alpha": None if config.get("original") else trained.get("alpha") if alpha is None else alpha,
        "method": (config.get("method") or {}).get("name") or "none",
        "seed": row.seed,
        "profile": config.get("profile"),
        "model": model.get("pretrained") or model.get("name"),
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
