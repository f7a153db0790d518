"""What a row is made of besides replay: how its stages were merged, the alpha of its adapter, how it was trained."""

from collections.abc import Mapping
from typing import Any

from src.grid.row import Row

NONE = "none"
"""Stands for no merge, and for the plain training method."""


def given_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """`strategy.given` of a row's settings: a model that others have trained; None where the row is no such model."""
    given: Mapping[str, Any] | None = config["strategy"].get("given")
    return given


def components(row: Row) -> dict[str, Any]:
    """{"merge", "alpha", "method"} as they stand in table.json.

    alpha: that of the adapter as the model is scored, be it discounted or not; None for the Original and a given model.
    """
    config = row.config
    if config["original"] or given_of(config):
        return {"merge": NONE, "alpha": None, "method": NONE}
    alpha = config["discount"]["alpha"]
    return {
        "merge": config["merge"]["method"] or NONE,
        "alpha": config["train"]["adapter"]["alpha"] if alpha is None else alpha,
        "method": config["method"]["name"] or NONE,
    }
