"""The paper's Figure 3 from table.json: what is left of the text abilities after each stage, per training chain.

`draw` writes figure3.svg and figure3.png, and leaves them alone when they already show the same numbers.
"""

import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

VERSION = 1
"""Of the drawing; raised when the same numbers are to look different."""

INK = "#17181c"
RULE = "#dcdce1"
PAPER = "#fffffe"
"""The three colors that `inline` hands over to the style of a page."""

COLORS = ("#d1495b", "#00798c", "#c08a1e", "#6a4c93", "#4f7d3a", "#8d5a3b")
STAGES = {"original": "Original", "asr": "ASR", "tts": "TTS", "sqa": "SQA"}


def average(scores: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> tuple[float, float] | None:
    """Mean over `keys` of a point's scores, with its spread, both in percent; None where no seed has all of them.

    The spread is the sample deviation over the seeds of each seed's mean; for one seed it is the standard error of the
    mean of independent scores, sqrt(sum of squares) / number (0 where a score has none).
    """
    by_seed: dict[int, list[Mapping[str, Any]]] = {}
    for key in keys:
        for one in scores.get(key, {"seeds": []})["seeds"]:
            by_seed.setdefault(one["seed"], []).append(one)
    whole = [own for own in by_seed.values() if len(own) == len(keys)]
    if not keys or not whole:
        return None
    means = [100 * statistics.fmean(one["value"] for one in own) for own in whole]
    if len(means) > 1:
        return statistics.fmean(means), statistics.stdev(means)
    return means[0], 100 * math.hypot(*(one["standard_error"] or 0.0 for one in whole[0])) / len(keys)


def panels(table: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """(title, keys that are averaged) of each panel that has something to show."""
    keys = list(dict.fromkeys(k for curve in table["curves"] for point in curve["points"] for k in point["scores"]))
    t2t = [key for key in keys if key.startswith("qa/") and key.endswith("/t2t")]
    strict = [key for key in keys if key == "ifeval/prompt_strict"]
    over = f", mean of {len(t2t)} sets" if len(t2t) > 1 else ""
    return [
        panel
        for panel in [(f"Text questions (T2T{over})", t2t), ("Instructions (IFEval prompt, strict)", strict)]
        if panel[1]
    ]


def draw(table: Mapping[str, Any], folder: Path) -> bool:
    """Write figure3.svg and figure3.png into `folder`; False if the grid has no curve to show."""
    chosen = panels(table)
    if not chosen:
        return False
    numbers = json.dumps([VERSION, table["curves"]], sort_keys=True)
    digest = hashlib.sha256(numbers.encode()).hexdigest()
    vector, raster = folder / "figure3.svg", folder / "figure3.png"
    if vector.exists() and raster.exists() and digest in vector.read_text(encoding="utf-8")[:4000]:
        return True

    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.hashsalt": "palimpsest",
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(3.7 * len(chosen), 3.3), facecolor=PAPER, layout="constrained")
        FigureCanvasAgg(figure)
        stages = [s for s in STAGES if any(p["stage"] == s for c in table["curves"] for p in c["points"])]
        axes = figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
        for axis, (title, keys) in zip(axes, chosen, strict=True):
            axis.set_title(title, loc="left", fontsize=10, pad=10)
            axis.set_facecolor(PAPER)
            axis.set_ylim(-3, 104)
            axis.set_xlim(-0.25, len(stages) - 0.6)
            axis.set_xticks(range(len(stages)), [STAGES[stage] for stage in stages])
            axis.set_yticks(range(0, 101, 25))
            axis.grid(axis="y", color=RULE, linewidth=0.8)
            axis.tick_params(length=0, pad=6)
            for side in axis.spines.values():
                side.set_visible(False)
            for i, curve in enumerate(table["curves"]):
                _line(axis, curve, keys, stages, i, len(table["curves"]))
        axes[0].set_ylabel("%", rotation=0, labelpad=8)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(3, len(names)), frameon=False, fontsize=9)
        for path, extra in ((vector, {"Date": None, "Creator": None, "Description": digest}), (raster, None)):
            half = path.with_suffix(f".part{path.suffix}")
            figure.savefig(half, dpi=200, metadata=extra)
            half.replace(path)
    return True


def _line(axis: Any, curve: Mapping[str, Any], keys: list[str], stages: list[str], i: int, count: int) -> None:
    found = {point["stage"]: average(point["scores"], keys) for point in curve["points"]}
    shown = [(x, *found[stage]) for x, stage in enumerate(stages) if found.get(stage)]  # type: ignore[misc]
    if not shown:
        return
    x, y, spread = (list(numbers) for numbers in zip(*shown, strict=True))
    shift = 0.03 * (i - (count - 1) / 2)
    color = COLORS[i % len(COLORS)]
    axis.errorbar(
        [at + shift for at in x],
        y,
        yerr=spread,
        color=color,
        label=curve["label"],
        linestyle="-" if i < len(COLORS) else "--",
        linewidth=2,
        elinewidth=1.2,
        capsize=2.5,
        marker="o",
        markersize=5.5,
    )
    if count <= 3:
        axis.annotate(
            f"{y[-1]:.0f}", (x[-1] + shift, y[-1]), xytext=(9, 0), textcoords="offset points",
            color=color, va="center", fontweight="bold",
        )  # fmt: skip


def inline(vector: Path) -> str:
    """The drawing as an <svg> element that takes its ink, rules and background from the page's style."""
    text = vector.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    if "<metadata>" in text:
        text = text[: text.index("<metadata>")] + text[text.index("</metadata>") + len("</metadata>") :]
    return text.replace(INK, "currentColor").replace(RULE, "var(--rule)").replace(PAPER, "none")
