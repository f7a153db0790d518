"""Text abilities after each stage, for every training chain of a grid (the paper's Figure 3), as part of table.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.grid.step import Step
from src.grid.store import Store
from src.report.lines import Line, pool, read_scores
from src.stages import ORIGINAL


def model_of(score: Step) -> Step:
    """The model whose responses were scored."""
    return score.inputs["responses"].inputs["model"]


def base_of(score: Step) -> Step:
    """The base model that it was trained from, or is."""
    return score.inputs["responses"].inputs["base"]


def originals(lines: Sequence[Line]) -> dict[Step, Step]:
    """The evaluations of base models in a grid, by the base model."""
    scored = [row.evaluate for line in lines for row in line.rows]
    return {base_of(step): step for step in scored if model_of(step) == base_of(step)}


def collect(lines: Sequence[Line], store: Store) -> list[dict[str, Any]]:
    """One curve for each distinct training: {"label", "strategy", "chain": stages, "points": [{"stage", "scores"}]}.

    A training that several lines share is told by the first of them. The point ORIGINAL is the evaluation of the same
    base model, where the grid has that row.
    """
    bases = originals(lines)
    told: set[tuple[str, ...]] = set()
    curves = []
    for line in lines:
        trainings = {row.seed: tuple(step.fingerprint for step in row.curve.values()) for row in line.rows if row.curve}
        if not trainings or told.issuperset(trainings.values()):
            continue
        told.update(trainings.values())
        points = []
        chain = list(line.rows[0].curve)
        for stage in [ORIGINAL, *chain]:
            scores: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
            models = set()
            for row in line.rows:
                step = bases.get(base_of(row.evaluate)) if stage == ORIGINAL else row.curve[stage]
                folder = store.lookup(step) if step is not None else None
                models.add(folder)
                for key, score in (read_scores(folder) if folder else {}).items():
                    scores.setdefault(key, []).append((row.seed, score))
            if scores:
                pooled = {key: pool(values, len(models) == 1).entry() for key, values in scores.items()}
                points.append({"stage": stage, "scores": pooled})
        if points:
            curves.append({"label": line.label, "strategy": line.name, "chain": chain, "points": points})
    return curves
