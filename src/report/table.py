"""The table of a grid as a document (table.json), and that document as Markdown, CSV, LaTeX and plain text.

Everything but the document is made from the document alone, so that all forms agree. The document holds scores and the
names of the artifacts that they were read from: no times and no paths, so equal results give equal bytes. Its fields
are described in docs/table_schema.md.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from src.evaluate import qa
from src.report import abilities, marks
from src.report.lines import Line
from src.report.retention import MEASURES, Measured

FORMAT = 2
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
MARKS = str.maketrans({"N": "ᴺ", "R": "ᴿ", "n": "ⁿ", "r": "ʳ"})
"""How a mark is written where there are no superscripts."""
NORMALIZATIONS = {
    "basic": "in lower case and without punctuation",
    "whisper": "after Whisper's English normalizer",
}
"""How words are compared, by the name in src.evaluate.wer."""
FORGOTTEN = {"forgetting": "forgetting", "backward_transfer": "BWT", "retention": "kept", "rate": "rate"}
"""Headings of the measures."""
FORGETTING_NOTES = (
    "Each text ability by itself, in percent, relative to the Original that the row was trained from. "
    "forgetting: the best score before minus the one now (Chaudhry et al. 2018). BWT, backward transfer: now minus the "
    "Original (Lopez-Paz & Ranzato 2017). kept: now / Original. rate: Speech-IFEval's forgetting rate, "
    "(now - Original) / Original.",
    "± as in the table; a standard error takes the two scores as independent.",
)
NO_SHARES = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "bleu", "chrf", "ter", "rouge")
"""Metrics of lm-evaluation-harness that cannot be shown in percent."""
ABSENT = "-"
MISSING = "–"  # an evaluation that does not exist, where ABSENT is a score that its strategy does not have


TITLES = {"llama_questions": "LLaMA-Questions", "web_questions": "Spoken WebQuestions", "trivia_qa": "Audio TriviaQA"}
"""The published question sets as the paper calls them."""


def columns(keys: Iterable[str]) -> list[dict[str, Any]]:
    """How to show each score: {"key", "group", "name", "direction", "table"}.

    `table` is "main" for the paper's columns, "skills" for the word error rates, the form of the responses and the
    tasks of lm-evaluation-harness, "more" for the rest. Question sets stand in the order in which they occur.
    """
    keys = list(dict.fromkeys(keys))
    sets = list(dict.fromkeys(key.split("/")[1] for key in keys if key.startswith("qa/")))
    found = []
    for name in sets:
        for mode, title in MODES.items():
            if (key := f"qa/{name}/{mode}") in keys:
                group = TITLES.get(name, name)
                found.append({"key": key, "group": group, "name": title, "direction": "up", "table": "main"})
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
        task, _, metric = key.removeprefix("lm_eval/").rpartition("/")
        if key.startswith("lm_eval/") and metric.partition(",")[0] not in NO_SHARES:
            found.append({"key": key, "group": task, "name": metric, "direction": "up", "table": "skills"})
        elif key not in known:
            group, _, title = key.rpartition("/")
            direction = "down" if key.startswith("wer") else "up"
            found.append({"key": key, "group": group, "name": title, "direction": direction, "table": "more"})
    return found


def document(
    lines: Sequence[Line],
    judge: Sequence[Mapping[str, Any]] = (),
    curves: Sequence[Mapping[str, Any]] = (),
    data: Mapping[str, Any] | None = None,
    tests: Mapping[str, marks.Tests] | None = None,
    forgotten: Mapping[str, Sequence[tuple[str, Measured]]] | None = None,
    ifeval: Mapping[str, Mapping[str, abilities.Entry]] | None = None,
) -> dict[str, Any]:
    """table.json as an object; see docs/table_schema.md. tests, forgotten and ifeval are by the line's label."""
    return {
        "format": FORMAT,
        "columns": columns(key for line in lines for key in line.scores),
        "rows": [
            {
                "label": line.label,
                "strategy": line.name,
                "settings": dict(line.settings),
                "seeds": line.seeds,
                "replay": line.replays,
                "state": line.state,
                "evaluations": [row.evaluate.name for row in line.rows],
                "scores": {key: score.entry() for key, score in line.scores.items()},
                "tests": dict((tests or {}).get(line.label, {})),
                "forgetting": [
                    {"stage": stage, **measured} for stage, measured in (forgotten or {}).get(line.label, ())
                ],
                "ifeval": dict((ifeval or {}).get(line.label, {})),
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


def letters(row: Mapping[str, Any], key: str) -> str:
    """The marks of a score: "N", "n", "R", "r" or two of them (see `marks`); "" for none."""
    return marks.letters(row["tests"].get(key, {}))


def cell(row: Mapping[str, Any], key: str, sign: str = " ± ") -> str:
    """The text of one cell, without its marks; without `sign`, without the spread."""
    score = row["scores"].get(key)
    if score is None:
        if row["scores"]:
            return ABSENT
        return "failed" if row["state"] == "failed" else MISSING
    return valued(score, sign)


def valued(score: Mapping[str, Any], sign: str = " ± ", scale: float = 1.0) -> str:
    """A score, or what looks like one, with its spread. scale: what makes a share of it."""
    wide = spread(score)
    return percent(scale * score["mean"]) + (f"{sign}{percent(scale * wide)}" if sign and wide is not None else "")


def marked(row: Mapping[str, Any], key: str, sign: str = " ± ") -> str:
    """The text of one cell with its marks."""
    return cell(row, key, sign) + letters(row, key).translate(MARKS)


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
    scores = [score for row in table["rows"] for score in row["scores"].values()]
    several = sorted({len(score["seeds"]) for score in scores if score["std"] is not None})
    if several:
        said.append(
            f"Percent; mean ± standard deviation over {' or '.join(map(str, several))} seeds"
            + (", or ± the standard error of a single model." if any(s["std"] is None for s in scores) else ".")
        )
    elif scores:
        said.append("Percent ± the standard error over the scored examples (one seed).")
    said += _legend(table)
    if scores:
        said.append(
            "Every score's 95 % interval is in table.csv and table.json: "
            + ("Student's over seeds, or for one model " if several else "")
            + "Wilson's, bootstrapped where an example counts more than once (instructions, words)."
        )
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
    said += _rules(table)
    if any(row["state"] == "failed" for row in table["rows"]):
        said.append("failed: a step that the row needs failed; its traceback is kept with the grid.")
    if any(row["state"] == "not run" for row in table["rows"]):
        said.append(f"{MISSING}: not run.")
    return said


def _legend(table: Mapping[str, Any]) -> list[str]:
    """What the marks say, and what they cannot."""
    tests = [test for row in table["rows"] for of in row["tests"].values() for test in of.items()]
    letters = [(letter, name) for strategy, letter in marks.REFERENCES.items() for name in _references(tests, strategy)]
    if not letters:
        return []

    def signs(case: Callable[[str], str]) -> str:
        return ", ".join(case(letter).translate(MARKS) for letter, _ in letters)

    names = " or ".join(f"{name} ({letter})" for letter, name in letters)
    family = f"Holm's adjustment over the rows of a column, level {marks.LEVEL:g}"
    exact = "exact paired test over the examples (McNemar's; a permutation test for instructions and word errors)"
    over = [test for _, test in tests if test["unit"] == "seeds"]
    if not over:
        return [
            f"{signs(str.lower)}: this model differs from that of {names}: {exact}; {family}. With one seed it is not "
            "known whether other trainings would differ, too."
        ]
    seeds, size = min(len(test["seeds"]) for test in over), max(test["family"] for test in over)
    rows = f"{size} rows" if size > 1 else "one row"
    return [
        f"{signs(str.upper)}: differs from {names}, and would with new seeds, too: paired t test with the seed as the "
        f"unit; {family}. With {seeds} seeds and {rows} to a column that takes a difference of "
        f"{marks.needed(seeds, size):.0f} standard errors: a missing mark says little.",
        f"{signs(str.lower)}: the weaker finding that the models of every seed here differ, in one direction: {exact} "
        "in each seed, the largest p; adjusted likewise.",
    ]


def _references(tests: Iterable[tuple[str, Mapping[str, Any]]], strategy: str) -> list[str]:
    """What the reference rows of a strategy are called: their common name where there are several."""
    found = list(dict.fromkeys(test["reference"] for name, test in tests if name == strategy))
    return found if len(found) < 2 else [found[0].split(" (")[0]]


def _rules(table: Mapping[str, Any]) -> list[str]:
    """How answers, words and instructions were judged."""
    data = table["data"]
    matching, words = data.get("matching", []), data.get("wer_normalization", [])
    said = [(f"{rule}: " if len(matching) > 1 else "") + qa.DESCRIPTIONS[rule] for rule in matching]
    if words:
        said.append(f"WER: words are compared {' or '.join(NORMALIZATIONS[name] for name in words)}.")
    if chance := data.get("ifeval_chance", []):
        prompts = {s["n"] for row in table["rows"] for key, s in row["scores"].items() if key == abilities.IFEVAL}
        said.append(
            f"IFEval: {len(chance)} of {max(prompts)} prompts leave something open that the official scorer draws at "
            "random; here the draw is fixed."
        )
    return said


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def to_markdown(table: Mapping[str, Any]) -> str:
    parts = [_markdown(table, shown(table, "main"))]
    if skills := shown(table, "skills"):
        parts.append(_markdown(table, skills))
    parts.append("\n".join(f"- {note}" for note in notes(table)))
    if lost := forgetting(table):
        head = [f"{column['group']} {column['name']} {arrow(column)}" for column in forgetting_columns(table)]
        parts.append("## Forgetting")
        body = [[one["label"], one["stage"], *one["cells"]] for one in lost]
        parts.append(_piped(["Strategy", "after", *head], body))
        parts.append("\n".join(f"- {note}" for note in FORGETTING_NOTES))
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(table: Mapping[str, Any], chosen: Sequence[Mapping[str, Any]]) -> str:
    head = ["Strategy", *(f"{column['group']} {column['name']} {arrow(column)}" for column in chosen)]
    return _piped(head, [[label(row), *(marked(row, column["key"]) for column in chosen)] for row in table["rows"]])


def _piped(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rule = [":--", *("--:" for _ in head[1:])]
    escaped = ([text.replace("|", "\\|") for text in line] for line in [head, rule, *body])
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def forgetting_columns(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What `forgetting` has a cell for: {"ability", "measure", "group", "name", "direction"}."""
    keys = [column["key"] for column in table["columns"]]
    return [
        {
            "ability": ability,
            "measure": measure,
            "group": abilities.title(ability, abilities.keys_of(ability, keys)),
            "name": FORGOTTEN[measure],
            "direction": direction,
        }
        for ability in abilities.TEXT
        if any(ability in one for row in table["rows"] for one in row["forgetting"])
        for measure, direction in MEASURES.items()
    ]


def forgetting(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines of the table of forgetting: {"label", "stage", "last", "cells"}; a row with stages has one for each."""
    chosen = forgetting_columns(table)
    lines = []
    for row in table["rows"]:
        for i, one in enumerate(row["forgetting"], start=1):
            measured = [(one.get(column["ability"], {}).get(column["measure"]), column) for column in chosen]
            if any(entry for entry, _ in measured):
                cells = [
                    valued(entry, scale=0.01 if column["measure"] == "rate" else 1.0) if entry else ABSENT
                    for entry, column in measured
                ]
                stage, last = one["stage"].upper(), i == len(row["forgetting"])
                lines.append({"label": label(row), "stage": stage, "last": last, "cells": cells})
    return lines


def to_csv(table: Mapping[str, Any]) -> str:
    """One line a row; each score as mean (in [0, 1], full precision), deviation over seeds, standard error, n and the
    bounds of its 95 % interval."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    keys = [column["key"] for column in table["columns"]]
    writer.writerow(
        ["label", "strategy", "seeds", "state"]
        + [key + suffix for key in keys for suffix in ("", "/std", "/standard_error", "/n", "/low", "/high")]
    )
    for row in table["rows"]:
        values: list[Any] = [row["label"], row["strategy"], " ".join(map(str, row["seeds"])), row["state"]]
        for key in keys:
            score = row["scores"].get(key)
            if score:
                values += [score[field] for field in ("mean", "std", "standard_error", "n")]
                values += score["interval"] or [None] * 2
            else:
                values += [None] * 6
        writer.writerow(values)
    return out.getvalue()


TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "–": "--", "α": r"$\alpha$",
        **{mark: rf"\textsuperscript{{{letter}}}" for mark, letter in zip("ᴺᴿⁿʳ", "NRnr", strict=True)},
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
        cells = [label(row), *(marked(row, column["key"], "±") for column in chosen)]
        out.append(" & ".join(text.translate(TEX) for text in cells) + r" \\")
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}"]) + "\n"


def to_text(table: Mapping[str, Any], width: int = 160) -> str:
    """The table for a terminal of `width` columns: with the spread where that fits, else without it."""
    chosen = shown(table, "main")
    widest = [max((len(letters(row, c["key"])) for row in table["rows"]), default=0) for c in chosen]
    for sign in ("±", ""):
        cells = [
            [
                cell(row, column["key"], sign) + letters(row, column["key"]).translate(MARKS).ljust(most)
                for column, most in zip(chosen, widest, strict=True)
            ]
            for row in table["rows"]
        ]
        heads = [f"{column['name'].removesuffix('uction')} {arrow(column)}" for column in chosen]
        wide = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
        first = max(map(len, ["Strategy", *map(label, table["rows"])]))
        total = first + sum(wide) + 2 * len(wide)
        if total <= width:
            break
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column("Strategy", min_width=first, no_wrap=True)
    for head, column_width in zip(heads, wide, strict=True):
        grid.add_column(head.rjust(column_width), no_wrap=True)
    for row, texts in zip(table["rows"], cells, strict=True):
        grid.add_row(Text(label(row)), *(text.rjust(at) for text, at in zip(texts, wide, strict=True)))
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
