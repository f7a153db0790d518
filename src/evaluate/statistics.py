"""Scores with their standard errors."""

import math
from collections.abc import Sequence
from typing import Any


def share(parts: Sequence[float], wholes: Sequence[float]) -> tuple[float, float | None]:
    """(sum of parts / sum of wholes, its standard error) over clusters: prompts of several instructions, or utterances
    of several words.

    The error is the clustered one of Miller (2024), "Adding error bars to evals", arXiv 2411.00640, section 2.2:
    sqrt(sum over clusters of (sum of the cluster's deviations from the mean)^2) / n. With one 0-or-1 outcome a cluster
    that is the binomial sqrt(p (1 - p) / n). None with fewer than two clusters.

    Raises ValueError if the wholes sum to 0.
    """
    total = sum(wholes)
    if not total:
        raise ValueError("nothing to score")
    value = sum(parts) / total
    if len(parts) < 2:
        return value, None
    squares = math.fsum((part - value * whole) ** 2 for part, whole in zip(parts, wholes, strict=True))
    return value, math.sqrt(squares) / total


def accuracy(verdicts: Sequence[bool]) -> dict[str, Any]:
    """The entry of a score that is the share of true verdicts: value, n, standard_error (binomial)."""
    value, error = share([float(verdict) for verdict in verdicts], [1.0] * len(verdicts))
    return {"value": value, "n": len(verdicts), "standard_error": error}


def clustered_accuracy(verdicts: Sequence[Sequence[bool]]) -> dict[str, Any]:
    """The same over verdicts that come in clusters; n counts the verdicts, `clusters` the clusters."""
    value, error = share([float(sum(cluster)) for cluster in verdicts], [float(len(cluster)) for cluster in verdicts])
    return {"value": value, "n": sum(map(len, verdicts)), "standard_error": error, "clusters": len(verdicts)}
