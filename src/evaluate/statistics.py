"""Scores with their standard errors, and the intervals that go with them.

Which interval for which score: `wilson` for one 0-or-1 verdict an example, `bootstrap` for verdicts or errors in
clusters (instructions of a prompt, words of an utterance), `over_seeds` where a strategy was trained several times.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

NORMAL = statistics.NormalDist()
RESAMPLES = 10_000
CHUNK = 1_000_000
"""Most numbers of resampled counts that are held at once."""

Interval = tuple[float, float]


class Estimate(NamedTuple):
    """A number that was measured. Its standard error is None where too little was measured to tell; 0.0 is exact."""

    value: float
    standard_error: float | None = None


def share(parts: Sequence[float], wholes: Sequence[float]) -> Estimate:
    """Sum of parts / sum of wholes over clusters: prompts of several instructions, or utterances of several words.

    The error is the clustered one of Miller (2024), "Adding error bars to evals", arXiv 2411.00640, section 2.2:
    sqrt(sum over clusters of (sum of the cluster's deviations from the mean)^2) / n. That is the cluster-robust error
    of a regression on a constant alone, without the finite-sample factor (sqrt(G / (G - 1)) for G clusters). With one
    0-or-1 outcome a cluster it is the binomial sqrt(p (1 - p) / n). None with fewer than two clusters.

    Raises ValueError if the wholes sum to 0.
    """
    total = sum(wholes)
    if not total:
        raise ValueError("nothing to score")
    value = sum(parts) / total
    if len(parts) < 2:
        return Estimate(value)
    squares = math.fsum((part - value * whole) ** 2 for part, whole in zip(parts, wholes, strict=True))
    return Estimate(value, math.sqrt(squares) / total)


def accuracy(verdicts: Sequence[bool]) -> dict[str, Any]:
    """The entry of a score that is the share of true verdicts: value, n, standard_error (binomial)."""
    value, error = share([float(verdict) for verdict in verdicts], [1.0] * len(verdicts))
    return {"value": value, "n": len(verdicts), "standard_error": error}


def clustered_accuracy(verdicts: Sequence[Sequence[bool]]) -> dict[str, Any]:
    """The entry of a score that is the share of true verdicts, which come in clusters.

    n counts the verdicts, `clusters` the clusters.
    """
    value, error = share([float(sum(cluster)) for cluster in verdicts], [float(len(cluster)) for cluster in verdicts])
    return {"value": value, "n": sum(map(len, verdicts)), "standard_error": error, "clusters": len(verdicts)}


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The score interval of a share of n independent verdicts.

    Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22; recommended by
    Brown, Cai & DasGupta (2001), "Interval estimation for a binomial proportion", Statistical Science 16(2), section 3.
    Unlike value ± 1.96 standard errors it stays in [0, 1] and has a width where all verdicts agree.

    Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    if not 0 <= successes <= n or not n:
        raise ValueError(f"{successes} of {n} is no share: successes must be between 0 and n, and n above 0")
    z2 = NORMAL.inv_cdf((1 + confidence) / 2) ** 2
    center = (successes + z2 / 2) / (n + z2)
    half = math.sqrt(z2) / (n + z2) * math.sqrt(successes * (n - successes) / n + z2 / 4)
    # at the ends the bound is 0 or 1 but for rounding
    return center - half if successes else 0.0, center + half if successes < n else 1.0


def bootstrap(
    parts: Sequence[float],
    wholes: Sequence[float],
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval | None:
    """The bootstrap interval of sum of parts / sum of wholes; whole clusters are drawn again, as many as there are.

    BCa (bias-corrected and accelerated): Efron (1987), "Better bootstrap confidence intervals", JASA 82; bias and
    acceleration (from the jackknife) as in Efron & Tibshirani (1993), "An introduction to the bootstrap", section 14.3.
    The order of the clusters does not matter, and the same seed gives the same interval. None with fewer than two
    clusters that hold something; draws of none of these are passed over. Where all clusters agree it has no width:
    `wilson` tells more of an accuracy near 0 or 1.

    For the difference of two rows on the same examples, `parts` are the differences of their parts.

    Raises ValueError if the two lengths differ or a whole is below 0.
    """
    import numpy as np

    pairs = np.column_stack([np.asarray(parts, dtype=float), np.asarray(wholes, dtype=float)])
    if not (pairs[:, 1] >= 0).all():
        raise ValueError("a whole is below 0, and no cluster can hold less than nothing")
    n = len(pairs)
    if np.count_nonzero(pairs[:, 1]) < 2:
        return None
    # Drawing n clusters is drawing how often each distinct one comes, which is much less to draw.
    distinct, counts = np.unique(pairs, axis=0, return_counts=True)
    if len(distinct) == 1:
        return float(distinct[0, 0] / distinct[0, 1]), float(distinct[0, 0] / distinct[0, 1])
    total = counts @ distinct
    value = total[0] / total[1]
    random = np.random.default_rng(seed)
    rows = max(1, CHUNK // len(distinct))
    sums = np.empty((resamples, 2))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        sums[start : start + size] = random.multinomial(n, counts / n, size=size) @ distinct
    sums = sums[sums[:, 1] > 0]
    drawn = sums[:, 0] / sums[:, 1]

    below = (np.mean(drawn < value) + np.mean(drawn <= value)) / 2
    bias = NORMAL.inv_cdf(min(max(below, 0.5 / len(drawn)), 1 - 0.5 / len(drawn)))
    without = (total[0] - distinct[:, 0]) / (total[1] - distinct[:, 1])
    deviations = counts @ without / n - without
    squares = counts @ deviations**2
    acceleration = counts @ deviations**3 / (6 * squares**1.5) if squares else 0.0
    bounds = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + NORMAL.inv_cdf(tail)
        bounds.append(float(np.quantile(drawn, NORMAL.cdf(bias + z / (1 - acceleration * z)))))
    return bounds[0], bounds[1]


def over_seeds(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float | None, Interval | None]:
    """(mean, sample standard deviation, t interval of the mean) of one score over runs with different seeds.

    The unit is the seed: mean ± t(k - 1) deviation / sqrt(k), Student (1908), "The probable error of a mean",
    Biometrika 6. It speaks of other seeds on the same examples, and assumes that scores are normal over seeds; its
    bounds may leave [0, 1]. Deviation and interval are None for a single seed.

    Raises ValueError if there are no values.
    """
    if not values:
        raise ValueError("there are no seeds")
    mean = statistics.fmean(values)
    if len(values) == 1:
        return mean, None, None
    from scipy.special import stdtrit

    deviation = statistics.stdev(values)
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * deviation / math.sqrt(len(values))
    return mean, deviation, (mean - half, mean + half)
