"""Text abilities after each stage, for every training chain of a grid (the paper's Figure 3), as part of table.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.grid.step import Step, closure
from src.grid.store import Store
from src.report.lines import Line, pool, read_scores

BASES = ("base", "backbone")
"""Kinds of steps whose model is theta_0."""
CHAINS = {"none": "without replay", "replay": "with replay"}


def model_of(score: Step) -> Step:
    """The model whose responses were scored."""
    return score.inputs["responses"].inputs["model"]


def base_of(step: Step) -> str:
    """Fingerprint of the base model that scores rest on; "" where there is none."""
    return next((one.fingerprint for one in closure([step]) if one.kind in BASES), "")


def collect(lines: Sequence[Line], store: Store) -> list[dict[str, Any]]:
    """One curve for each distinct chain: {"label", "strategy", "points": [{"stage", "scores"}]}.

    A chain that several lines share (replay, and the merges of its checkpoints) is told by the first of them. The point
    "original" is the evaluation of the same base model, where the grid has that row.
    """
    scored = [row.evaluate for line in lines for row in line.rows]
    originals = {model_of(step).fingerprint: step for step in scored if model_of(step).kind in BASES}
    told: set[tuple[str, ...]] = set()
    curves = []
    for line in lines:
        chains = {row.seed: tuple(step.fingerprint for step in row.curve.values()) for row in line.rows if row.curve}
        if not chains or told.issuperset(chains.values()):
            continue
        told.update(chains.values())
        points = []
        for stage in ["original", *dict.fromkeys(stage for row in line.rows for stage in row.curve)]:
            scores: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
            models = set()
            for row in line.rows:
                step = originals.get(base_of(row.evaluate)) if stage == "original" else row.curve.get(stage)
                folder = store.lookup(step) if step is not None else None
                models.add(folder)
                for key, score in (read_scores(folder) if folder else {}).items():
                    scores.setdefault(key, []).append((row.seed, score))
            if scores:
                pooled = {key: pool(values, len(models) == 1).entry() for key, values in scores.items()}
                points.append({"stage": stage, "scores": pooled})
        name = CHAINS.get(line.name, f"stages of {line.label}")
        if line.name in CHAINS and line.settings:
            name += line.label[line.label.index(" (") :]
        if points:
            curves.append({"label": name, "strategy": line.name, "points": points})
    return curves
