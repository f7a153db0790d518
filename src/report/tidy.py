"""scores.csv, for one's own plots: one line for each score of each row, seed and stage. Made from table.json.

The table's own scores have the stage "final"; those after the earlier stages of a chain have the stage's name. A row
without scores has one line for each seed, which says why (`state`), with an empty value.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from src.stages import ORIGINAL

FINAL = "final"
ABOUT = ("label", "strategy", "replay", "merge", "alpha", "method")
FIELDS = (
    "grid", "row", *ABOUT, "seed", "stage", "task", "set", "mode", "value", "standard_error", "low", "high", "n",
    "state",
)  # fmt: skip
"""The columns; after them one for each setting that tells rows of one strategy apart."""

TAKEN_FOR_MISSING = frozenset([
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
])  # fmt: skip
"""What pandas.read_csv reads as a missing value. R's read.csv reads NA so, polars and DuckDB only what is empty."""


def present(label: str) -> str:
    """The label, in quotation marks of its own where a reader of CSV would take it for a missing value."""
    return f"'{label}'" if label in TAKEN_FOR_MISSING else label


def to_csv(table: Mapping[str, Any], grid: str) -> str:
    """scores.csv. `row` counts the rows of the table from 1; values are shares, as in table.json."""
    settings = list(dict.fromkeys(key for row in table["rows"] for key in row["settings"]))
    out = io.StringIO()
    writer = csv.DictWriter(out, [*FIELDS, *settings], lineterminator="\n")
    writer.writeheader()
    curves = {curve["label"]: curve for curve in table["curves"]}
    for number, row in enumerate(table["rows"], start=1):
        about = {"grid": grid, "row": number, **{name: row[name] for name in ABOUT}, "state": row["state"]}
        about |= {"label": present(row["label"])} | row["settings"]
        for measured in _measured(row, curves.get(row["label"], {})):
            writer.writerow(about | measured)
    return out.getvalue()


def _measured(row: Mapping[str, Any], curve: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What is told of each score, besides the row."""
    earlier = [point for point in curve.get("points", ()) if point["stage"] not in (ORIGINAL, curve["chain"][-1])]
    for stage, scores in [*((point["stage"], point["scores"]) for point in earlier), (FINAL, row["scores"])]:
        for key, score in scores.items():
            for one in score["seeds"]:
                low, high = one["interval"] or (None, None)
                values = {name: one[name] for name in ("seed", "value", "standard_error", "n")}
                yield {"stage": stage, **parts_of(key), **values, "low": low, "high": high}
    if not row["scores"]:
        yield from ({"stage": FINAL, "seed": seed} for seed in row["seeds"])


def parts_of(key: str) -> dict[str, str]:
    """"qa/animals/s2t" -> {"task": "qa", "set": "animals", "mode": "s2t"}; "ifeval/prompt_strict" has no set."""
    task, _, rest = key.partition("/")
    name, _, mode = rest.rpartition("/")
    return {"task": task, "set": name, "mode": mode}
