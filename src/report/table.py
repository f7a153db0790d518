"""The table of a grid as JSON, Markdown, CSV, and text for a terminal. All are made from table.json."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from src.report import forgetting
from src.report.cells import cell, label, letters, marked
from src.report.columns import arrow, front, groups, heading, shown
from src.report.compare import SUPERSCRIPTS
from src.report.markdown import escape, piped
from src.report.notes import notes
from src.report.tidy import present


def to_json(table: Mapping[str, Any]) -> str:
    return json.dumps(table, ensure_ascii=False, indent=1) + "\n"


def to_markdown(table: Mapping[str, Any]) -> str:
    parts = [_markdown(table, front(table))]
    parts += [_markdown(table, chosen) for which in ("skills", "lm_eval") if (chosen := shown(table, which))]
    parts.append("\n".join(f"- {escape(note)}" for note in notes(table)))
    if lost := forgetting.lines(table):
        head = [f"{heading(column)} {arrow(column)}" for column in forgetting.columns(table)]
        parts.append("## Forgetting")
        parts.append(piped(["Strategy", "after", *head], [[one["label"], one["stage"], *one["cells"]] for one in lost]))
        parts.append("\n".join(f"- {escape(note)}" for note in forgetting.NOTES))
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(table: Mapping[str, Any], chosen: Sequence[Mapping[str, Any]]) -> str:
    head = ["Strategy", *(f"{heading(column)} {arrow(column)}" for column in chosen)]
    return piped(head, [[label(row), *(marked(row, column["key"]) for column in chosen)] for row in table["rows"]])


def to_csv(table: Mapping[str, Any]) -> str:
    """One line a row; each score as its title, mean (in [0, 1], full precision), deviation over seeds, standard error,
    n and the bounds of its 95 % interval. No label is one that readers of CSV take for a missing value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    titles = {column["key"]: heading(column) for column in table["columns"]}
    fields = ("/title", "", "/std", "/standard_error", "/n", "/low", "/high")
    writer.writerow(
        ["label", "strategy", "seeds", "state"]
        + [key + field for key in titles for field in fields]
    )
    for row in table["rows"]:
        values: list[Any] = [present(row["label"]), row["strategy"], " ".join(map(str, row["seeds"])), row["state"]]
        for key, title in titles.items():
            values.append(title)
            score = row["scores"].get(key)
            if score:
                values += [score[field] for field in ("mean", "std", "standard_error", "n")]
                values += score["interval"] or [None] * 2
            else:
                values += [None] * 6
        writer.writerow(values)
    return out.getvalue()


def to_text(table: Mapping[str, Any], width: int = 160) -> str:
    """The table for a terminal of `width` columns, as much of it as fits: spreads give way first, then the means. The
    tasks of lm-evaluation-harness stand below, in a table of their own.
    """
    main, whole = shown(table, "main"), front(table)
    tried = [(whole, "±"), (main, "±"), (whole, ""), (main, "")]
    texts = (_grid(table, *one) for one in tried)
    chosen = next((text for text, wide in texts if wide <= width), "") or _grid(table, main, "")[0]
    if further := shown(table, "lm_eval"):
        chosen += "\n" + _grid(table, further, "±")[0]
    return "\n".join([chosen, *notes(table)]) + "\n"


def _grid(table: Mapping[str, Any], chosen: Sequence[Mapping[str, Any]], sign: str) -> tuple[str, int]:
    """(the rows as text, its width in characters)."""
    widest = [max((len(letters(row, c["key"])) for row in table["rows"]), default=0) for c in chosen]
    cells = [
        [
            cell(row, column["key"], sign) + letters(row, column["key"]).translate(SUPERSCRIPTS).ljust(most)
            for column, most in zip(chosen, widest, strict=True)
        ]
        for row in table["rows"]
    ]
    heads = [f"{column['name'].removesuffix('uction')} {arrow(column)}" for column in chosen]
    wide = _widths(chosen, [heads, *cells])
    first = max(map(cell_len, ["Strategy", *map(label, table["rows"])]))
    total = first + sum(wide) + 2 * len(wide)
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column("Strategy", min_width=first, no_wrap=True)
    for head, column_width in zip(heads, wide, strict=True):
        grid.add_column(head.rjust(column_width), no_wrap=True)
    for row, texts in zip(table["rows"], cells, strict=True):
        grid.add_row(Text(label(row)), *(text.rjust(at) for text, at in zip(texts, wide, strict=True)))
    over, at = " " * (first + 2), 0
    for group, count in groups(chosen):
        span = sum(wide[at : at + count]) + 2 * (count - 1)
        left = (span - cell_len(group) - 2) // 2
        over += f"{'─' * left} {group} {'─' * (span - cell_len(group) - 2 - left)}  "
        at += count
    console = Console(file=io.StringIO(), width=max(total, 80), color_system=None, highlight=False)
    console.print(Text(over.rstrip()))
    console.print(grid)
    with_spaces = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(text.rstrip() for text in with_spaces.splitlines()) + "\n", total


def _widths(chosen: Sequence[Mapping[str, Any]], lines: Sequence[Sequence[str]]) -> list[int]:
    """How wide each column is for what stands in it, and for its group's title above it."""
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    at = 0
    for group, count in groups(chosen):
        wide[at] += max(0, cell_len(group) + 2 - sum(wide[at : at + count]) - 2 * (count - 1))
        at += count
    return wide
