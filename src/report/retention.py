"""What a training made a model forget: the measures of `src.evaluate.forgetting` on each text ability.

An ability counts as learned by the Original, the base model that a row was trained from; T2T is its mean over the
question sets. The abilities are kept apart: one number over both would hide which of them was lost.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from src.evaluate.forgetting import by_stage
from src.evaluate.statistics import Estimate
from src.grid.step import Step
from src.grid.store import Store
from src.report import abilities
from src.report.curves import base_of, originals
from src.report.lines import Line, read_scores

MEASURES = {"forgetting": "down", "backward_transfer": "up", "retention": "up", "rate": "up"}
"""In which direction each is better."""

Measured = dict[str, dict[str, Any]]
"""Ability -> measure -> entry."""


def collect(lines: Sequence[Line], store: Store) -> dict[str, list[tuple[str, Measured]]]:
    """What each line forgot, by its label: (stage, measures) after each stage of its training, the last being the
    model that the line is of. Empty where the grid does not have its Original.

    A line without scores of its stages (a merge, a discount) has the last alone. Over several seeds, each measure is
    taken for each and then averaged.
    """
    bases = originals(lines)
    found: dict[str, list[tuple[str, Measured]]] = {}
    for line in lines:
        chains: dict[int, list[Mapping[str, Any]]] = {}
        stages: list[str] = []
        for row in line.rows:
            original = bases.get(base_of(row.evaluate))
            if original is None or row.evaluate == original:
                continue
            after = row.curve or {"": row.evaluate}
            stages = list(dict.fromkeys([*stages, *after]))
            chains[row.seed] = [_scores(step, store) for step in (original, *after.values())]
        found[line.label] = measured(chains, stages)
    return found


def measured(chains: Mapping[int, Sequence[Mapping[str, Any]]], stages: Sequence[str]) -> list[tuple[str, Measured]]:
    """(stage, measures) of the stages after the Original. chains: by seed, the scores of the Original and after each
    stage, {} where there are none."""
    keys = dict.fromkeys(key for chain in chains.values() for scores in chain for key in scores)
    found: list[tuple[str, Measured]] = [(stage, {}) for stage in stages]
    for ability in abilities.TEXT:
        own = abilities.keys_of(ability, keys)
        seeds = {
            seed: by_stage([[abilities.of_seed(scores, own)] for scores in chain], learned=[0])
            for seed, chain in chains.items()
        }
        for i, (_, measures) in enumerate(found, start=1):
            values: dict[str, list[tuple[int, Estimate]]] = {}
            for seed, after in seeds.items():
                numbers = (after[i].average, after[i].backward_transfer, after[i].retention[0], after[i].rate[0])
                for name, number in zip(MEASURES, numbers, strict=True):
                    if number is not None:
                        values.setdefault(name, []).append((seed, number))
            if values:
                measures[ability] = {name: abilities.entry(numbers) for name, numbers in values.items()}
    return found


def _scores(step: Step, store: Store) -> dict[str, Any]:
    folder = store.lookup(step)
    return read_scores(folder) if folder else {}
