"""index.html: one self-contained page of a grid: what was run, the table, the drawings, and sounds to play."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src import tasks
from src.grid.execute import reason_in
from src.grid.plan import Plan
from src.grid.store import Store
from src.report import (
    abilities,
    about,
    data,
    drawing,
    examples,
    figure,
    forgetting,
    headline,
    instructions,
    paper,
    provenance,
    stages,
    tradeoff,
)
from src.report.cells import ABSENT, cell, label, letters, percent, uncertainty, valued
from src.report.columns import arrow, front, glossary, groups, shown
from src.report.compare import SUPERSCRIPTS
from src.report.lines import Line
from src.report.notes import notes
from src.report.ranking import best, block
from src.report.remarks import remarks
from src.report.template import rendered

POOLS = {
    "honest": "Replay pool: honest, no evaluation fact occurs in it",
    "with_evaluation_facts": "Replay pool: WITH THE EVALUATION FACTS; rows with replay have seen the answers",
}
HONEST = "honest"
LETTERS = {sign: letter for letter, sign in SUPERSCRIPTS.items()}
"""Marks as letters: the page has superscripts of its own."""


def render(
    name: str, table: Mapping[str, Any], lines: Sequence[Line], plan: Plan, store: Store,
    drawings: Mapping[str, Path | None], failures: Mapping[str, str],
) -> str:  # fmt: skip
    """The page of the grid `name`. `drawings`: the SVG of figure3, tradeoff and ifeval, if there is one; `failures`:
    traceback by step."""
    from markupsafe import Markup

    found = examples.sources(lines, store)
    main = front(table)
    keys = [column["key"] for column in main]
    theirs = paper.correspondence(keys)
    rows = _rows(table, theirs)
    manifests = {step: store.manifest(entry.step) for step, entry in plan.entries.items() if store.lookup(entry.step)}
    smoke = about.SMOKE in about.profiles(lines)
    return rendered(
        "page.html.j2",
        name=name,
        facts=about.facts(lines, plan, store, manifests),
        command=plan.about.get("command"),
        smoke=smoke,
        original=any(row["strategy"] == "original" and row["scores"] for row in rows),
        headline=[] if smoke else headline.sentences(table, {line.label: line for line in lines}),
        pools=_pools(table["data"].get("replay_pools", [])),
        states=_states(table),
        failures=[{"name": step, "reason": reason_in(text), "text": text} for step, text in failures.items()],
        main=_columns(main),
        groups=_groups(main, paper.sets(keys)),
        skills=_columns(shown(table, "skills")),
        benchmarks=_columns(shown(table, "lm_eval")),
        benchmark_groups=_groups(shown(table, "lm_eval"), {}),
        main_glossary=glossary(main),
        skills_glossary=glossary(shown(table, "skills")),
        rows=rows,
        paper_shown=bool(theirs) and any(row["strategy"] in paper.scores() for row in table["rows"]),
        correspondence=_correspondence(table, paper.sets(keys)),
        notes=[note.translate(LETTERS) for note in notes(table)],
        mark_widths=_mark_widths(rows),
        drawings={
            title: Markup(drawing.inline(path, f"d-{title}-all")) if path else "" for title, path in drawings.items()
        },
        views={title: drawing.views(path) if path else [] for title, path in drawings.items() if title != "ifeval"},
        tradeoff_text=_tradeoff_text(table),
        bars=_bars(table),
        forgetting=forgetting.lines(table),
        forgetting_columns=_columns(forgetting.columns(table)),
        forgetting_groups=_groups(forgetting.columns(table), {}),
        forgetting_notes=forgetting.NOTES,
        ifeval_columns=_ifeval_columns(table),
        ifeval_rows=_ifeval_rows(table),
        remarks=remarks(table),
        curve_tables=_curve_tables(table),
        questions=examples.questions(found),
        set_titles=_titles(table),
        heard_seeds=sorted({source.seed for source in found}) if any(len(line.rows) > 1 for line in lines) else [],
        instructions=examples.instructions(found),
        recognizers=_recognizers(table),
        data=data.collect(plan, manifests),
        plan=provenance.work(plan, manifests, failures),
        settings=provenance.settings(lines),
        versions=provenance.versions(manifests.values()),
    )


def _columns(chosen: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    firsts = [i == 0 or column["group"] != chosen[i - 1]["group"] for i, column in enumerate(chosen)]
    return [{**c, "arrow": arrow(c), "first": first} for c, first in zip(chosen, firsts, strict=True)]


def _groups(chosen: Sequence[Mapping[str, Any]], theirs: Mapping[str, str]) -> list[dict[str, Any]]:
    """The headings over the columns. theirs: the paper's question set by ours."""
    found, at = [], 0
    for name, width in groups(chosen):
        found.append({"name": name, "width": width, "paper": theirs.get(tasks.set_of(chosen[at].get("key", "")))})
        at += width
    return found


def _titles(table: Mapping[str, Any]) -> dict[str, str]:
    """Title of each question set."""
    return {tasks.set_of(column["key"]): column["group"] for column in table["columns"]}


def _rows(table: Mapping[str, Any], theirs: Mapping[str, str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    bests = {column["key"]: best(table, column) for column in table["columns"]}
    before = None
    directions = {column["key"]: column["direction"] for column in table["columns"]}
    for row in table["rows"]:
        scores = {
            key: {
                "mean": score["mean"],
                "text": percent(score["mean"]),
                "spread": f"{more[0]}{percent(more[1])}" if (more := uncertainty(score)) else "",
                "best": row["label"] in bests[key],
                "marks": letters(row, key),
                "interval": _interval(score, directions[key]),
                "tests": [_test(test) for test in row["tests"].get(key, {}).values()],
            }
            for key, score in row["scores"].items()
        }
        own = paper.scores().get(row["strategy"], {})
        rows.append(
            {
                "label": label(row),
                "strategy": row["strategy"],
                "state": row["state"],
                "scores": scores,
                "missing": cell(row, ""),
                "paper": {key: own.get(column) for key, column in theirs.items()},
                "first": before not in (None, block(row)),
                "evaluations": row["evaluations"],
            }
        )
        before = block(row)
    return rows


def _mark_widths(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many marks a score of each column has at most: their room keeps the numbers in line."""
    widths: dict[str, int] = {}
    for row in rows:
        for key, score in row["scores"].items():
            widths[key] = max(widths.get(key, 0), len(score["marks"]))
    return widths


def _interval(score: Mapping[str, Any], direction: str) -> str:
    """ "60.1–79.3": the 95 % interval, cut where no score can be."""
    if score["interval"] is None:
        return ""
    low, high = score["interval"]
    return f"{percent(max(low, 0.0))}–{percent(min(high, 1.0) if direction == 'up' else high)}"


def _test(test: Mapping[str, Any]) -> str:
    """A test as a sentence: "+53.8 beside None: p = 0.012, adjusted 0.14"."""
    said = f"{100 * test['difference']:+.1f} beside {test['reference']}: {_p(test)}"
    if test["unit"] == "seeds":
        return f"{said} over {len(test['seeds'])} seeds; in each of them {_p(test['each'])}"
    return said


def _p(test: Mapping[str, Any]) -> str:
    return f"p {_small(test['p'])}, adjusted {_small(test['p_adjusted'])}"


def _small(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"= {p:.2g}"


def _tradeoff_text(table: Mapping[str, Any]) -> str:
    """What the bars of the trade-off are."""
    rows = [entry for row in tradeoff.collect(table) for entry in row["abilities"].values()]
    seeds = sorted({len(entry["seeds"]) for entry in rows if entry["std"] is not None})
    if not seeds:
        return "95 % intervals over the examples"
    return f"95 % intervals over {' or '.join(map(str, seeds))} seeds (Student's t)"


def _ifeval_columns(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The groups of instructions, with how many there are."""
    counts = {group: entry["n"] for row in reversed(table["rows"]) for group, entry in row["ifeval"].items()}
    return [{"name": instructions.name(group), "n": counts[group]} for group in instructions.groups(table)]


def _ifeval_rows(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "label": label(row),
            "prompt": cell(row, abilities.IFEVAL),
            "cells": [
                valued(row["ifeval"][group]) if group in row["ifeval"] else ABSENT
                for group in instructions.groups(table)
            ],
        }
        for row in table["rows"]
        if row["ifeval"]
    ]


def _correspondence(table: Mapping[str, Any], sets: Mapping[str, str]) -> str:
    """Which of the paper's sets ours stand for, where they are not the same."""
    titles = _titles(table)
    pairs = [f"{titles[ours]} stands for {theirs}" for ours, theirs in sets.items() if titles[ours] != theirs]
    return f"By difficulty, {', '.join(pairs)}." if pairs else ""


def _pools(pools: Sequence[str]) -> list[dict[str, Any]]:
    return [{"leaks": pool != HONEST, "text": POOLS.get(pool, f"Replay pool: {pool}")} for pool in pools]


def _states(table: Mapping[str, Any]) -> list[str]:
    """How many rows are not complete: "1 row failed"."""
    counts = Counter(row["state"] for row in table["rows"] if row["state"] != "complete")
    return [f"{count} row{'s' * (count != 1)} {state}" for state, count in counts.items()]


def _bars(table: Mapping[str, Any]) -> str:
    seeds = max((len(row["seeds"]) for row in table["rows"]), default=1)
    return f"standard deviation over {seeds} seeds" if seeds > 1 else "standard error over the scored examples"


def _curve_tables(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The numbers of figure 3: a table for each chain."""
    tables = []
    for reached, curves in figure.chains(table):
        rows = []
        for curve in curves:
            for title, keys in figure.panels(table):
                points = {point["stage"]: figure.average(point["scores"], keys) for point in curve["points"]}
                values = [
                    f"{point[0]:.1f} ±{point[1]:.1f}" if (point := points.get(stage)) else ABSENT for stage in reached
                ]
                rows.append({"label": curve["label"], "score": title, "points": values})
        tables.append({"stages": [stages.title(stage) for stage in reached], "rows": rows})
    return tables


def _recognizers(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{one['recognizer']} (seed {one['seed']})",
            "natural": percent(one["natural"]["wer"]) if one.get("natural") else ABSENT,
            "resynthesized": percent(one["resynthesized"]["wer"]) if one.get("resynthesized") else ABSENT,
            "n": (one.get("resynthesized") or one.get("natural") or {}).get("n", ""),
        }
        for one in table["recognizers"]
    ]
