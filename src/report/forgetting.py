"""The table of what was forgotten, from table.json: a line for each row, and for each stage of its training."""

from collections.abc import Mapping
from typing import Any

from src.report import abilities
from src.report.cells import ABSENT, label, valued
from src.report.retention import MEASURES
from src.report.stages import title

NAMES = {"forgetting": "forgetting", "backward_transfer": "BWT", "retention": "retention", "rate": "rate"}
"""Headings of the measures."""
NOTES = (
    "Each text ability by itself, in percent, relative to the Original that the row was trained from. "
    "forgetting: the best score before minus the one now (Chaudhry et al. 2018). BWT, backward transfer: now minus the "
    "Original (Lopez-Paz & Ranzato 2017). retention: now / Original. rate: Speech-IFEval's forgetting rate, "
    "(now - Original) / Original.",
    "± as in the table; a standard error takes the two scores as independent.",
)


def columns(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a line has a cell for: {"ability", "measure", "group", "name", "direction"}."""
    keys = [column["key"] for column in table["columns"]]
    return [
        {
            "ability": ability,
            "measure": measure,
            "group": abilities.title(ability, abilities.keys_of(ability, keys)),
            "name": NAMES[measure],
            "direction": direction,
        }
        for ability in abilities.TEXT
        if any(ability in one for row in table["rows"] for one in row["forgetting"])
        for measure, direction in MEASURES.items()
    ]


def lines(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines of the table of forgetting: {"label", "stage", "last", "cells"}; a row with stages has one for each."""
    chosen = columns(table)
    found = []
    for row in table["rows"]:
        for i, one in enumerate(row["forgetting"], start=1):
            measured = [(one.get(column["ability"], {}).get(column["measure"]), column) for column in chosen]
            if any(entry for entry, _ in measured):
                cells = [
                    valued(entry, scale=0.01 if column["measure"] == "rate" else 1.0) if entry else ABSENT
                    for entry, column in measured
                ]
                stage, last = title(one["stage"]), i == len(row["forgetting"])
                found.append({"label": label(row), "stage": stage, "last": last, "cells": cells})
    return found
