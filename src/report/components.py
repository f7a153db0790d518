"""What a row is made of besides replay: how its stages were merged, the alpha of its adapter, how it was trained."""

from typing import Any

from src.grid.row import Row

NONE = "none"
"""Stands for no merge, and for the plain training method."""


def components(row: Row) -> dict[str, Any]:
    """{"merge", "alpha", "method"} as they stand in table.json.

    alpha: that of the adapter as the model is scored, be it discounted or not; None for the Original.
    """
    config = row.config
    if config["original"]:
        return {"merge": NONE, "alpha": None, "method": NONE}
    alpha = config["discount"]["alpha"]
    return {
        "merge": config["merge"]["method"] or NONE,
        "alpha": config["train"]["adapter"]["alpha"] if alpha is None else alpha,
        "method": config["method"]["name"] or NONE,
    }
