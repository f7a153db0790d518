"""The report of a grid: table.{json,md,csv,tex}, scores.csv, table_plain.tex, drawings (svg, pdf, png), and index.html.

The drawings are figure3, tradeoff and ifeval.

    print(write(rows, plan, store, grid))

Rows whose steps failed or did not run are in it, as such. Nothing is computed anew: a second call reads the same
artifacts and writes the same bytes.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.grid.files import write_whole
from src.grid.plan import Plan
from src.grid.row import Row
from src.grid.step import closure
from src.grid.store import Store
from src.report import (
    curves,
    document,
    figure,
    instructions,
    latex,
    marks,
    page,
    retention,
    table,
    tidy,
    tradeoff,
)
from src.report.lines import collapse
from src.report.tracking.recording import record
from src.steps.score import Score
from src.steps.train import Train


def write(rows: Sequence[Row], plan: Plan, store: Store, grid: Path) -> str:
    """Write every form of the report into `grid`, and the tracker's runs; the table as text, for this terminal."""
    grid.mkdir(parents=True, exist_ok=True)
    failures = read_failures(plan, store, grid)
    lines = collapse(rows, store, frozenset(failures))
    data = {"replay_pools": replay_pools(rows), **rules(rows), "ifeval_chance": instructions.chance(lines, store)}
    forgotten = retention.collect(lines, store)
    told = document.document(
        lines, recognizers(rows, store), curves.collect(lines, store), data, marks.collect(lines, store),
        forgotten, instructions.collect(lines, store),
    )  # fmt: skip
    for name, text in {
        "table.json": table.to_json(told),
        "table.md": table.to_markdown(told),
        "table.csv": table.to_csv(told),
        "scores.csv": tidy.to_csv(told, grid.name),
        "table.tex": latex.to_tex(told),
        "table_plain.tex": latex.to_tex(told, spread=False),
    }.items():
        write_whole(grid / name, text)
    drawings = {
        "figure3": figure.draw(told, grid),
        "tradeoff": tradeoff.draw(told, grid),
        "ifeval": instructions.draw(told, grid),
    }
    write_whole(grid / "index.html", page.render(grid.name, told, lines, plan, store, drawings, failures))
    tracked = record(lines, forgotten, told, plan, store, grid)
    width = shutil.get_terminal_size(fallback=(160, 50)).columns
    return table.to_text(told, width) + (f"\n{tracked}\n" if tracked else "")


def read_failures(plan: Plan, store: Store, grid: Path) -> dict[str, str]:
    """The tracebacks of the plan's steps that failed and have no artifact, by the step's name."""
    found = {}
    for name, entry in plan.entries.items():
        file = grid / "failures" / f"{name}.txt"
        if file.exists() and store.lookup(entry.step) is None:
            found[name] = file.read_text(encoding="utf-8", errors="replace")
    return found


def recognizers(rows: Sequence[Row], store: Store) -> list[dict[str, Any]]:
    """The WER of each recognizer that heard spoken answers: {"seed", "recognizer", "natural", "resynthesized"}."""
    found: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row.seed):
        folder = store.lookup(row.recognizer) if row.recognizer else None
        if row.recognizer and folder and row.recognizer.name not in found:
            errors = json.loads((folder / "wer.json").read_text(encoding="utf-8"))
            found[row.recognizer.name] = {"seed": row.seed, "recognizer": row.recognizer.name, **errors}
    return list(found.values())


def replay_pools(rows: Sequence[Row]) -> list[str]:
    """The text pools that the rows' training replayed from, by name."""
    steps = closure(step for row in rows for step in (row.evaluate, *row.curve.values()))
    pools = {step.replay.pool for step in steps if isinstance(step, Train) and step.replay}
    return sorted(pools)


def rules(rows: Sequence[Row]) -> dict[str, list[str]]:
    """What the rows were scored by: {"matching": names, "wer_normalization": names}."""
    used: dict[str, dict[str, None]] = {"matching": {}, "wer_normalization": {}}
    for row in rows:
        for setting, names in used.items():
            if isinstance(row.evaluate, Score) and setting in row.evaluate.reads:
                names[getattr(row.evaluate.config, setting)] = None
    return {setting: sorted(names) for setting, names in used.items()}
