"""Which rows of a table stand together, and which score of a column is the best."""

from collections.abc import Mapping
from typing import Any

from src.report.cells import percent
from src.report.lines import ORDER


def best(table: Mapping[str, Any], column: Mapping[str, Any]) -> set[str]:
    """Labels of the rows whose score is the best of the column, as it is written; never the Original, which learned no
    speech. None where all are equal, or there is nothing to be better than."""
    scores = {
        row["label"]: float(percent(row["scores"][column["key"]]["mean"]))
        for row in table["rows"]
        if column["key"] in row["scores"] and row["strategy"] != "original"
    }
    if len(set(scores.values())) < 2:
        return set()
    wanted = (max if column["direction"] == "up" else min)(scores.values())
    return {name for name, score in scores.items() if score == wanted}


def block(row: Mapping[str, Any]) -> tuple[str, bool]:
    """Rows of one block stand together: the Original, the paper's rows without and with replay, and others."""
    name = row["strategy"]
    return ("original" if name == "original" else "paper" if name in ORDER else "further", row["replay"])
