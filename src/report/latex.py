"""The table of a grid in LaTeX, for `\\input`: table.tex, and table_plain.tex without the spread of the scores.

They need the packages booktabs and graphicx. Wide tables are cut into panels of whole groups of columns, one below the
other, and a panel that is still wider than the line is shrunk to it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from src.report.cells import cell, label, letters
from src.report.columns import arrow, front, groups, shown
from src.report.compare import SUPERSCRIPTS
from src.report.notes import notes
from src.report.ranking import best, block

SIGNS: dict[int, str] = {ord("±"): r"$\pm$", ord("≥"): r"$\geq$", ord("≤"): r"$\leq$"}
PANEL, PLAIN_PANEL = 9, 14
"""Most columns of a panel, with and without spread: what a line holds without shrinking below a readable size."""

ESCAPED = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "≥": r"$\geq$", "≤": r"$\leq$", "–": "--",
        "α": r"$\alpha$",
        **{chr(sign): rf"\textsuperscript{{{chr(letter)}}}" for letter, sign in SUPERSCRIPTS.items()},
    }
)  # fmt: skip


def to_tex(table: Mapping[str, Any], spread: bool = True) -> str:
    """The table as tabulars. The best score of each column is bold, the Original's aside."""
    out = [f"% {note}" for note in notes(table)]
    out += ["% needs \\usepackage{booktabs,graphicx}", r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}%"]
    for i, chosen in enumerate(panels(table, PANEL if spread else PLAIN_PANEL)):
        out += [r"\par\medskip"] if i else []
        out += _tabular(table, chosen, "±" if spread else "")
    return "\n".join([*out, r"\endgroup"]) + "\n"


def panels(table: Mapping[str, Any], most: int) -> list[list[Mapping[str, Any]]]:
    """The columns of each panel. A group of columns is not cut, unless it has more than `most`."""
    columns = [*front(table), *shown(table, "lm_eval")]
    found: list[list[Mapping[str, Any]]] = [[]]
    at = 0
    for _, width in groups(columns):
        group = columns[at : at + width]
        at += width
        if found[-1] and len(found[-1]) + width > most:
            found.append([])
        while len(group) > most:
            found[-1] += group[:most]
            found.append([])
            group = group[most:]
        found[-1] += group
    return found


def _tabular(table: Mapping[str, Any], chosen: Sequence[Mapping[str, Any]], sign: str) -> list[str]:
    spans, rules, start = [], [], 2
    for group, width in groups(chosen):
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{group.translate(ESCAPED)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    out = [r"\noindent\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
    out += [rf"\begin{{tabular}}{{l{'r' * len(chosen)}}}", r"\toprule"]
    if spans:
        out += [" & " + " & ".join(spans) + r" \\", " ".join(rules)]
    names = [f"{column['name']} {arrow(column)}".translate(ESCAPED) for column in chosen]
    out += [" & ".join(["Strategy", *names]) + r" \\", r"\midrule"]
    bold = {column["key"]: best(table, column) for column in chosen}
    before = None
    for row in table["rows"]:
        if before is not None and block(row) != before:
            out.append(r"\midrule")
        before = block(row)
        cells = [_cell(row, column["key"], sign, row["label"] in bold[column["key"]]) for column in chosen]
        out.append(" & ".join([label(row).translate(ESCAPED), *cells]) + r" \\")
    return [*out, r"\bottomrule", r"\end{tabular}}"]


def _cell(row: Mapping[str, Any], key: str, sign: str, bold: bool) -> str:
    whole, score = cell(row, key, sign), cell(row, key, "")
    mean = rf"\textbf{{{score}}}" if bold else score.translate(ESCAPED)
    spread = whole.removeprefix(score)
    told = rf"{{\scriptsize {spread}}}".translate(SIGNS)
    return mean + (told if spread else "") + letters(row, key).translate(SUPERSCRIPTS).translate(ESCAPED)
