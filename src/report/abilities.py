"""The abilities that a row is known by at a glance: the mean over its question sets in each mode, and IFEval.

Which they are, `src.tasks` says. They are made from scores as they stand in table.json, and look like them.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from src import tasks
from src.evaluate.statistics import Estimate, over_seeds

TEXT = tasks.TEXT_ABILITIES
"""The abilities that a text model has."""
SPOKEN = tasks.SPOKEN_ABILITIES
IFEVAL = tasks.ABILITIES["ifeval"].key

MEAN = "mean/"
"""Keys of the means over the question sets begin with it, as in mean/t2t."""

Entry = dict[str, Any]
"""mean, std, standard_error, interval and seeds, as of a score in table.json."""


def keys_of(ability: str, keys: Iterable[str]) -> list[str]:
    """The scores that an ability is the mean of."""
    return [key for key in keys if tasks.ABILITIES[ability].set_of(key) is not None]


def title(ability: str, keys: Sequence[str]) -> str:
    """What to call it: "T2T, mean of 3 sets"."""
    return tasks.ABILITIES[ability].title + (f", mean of {len(keys)} sets" if len(keys) > 1 else "")


def of_seed(scores: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> Estimate | None:
    """The unweighted mean of one model's scores (value and standard_error of each), taken as independent.

    None where one of them is missing, or there are none.
    """
    own = [scores[key] for key in keys if key in scores]
    if not keys or len(own) < len(keys):
        return None
    value = statistics.fmean(one["value"] for one in own)
    errors = [one["standard_error"] for one in own if one.get("standard_error") is not None]
    return Estimate(value, math.hypot(*errors) / len(keys) if len(errors) == len(keys) else None)


def entry(values: Sequence[tuple[int, Estimate]], interval: Sequence[float] | None = None) -> Entry:
    """(seed, estimate) of each seed as one number with its uncertainty. interval: that of a single seed."""
    mean, deviation, over = over_seeds([one.value for _, one in values])
    single = len(values) == 1
    own = interval if single else over
    return {
        "mean": mean,
        "std": deviation,
        "standard_error": values[0][1].standard_error if single else None,
        "interval": None if own is None else list(own),
        "seeds": [{"seed": seed, "value": one.value, "standard_error": one.standard_error} for seed, one in values],
    }


def mean(scores: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> Entry | None:
    """The mean over `keys` of a row's scores, over the seeds that have all of them; None where no seed has."""
    by_seed: dict[int, dict[str, Mapping[str, Any]]] = {}
    for key in keys:
        for one in scores[key]["seeds"] if key in scores else ():
            by_seed.setdefault(one["seed"], {})[key] = one
    found = [(seed, estimate) for seed, own in by_seed.items() if (estimate := of_seed(own, keys))]
    if not found:
        return None
    if all(scores[key]["std"] is None for key in keys):  # one model, be it that of several seeds
        seed, estimate = found[0]
        return entry([(seed, estimate)], interval_of_mean([by_seed[seed][key] for key in keys]))
    return entry(found)


def interval_of_mean(scores: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """The interval of the unweighted mean of independent scores, from the interval of each.

    mean - sqrt(sum of (value - low)^2) / k and mean + sqrt(sum of (high - value)^2) / k: the MOVER of Zou, Huang &
    Zhang (2009), "A note on confidence interval estimation for a linear function of binomial proportions",
    Computational Statistics & Data Analysis 53. Unlike mean ± 1.96 standard errors it has a width where all are 0 or 1.
    None where one has no interval.
    """
    if any(one.get("interval") is None for one in scores):
        return None
    value = statistics.fmean(one["value"] for one in scores)
    below = math.hypot(*(one["value"] - one["interval"][0] for one in scores)) / len(scores)
    above = math.hypot(*(one["interval"][1] - one["value"] for one in scores)) / len(scores)
    return value - below, value + above


def means(scores: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> dict[str, Entry]:
    """The means over the question sets of a row's scores, as scores of their own: {"mean/t2t": score}.

    keys: those of the whole table. An ability that is scored on one set alone has none.
    """
    found = {}
    for ability in tasks.ABILITIES:
        own = keys_of(ability, keys)
        whole = mean(scores, own) if len(own) > 1 else None
        if whole is None:
            continue
        for one in whole["seeds"]:
            parts = [part for key in own for part in scores[key]["seeds"] if part["seed"] == one["seed"]]
            one["n"] = sum(part["n"] for part in parts)
            one["interval"] = interval_of_mean(parts)
        found[MEAN + ability] = {**whole, "n": whole["seeds"][0]["n"]}
    return found
