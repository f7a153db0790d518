"""index.html: one self-contained page of a grid, with the table, the figure and sounds to play.

Style, script, drawing and audio are in the file, and its content security policy forbids it to load anything. Whatever
a model wrote is escaped by the template.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.grid.plan import Plan
from src.grid.store import Store
from src.report import abilities, data, drawing, examples, figure, instructions, paper, tradeoff
from src.report.lines import Line, differing, flatten
from src.report.table import (
    ABSENT,
    FORGETTING_NOTES,
    MARKS,
    MISSING,
    arrow,
    cell,
    forgetting,
    forgetting_columns,
    groups,
    label,
    letters,
    notes,
    percent,
    shown,
    spread,
    valued,
)

HERE = Path(__file__).parent
POOLS = {
    "pool": "Replay pool: honest, no evaluation fact occurs in it",
    "pool_with_evaluation_facts": "Replay pool: WITH THE EVALUATION FACTS; rows with replay have seen the answers",
}
HONEST = "pool"
LETTERS = {ord(sign): chr(letter) for letter, sign in MARKS.items()}
"""Marks as letters: the page has superscripts of its own."""


def render(
    name: str, table: Mapping[str, Any], lines: Sequence[Line], plan: Plan, store: Store,
    drawings: Mapping[str, Path | None], failures: Mapping[str, str],
) -> str:  # fmt: skip
    """The page of the grid `name`. `drawings`: the SVG of figure3, tradeoff and ifeval, if there is one; `failures`:
    traceback by step."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shorten"] = examples.shorten
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    found = examples.sources(lines, store)
    main = shown(table, "main")
    keys = [column["key"] for column in main]
    theirs = paper.correspondence(keys)
    rows = _rows(table, theirs)
    manifests = {step: store.manifest(entry.step) for step, entry in plan.entries.items() if store.lookup(entry.step)}
    return environment.get_template("page.html.j2").render(
        name=name,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        headline=_headline(table),
        pools=_pools(table["data"].get("replay_pools", [])),
        badges=_badges(table, plan),
        failures=[{"name": step, "text": text} for step, text in failures.items()],
        main=_columns(main),
        groups=_groups(main, paper.sets(keys)),
        skills=_columns(shown(table, "skills")),
        rows=rows,
        paper_shown=bool(theirs) and any(row["strategy"] in paper.scores() for row in table["rows"]),
        correspondence=_correspondence(paper.sets(keys)),
        notes=[note.translate(LETTERS) for note in notes(table)],
        mark_widths=_mark_widths(rows),
        drawings={title: Markup(drawing.inline(path)) if path else "" for title, path in drawings.items()},
        tradeoff_text=_tradeoff_text(table),
        bars=_bars(table),
        forgetting=forgetting(table),
        forgetting_columns=_columns(forgetting_columns(table)),
        forgetting_groups=_groups(forgetting_columns(table), {}),
        forgetting_notes=FORGETTING_NOTES,
        ifeval_columns=_ifeval_columns(table),
        ifeval_rows=_ifeval_rows(table),
        curve_stages=[figure.STAGES[stage] for stage in figure.stages(table)],
        curve_rows=_curve_rows(table),
        questions=examples.questions(found),
        heard_seeds=sorted({source.seed for source in found}) if any(len(line.rows) > 1 for line in lines) else [],
        instructions=examples.instructions(found),
        judge=_judge(table),
        data=data.collect(plan, manifests),
        plan=_plan(plan, manifests, failures),
        settings=_settings(lines),
        versions=_versions(manifests.values()),
    )


def _columns(chosen: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    firsts = [i == 0 or column["group"] != chosen[i - 1]["group"] for i, column in enumerate(chosen)]
    return [{**c, "arrow": arrow(c), "first": first} for c, first in zip(chosen, firsts, strict=True)]


def _groups(main: Sequence[Mapping[str, Any]], theirs: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "width": width, "paper": theirs.get(name)} for name, width in groups(main)]


def _rows(table: Mapping[str, Any], theirs: Mapping[str, str]) -> list[dict[str, Any]]:
    rows = []
    directions = {column["key"]: column["direction"] for column in table["columns"]}
    for row in table["rows"]:
        scores = {
            key: {
                "mean": score["mean"],
                "text": percent(score["mean"]),
                "spread": None if (wide := spread(score)) is None else percent(wide),
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
                "state": row["state"],
                "scores": scores,
                "missing": cell(row, ""),
                "paper": {key: own.get(column) for key, column in theirs.items()},
                "section": "replay" if row["strategy"] == "replay" else "",
                "evaluations": row["evaluations"],
            }
        )
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


def _correspondence(sets: Mapping[str, str]) -> str:
    pairs = [f"{ours} stands for {theirs}" for ours, theirs in sets.items() if ours != theirs]
    return f"By difficulty, {', '.join(pairs)}." if pairs else ""


def _pools(pools: Sequence[str]) -> list[dict[str, Any]]:
    return [{"leaks": pool != HONEST, "text": POOLS.get(pool, f"Replay pool: {pool}")} for pool in pools]


def _badges(table: Mapping[str, Any], plan: Plan) -> list[str]:
    seeds = sorted({seed for row in table["rows"] for seed in row["seeds"]})
    steps = plan.shared().steps
    return [
        f"{len(table['rows'])} row{'s' * (len(table['rows']) != 1)}",
        f"seed{'s' * (len(seeds) != 1)} {', '.join(map(str, seeds))}",
        f"{steps} step{'s' * (steps != 1)} for all rows",
    ]


def _average(row: Mapping[str, Any], ending: str) -> str | None:
    """Mean over the question sets (or the one score) of a row, as text."""
    keys = [key for key in row["scores"] if key.endswith(ending)]
    return f"{sum(100 * row['scores'][key]['mean'] for key in keys) / len(keys):.0f} %" if keys else None


def _headline(table: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """What the grid found, in a sentence or two, where it has the rows for it."""
    rows = {row["strategy"]: row for row in reversed(table["rows"])}
    text, follow = "/t2t", "ifeval/prompt_strict"
    numbers = {
        name: {end: _average(rows[name], end) for end in (text, follow, "/s2t", "/s2s")}
        for name in ("original", "none", "replay")
        if name in rows
    }

    def has(name: str, *ends: str) -> bool:
        return name in numbers and all(numbers[name][end] is not None for end in ends)

    def sentence(*parts: str | None) -> list[dict[str, Any]]:
        return [{"text": part, "strong": i % 2 == 1} for i, part in enumerate(parts)]

    said = []
    if has("original", text, follow) and has("none", text, follow):
        before, after = numbers["original"], numbers["none"]
        said.append(
            sentence(
                "Training through ASR, TTS and spoken questions takes correct text answers from ", before[text], " to ",
                after[text], ", and followed instructions from ", before[follow], " to ", after[follow], ".",
            )
        )  # fmt: skip
    if has("replay", text, follow, "/s2t", "/s2s"):
        own = numbers["replay"]
        said.append(
            sentence(
                "With replay it keeps ", own[text], " and ", own[follow], ", and answers ", own["/s2t"],
                " of spoken questions in text and ", own["/s2s"], " in speech.",
            )
        )  # fmt: skip
    return said


def _bars(table: Mapping[str, Any]) -> str:
    seeds = max((len(row["seeds"]) for row in table["rows"]), default=1)
    return f"standard deviation over {seeds} seeds" if seeds > 1 else "standard error over the scored examples"


def _curve_rows(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for curve in table["curves"]:
        for title, keys in figure.panels(table):
            points = {point["stage"]: figure.average(point["scores"], keys) for point in curve["points"]}
            values = [
                f"{point[0]:.1f} ±{point[1]:.1f}" if (point := points.get(stage)) else ABSENT
                for stage in figure.stages(table)
            ]
            rows.append({"label": curve["label"], "score": title, "points": values})
    return rows


def _judge(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{one['recognizer']} (seed {one['seed']})",
            "natural": percent(one["natural"]["wer"]) if one.get("natural") else ABSENT,
            "resynthesized": percent(one["resynthesized"]["wer"]) if one.get("resynthesized") else ABSENT,
            "n": (one.get("resynthesized") or one.get("natural") or {}).get("n", ""),
        }
        for one in table["judge"]
    ]


def duration(seconds: float) -> str:
    """Seconds for a reader: "42 s", "8 min 20 s", "3 h 12 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _plan(plan: Plan, manifests: Mapping[str, Mapping[str, Any]], failures: Mapping[str, str]) -> dict[str, Any]:
    """The steps with what they took (or, where they did not end, are estimated to take), and what sharing saved."""
    took = {name: manifests[name]["seconds"] if name in manifests else e.seconds for name, e in plan.entries.items()}
    total = sum(took.values())
    unshared = sum(took[name] * len(entry.rows) for name, entry in plan.entries.items())
    longest = max(took.values(), default=0.0) or 1.0
    trained = [entry for entry in plan.entries.values() if entry.step.kind == "train"]
    summary = f"{plan.shared().steps} distinct steps did the work of {plan.unshared().steps}"
    if trained:
        summary += f"; {len(trained)} training steps that of {sum(len(entry.rows) for entry in trained)}"
    if total:
        summary += f". Computing took {duration(total)} instead of {duration(unshared)}, counted on one worker"
    steps = []
    for name, entry in plan.entries.items():
        state = "done" if name in manifests else "failed" if name in failures else "missing"
        seconds = f"{took[name]:.1f}" if state == "done" else "failed" if state == "failed" else MISSING
        steps.append(
            {
                "name": name,
                "rows": len(entry.rows),
                "seconds": seconds,
                "state": state,
                "width": 100 * took[name] / longest if state == "done" else 0,
            }
        )
    return {
        "summary": summary + ".",
        "total": duration(total) if total else "",
        "unshared": duration(unshared),
        "share": 100 * total / unshared if unshared else 0.0,
        "steps": steps,
    }


def _settings(lines: Sequence[Line]) -> dict[str, Any]:
    """The resolved settings that all rows have in common, as YAML, and a table of those in which they differ."""
    import yaml

    rows = [row for line in lines for row in line.rows]
    flat = [flatten(row.config) for row in rows]
    keys = differing(flat) if flat else []
    common: dict[str, Any] = {}
    for key, value in flat[0].items() if flat else ():
        if key not in keys:
            *path, last = key.split(".")
            inner = common
            for part in path:
                inner = inner.setdefault(part, {})
            inner[last] = value
    several = len({row.seed for row in rows}) > 1
    names = [f"{line.label}, seed {row.seed}" if several else line.label for line in lines for row in line.rows]
    return {
        "common": yaml.safe_dump(json.loads(json.dumps(common, default=str)), sort_keys=False, allow_unicode=True),
        "labels": names,
        "differing": [(key, [_plain(one[key]) if key in one else "" for one in flat]) for key in keys],
    }


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _versions(manifests: Any) -> list[tuple[str, str]]:
    """Package versions and commits of all artifacts; several where they were not made by the same."""
    found: dict[str, dict[str, None]] = {}
    for manifest in manifests:
        if manifest.get("git"):
            found.setdefault("git commit", {})[manifest["git"]] = None
        for package, version in manifest["versions"].items():
            found.setdefault(package, {})[version] = None
    return [(package, ", ".join(versions)) for package, versions in found.items()]
