"""What was run: the beginning of a page."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.grid.plan import Plan
from src.grid.store import Store
from src.report import card
from src.report.lines import Line
from src.report.provenance import duration

SMOKE = "smoke"
"""The profile whose numbers say only that everything runs."""


def profiles(lines: Sequence[Line]) -> list[str]:
    """The profiles of the rows."""
    return list(dict.fromkeys(row.config["profile"] for line in lines for row in line.rows))


def facts(
    lines: Sequence[Line], plan: Plan, store: Store, manifests: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """(what, value) of profile, model and size, rows and seeds, commit, date and cost; those that are known."""
    seeds = sorted({seed for line in lines for seed in line.seeds})
    seconds = sum(manifests[name]["seconds"] for name in plan.entries if name in manifests)
    found = [
        ("Profile", ", ".join(profiles(lines))),
        ("Model", "; ".join(dict.fromkeys(_model(line, store) for line in lines))),
        ("Rows", str(len(lines))),
        ("Seed" if len(seeds) == 1 else "Seeds", ", ".join(map(str, seeds))),
        ("Launched", (plan.about.get("date") or "")[:16].replace("T", " ")),
        ("Commit", _commit(plan.about.get("commit") or "")),
        ("Cost", f"{duration(seconds)} of computing, {len(manifests)} steps" if manifests else ""),
    ]
    return [(name, value) for name, value in found if value]


def _commit(commit: str) -> str:
    """The first digits of a commit, and whether files were changed after it."""
    number, dash, state = commit.partition("-")
    return number[:10] + dash + state


def _model(line: Line, store: Store) -> str:
    row = line.rows[0]
    folder = store.lookup(card.base_of(row))
    count = parameters(folder / "model") if folder else 0
    named = card.base_model(row) or "trained from scratch"
    return f"{named}, {_rounded(count)} parameters" if count else named


def parameters(model: Path) -> int:
    """Numbers in the safetensors files of a folder, read from their headers; 0 where there are none."""
    from safetensors import safe_open

    count = 0
    for file in sorted(model.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as opened:
            count += sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
    return count


def _rounded(count: int) -> str:
    """Three digits: "928 thousand", "1.24 billion"."""
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if count >= size:
            return f"{count / size:.3g} {word}"
    return str(count)
