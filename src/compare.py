"""Two grids, or two rows, beside each other: `python -m src.compare A B`

A and B are each the name of a grid (the beginning of one will do, or a path), a row of the latest grid (its strategy,
or its label in the table), or GRID:ROW:

    python -m src.compare none replay
    python -m src.compare 13-rows-f6a2:replay 13-rows-09cd:replay
    python -m src.compare 13-rows-f6a2 13-rows-09cd

Printed are the settings that differ, the scores with paired tests where both answered the same examples (p adjusted
after Holm for the scores of a pair of rows), how many examples got better and worse, and some of these to read. The
page holds more of them, with what was said to listen to. Rows of two grids are paired by their labels. Differences are
B - A.

Exit code: 0, or 2 if A or B is not found or has nothing to compare.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import CompactHydraException
from rich.console import Console
from rich.table import Table
from rich.text import Text

from src.grid.arguments import command_parser, find_grid
from src.grid.errors import ConfigError
from src.grid.files import write_whole
from src.grid.plan import Plan
from src.grid.store import Store
from src.report import pairs, pairs_page
from src.report.cells import ABSENT, valued
from src.report.columns import arrow, heading
from src.report.examples import shorten
from src.report.lines import Line, collapse, plain
from src.report.pairs import Compared, Example, Pair

SHOWN = 3
"""Examples of a pair that are printed."""


@dataclass(frozen=True)
class Named:
    """What A or B stands for: a grid, or one row of it."""

    grid: Path
    lines: list[Line]
    """All rows of the grid, or the one row."""
    row: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = command_parser("src.compare", __doc__ or "")
    parser.add_argument("first", metavar="A")
    parser.add_argument("second", metavar="B")
    parser.add_argument("--outputs", metavar="DIR", type=Path, default=Path("outputs"), help="default: outputs")
    parser.add_argument("--out", metavar="FILE", type=Path, help="the page; default: outputs/comparisons/A--B.html")
    given = parser.parse_args(arguments)
    console = Console(highlight=False) if sys.stdout.isatty() else Console(width=200, highlight=False)
    try:
        first, second = (named(text, given.outputs) for text in (given.first, given.second))
        chosen = paired(first, second)
        store = Store(first.grid.parents[1] / "store")
        found = [
            (pair, pairs.settings(pair), pairs.scores(pair, store), pairs.examples(pair, store)) for pair in chosen
        ]
    except CompactHydraException as error:
        print(error, file=sys.stderr)
        return 2
    for pair, settings, scores, examples in found:
        show(console, pair, settings, scores, examples)
    slug = "--".join(re.sub(r"[^\w.-]+", "_", text.rstrip("/")) for text in (given.first, given.second))
    out: Path = given.out or given.outputs / "comparisons" / f"{slug}.html"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, pairs_page.render(f"{given.first} and {given.second}", found))
    console.print(str(out), markup=False)
    return 0


def named(text: str, outputs: Path) -> Named:
    """What A or B stands for. Raises ConfigError."""
    grid, colon, row = text.partition(":")
    if colon:
        return _row(find_grid(grid or None, outputs), row)
    exact = (outputs / "grids" / text / "plan.json").exists() or (Path(text) / "plan.json").exists()
    if not exact:  # the name of a row goes before the beginning of a grid's
        latest = find_grid(None, outputs)
        if any(text in (line.label, line.name) for line in _lines(latest)):
            return _row(latest, text)
    folder = find_grid(text, outputs)
    return Named(folder, _lines(folder), row=False)


def _row(folder: Path, text: str) -> Named:
    lines = _lines(folder)
    found = [line for line in lines if line.label == text] or [line for line in lines if line.name == text]
    if len(found) != 1:
        labels = ", ".join(line.label for line in lines)
        raise ConfigError(f"{text} names {len(found) or 'no'} rows of {folder.name}; its rows are: {labels}")
    return Named(folder, found, row=True)


def _lines(folder: Path) -> list[Line]:
    plan = Plan.load(folder / "plan.json")
    return collapse(plan.rows, Store(folder.parents[1] / "store"))


def paired(first: Named, second: Named) -> list[Pair]:
    """The pairs of rows to compare. Raises ConfigError where there is none, or they are of two stores."""
    if first.grid.parents[1] != second.grid.parents[1]:
        raise ConfigError(f"{first.grid} and {second.grid} are of two outputs folders: compare within one")
    if first.row != second.row:
        raise ConfigError("one of the two is a grid and the other a row: name two grids, or two rows (GRID:ROW)")
    lines = [(first.lines[0], second.lines[0])] if first.row else pairs.by_label(first.lines, second.lines)
    if not lines:
        raise ConfigError(
            f"no row of {first.grid.name} can be paired with one of {second.grid.name}: no label is in both, and no "
            "strategy is once in each; name two rows (GRID:ROW)"
        )
    return [Pair(_names(first, second, *both), both) for both in lines]


def _names(first: Named, second: Named, one: Line, two: Line) -> tuple[str, str]:
    """The labels, with the grids where these differ or the labels do not."""
    if first.grid == second.grid and one.label != two.label:
        return one.label, two.label
    return f"{one.label} ({first.grid.name})", f"{two.label} ({second.grid.name})"


def show(
    console: Console, pair: Pair, settings: Sequence[tuple[str, Any, Any]], scores: Sequence[Compared],
    examples: Sequence[Example],
) -> None:  # fmt: skip
    """Print one pair."""
    console.print(Text(f"A  {pair.names[0]}\nB  {pair.names[1]}\n", "bold"))
    table = Table(box=None, pad_edge=False)
    for header in ("setting", "A", "B"):
        table.add_column(header, overflow="fold")
    for key, one, two in settings:
        table.add_row(*map(Text, (key, plain(one), plain(two))))
    console.print(table if settings else "no setting differs")
    console.print()
    table = Table(box=None, pad_edge=False)
    for header in ("score", "A", "B", "B - A", "p", "better", "worse"):
        table.add_column(header, justify="left" if header == "score" else "right")
    for one in scores:
        if one.column["table"] != "more":
            table.add_row(*cells(one))
    console.print(table)
    for example in examples[:SHOWN]:
        console.print(Text(f"\n{example.task} {example.set}: {example.asked}  ({example.expected})"))
        for name, answer in zip("AB", example.answers, strict=True):
            told = ", ".join(f"{score} {'✓' if right else '✗'}" for score, right in pairs.verdicts(answer).items())
            console.print(Text(f"  {name}  {told}  {shorten(answer['response'])[:120]}".replace("\n", " ")))
    if len(examples) > SHOWN:
        console.print(f"\nand {len(examples) - SHOWN} more examples that differ, on the page")
    console.print()


def cells(one: Compared) -> list[str]:
    """The line of a score."""
    values = [valued(score, "±") if score else ABSENT for score in one.scores]
    name = f"{heading(one.column)} {arrow(one.column)}"
    if one.test is None:
        return [name, *values, *pairs.difference(one), "", ""]
    return [name, *values, *pairs.difference(one), *map(str, one.changed)]


if __name__ == "__main__":
    sys.exit(main())
