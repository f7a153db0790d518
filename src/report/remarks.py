"""Where a score misleads: remarks that are found in the numbers of a table."""

from collections.abc import Mapping
from typing import Any

from src.report import abilities, instructions
from src.report.stages import listed


def remarks(table: Mapping[str, Any]) -> list[str]:
    """What to keep in mind at the instructions by group.

    A group is named where a row that follows less than half of the prompts that the Original follows scores as high as
    the Original: rules of that group are kept by saying something else, too.
    """
    original = next((row for row in table["rows"] if row["strategy"] == "original" and row["ifeval"]), None)
    if original is None or abilities.IFEVAL not in original["scores"]:
        return []
    half = original["scores"][abilities.IFEVAL]["mean"] / 2
    weak = [
        row for row in table["rows"] if row["ifeval"] and abilities.IFEVAL in row["scores"]
        and row["scores"][abilities.IFEVAL]["mean"] < half
    ]  # fmt: skip
    found = []
    for group in instructions.groups(table):
        as_high = [
            row["label"] for row in weak if group in row["ifeval"] and group in original["ifeval"]
            and row["ifeval"][group]["mean"] >= original["ifeval"][group]["mean"] > 0
        ]  # fmt: skip
        if as_high:
            found.append(
                f"{instructions.name(group)}: {listed(as_high)} {'score' if len(as_high) > 1 else 'scores'} as high as "
                "the Original, though far fewer of the prompts are followed. Rules that forbid something, such as a "
                "comma, are kept by a response that says something else, or nearly nothing, too."
            )
    return found
