"""The table of a grid as a document (table.json), and that document as Markdown, CSV, LaTeX and plain text.

Everything but the document is made from the document alone, so that all forms agree. The document holds scores and the
names of the artifacts that they were read from: no times and no paths, so equal results give equal bytes. Its fields
are described in docs/table_schema.md.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from src.report.lines import Line, Score

FORMAT = 1
"""Of table.json; raised when a field changes its meaning."""

MODES = {"t2t": "T2T", "s2t": "S2T", "s2s": "S2S"}
IFEVAL = {
    "prompt_strict": ("prompt", True),
    "instruction_strict": ("instruction", True),
    "prompt_loose": ("prompt (loose)", False),
    "instruction_loose": ("instruction (loose)", False),
}
SKILLS = {
    "wer/asr": ("WER", "ASR"),
    "wer/tts": ("WER", "TTS"),
    "wer/question": ("WER", "spoken question"),
    "form/well_formed": ("Form", "well-formed"),
}
ABSENT = "-"
MISSING = "–"  # an evaluation that does not exist, where ABSENT is a score that its strategy does not have


def columns(keys: Iterable[str]) -> list[dict[str, Any]]:
    """How to show each score: {"key", "group", "name", "direction", "table"}.

    `table` is "main" for the paper's columns, "skills" for the word error rates and the form of the responses, "more"
    for the rest. Question sets stand in the order in which they occur.
    """
    keys = list(dict.fromkeys(keys))
    sets = list(dict.fromkeys(key.split("/")[1] for key in keys if key.startswith("qa/")))
    found = []
    for name in sets:
        for mode, title in MODES.items():
            if (key := f"qa/{name}/{mode}") in keys:
                found.append({"key": key, "group": name, "name": title, "direction": "up", "table": "main"})
    for short, (title, strict) in IFEVAL.items():
        if (key := f"ifeval/{short}") in keys:
            table = "main" if strict else "more"
            found.append({"key": key, "group": "IFEval", "name": title, "direction": "up", "table": table})
    for key, (group, title) in SKILLS.items():
        if key in keys:
            direction = "down" if group == "WER" else "up"
            found.append({"key": key, "group": group, "name": title, "direction": direction, "table": "skills"})
    known = {column["key"] for column in found}
    for key in keys:
        if key not in known:
            group, _, title = key.rpartition("/")
            direction = "down" if key.startswith("wer") else "up"
            found.append({"key": key, "group": group, "name": title, "direction": direction, "table": "more"})
    return found


def score_entry(score: Score) -> dict[str, Any]:
    """A score as it stands in table.json."""
    return {
        "mean": score.mean,
        "std": score.deviation,
        "standard_error": score.error,
        "n": score.n,
        "seeds": [dict(one) for one in score.seeds],
    }


def document(
    lines: Sequence[Line],
    judge: Sequence[Mapping[str, Any]] = (),
    curves: Sequence[Mapping[str, Any]] = (),
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """table.json as an object; see docs/table_schema.md."""
    return {
        "format": FORMAT,
        "columns": columns(key for line in lines for key in line.scores),
        "rows": [
            {
                "label": line.label,
                "strategy": line.name,
                "settings": dict(line.settings),
                "seeds": line.seeds,
                "state": line.state,
                "evaluations": [row.evaluate.name for row in line.rows],
                "scores": {key: score_entry(score) for key, score in line.scores.items()},
            }
            for line in lines
        ],
        "judge": [dict(one) for one in judge],
        "curves": [dict(curve) for curve in curves],
        "data": dict(data or {}),
    }


def to_json(table: Mapping[str, Any]) -> str:
    return json.dumps(table, ensure_ascii=False, indent=1) + "\n"


def shown(table: Mapping[str, Any], which: str) -> list[dict[str, Any]]:
    return [column for column in table["columns"] if column["table"] == which]


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def spread(score: Mapping[str, Any]) -> float | None:
    """What stands after the plus-minus sign: the deviation over seeds, else the standard error."""
    return score["standard_error"] if score["std"] is None else score["std"]


def cell(row: Mapping[str, Any], key: str, mark: str = " ± ") -> str:
    """The text of one cell; without `mark`, without the spread."""
    score = row["scores"].get(key)
    if score is None:
        if row["scores"]:
            return ABSENT
        return "failed" if row["state"] == "failed" else MISSING
    wide = spread(score)
    return percent(score["mean"]) + (f"{mark}{percent(wide)}" if mark and wide is not None else "")


def label(row: Mapping[str, Any]) -> str:
    """The label, with what is missing of it."""
    if row["state"] == "partial":
        have = max(len(score["seeds"]) for score in row["scores"].values())
        return f"{row['label']} [{have} of {len(row['seeds'])} seeds]"
    return row["label"]


def arrow(column: Mapping[str, Any]) -> str:
    return {"up": "↑", "down": "↓"}[column["direction"]]


def groups(chosen: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """Neighboring columns of one group: (group, how many)."""
    runs: list[tuple[str, int]] = []
    for column in chosen:
        if runs and runs[-1][0] == column["group"]:
            runs[-1] = (column["group"], runs[-1][1] + 1)
        else:
            runs.append((column["group"], 1))
    return runs


def notes(table: Mapping[str, Any]) -> list[str]:
    """What a reader must know of the numbers, one sentence or two a line."""
    said = []
    several = [row for row in table["rows"] if len(row["seeds"]) > 1]
    if several and table["columns"]:
        counts = sorted({len(row["seeds"]) for row in several})
        said.append(
            f"Percent; mean ± standard deviation over {' or '.join(map(str, counts))} seeds"
            + ("." if len(several) == len(table["rows"]) else ", or ± the standard error of a single seed.")
        )
    elif table["columns"]:
        said.append("Percent ± the standard error over the scored examples (one seed).")
    sizes: dict[int, list[str]] = {}
    for group, _ in groups(shown(table, "main")):
        counted = {
            score["n"]
            for column in shown(table, "main")
            if column["group"] == group and not column["name"].startswith("instruction")
            for row in table["rows"]
            if (score := row["scores"].get(column["key"]))
        }
        for n in sorted(counted):
            sizes.setdefault(n, []).append(group)
    if sizes:
        said.append("Examples: " + ", ".join(f"{n} in {_listed(names)}" for n, names in sizes.items()) + ".")
    judged = [one for one in table["judge"] if one.get("natural") and one.get("resynthesized")]
    if judged:
        heard, natural = (", ".join(percent(one[k]["wer"]) for one in judged) for k in ("resynthesized", "natural"))
        each = f" ({len(judged)} recognizers)" if len(judged) > 1 else ""
        said.append(
            f"Recognizer's WER{each}: {heard} on the answers spoken anew and resynthesized, {natural} before that; "
            "it bounds S2S."
        )
    if any(row["state"] == "failed" for row in table["rows"]):
        said.append("failed: a step that the row needs failed; its traceback is kept with the grid.")
    if any(row["state"] == "not run" for row in table["rows"]):
        said.append(f"{MISSING}: not run.")
    return said


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def to_markdown(table: Mapping[str, Any]) -> str:
    parts = [_markdown(table, shown(table, "main"))]
    if skills := shown(table, "skills"):
        parts.append(_markdown(table, skills))
    parts.append("\n".join(f"- {note}" for note in notes(table)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(table: Mapping[str, Any], chosen: Sequence[Mapping[str, Any]]) -> str:
    head = ["Strategy", *(f"{column['group']} {column['name']} {arrow(column)}" for column in chosen)]
    body = [[label(row), *(cell(row, column["key"]) for column in chosen)] for row in table["rows"]]
    rule = [":--", *("--:" for _ in chosen)]
    escaped = ([text.replace("|", "\\|") for text in line] for line in [head, rule, *body])
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def to_csv(table: Mapping[str, Any]) -> str:
    """One line a row; each score as mean (in [0, 1], full precision), deviation over seeds, standard error and n."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    keys = [column["key"] for column in table["columns"]]
    writer.writerow(
        ["label", "strategy", "seeds", "state"]
        + [key + suffix for key in keys for suffix in ("", "/std", "/standard_error", "/n")]
    )
    for row in table["rows"]:
        values: list[Any] = [row["label"], row["strategy"], " ".join(map(str, row["seeds"])), row["state"]]
        for key in keys:
            score = row["scores"].get(key)
            values += [score[field] for field in ("mean", "std", "standard_error", "n")] if score else [None] * 4
        writer.writerow(values)
    return out.getvalue()


TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "–": "--", "α": r"$\alpha$",
    }
)  # fmt: skip


def to_tex(table: Mapping[str, Any]) -> str:
    """A tabular for `\\input`; needs the package booktabs."""
    chosen = shown(table, "main")
    runs = groups(chosen)
    spans, rules, start = [], [], 2
    for group, width in runs:
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{group.translate(TEX)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    out = [f"% {note}" for note in notes(table)]
    out += [rf"\begin{{tabular}}{{l{'r' * len(chosen)}}}", r"\toprule"]
    if runs:
        out += [" & " + " & ".join(spans) + r" \\", " ".join(rules)]
    out.append(" & ".join(["Strategy", *(f"{c['name']} {arrow(c)}".translate(TEX) for c in chosen)]) + r" \\")
    out.append(r"\midrule")
    for row in table["rows"]:
        cells = [label(row), *(cell(row, column["key"], "±") for column in chosen)]
        out.append(" & ".join(text.translate(TEX) for text in cells) + r" \\")
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}"]) + "\n"


def to_text(table: Mapping[str, Any], width: int = 160) -> str:
    """The table for a terminal of `width` columns: with the spread where that fits, else without it."""
    chosen = shown(table, "main")
    for mark in ("±", ""):
        cells = [[cell(row, column["key"], mark) for column in chosen] for row in table["rows"]]
        heads = [f"{column['name'].removesuffix('uction')} {arrow(column)}" for column in chosen]
        wide = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
        first = max(map(len, ["Strategy", *map(label, table["rows"])]))
        total = first + sum(wide) + 2 * len(wide)
        if total <= width:
            break
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column("Strategy", min_width=first, no_wrap=True)
    for head, column_width in zip(heads, wide, strict=True):
        grid.add_column(head, justify="right", min_width=column_width, no_wrap=True)
    for row, texts in zip(table["rows"], cells, strict=True):
        grid.add_row(Text(label(row)), *texts)
    over, at = " " * (first + 2), 0
    for group, count in groups(chosen):
        span = sum(wide[at : at + count]) + 2 * (count - 1)
        over += f" {group} ".center(span, "─")[:span] + "  "
        at += count
    console = Console(file=io.StringIO(), width=max(total, 80), color_system=None, highlight=False)
    console.print(Text(over.rstrip()))
    console.print(grid)
    console.print()
    for note in notes(table):
        console.print(Text(note))
    with_spaces = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(text.rstrip() for text in with_spaces.splitlines()) + "\n"
