"""Forgetting, as the continual-learning field defines it, from the scores after each stage of a training.

`Scores` is the field's matrix: R[i][j] is the score of task j after stage i, None where it was not evaluated. Higher is
better: negate an error rate for `forgetting` and `backward_transfer`; shares and rates of one mean nothing. Stage 0 may
be the model before the first stage (the Original), after which its text tasks count as learned:
`average_forgetting(R, learned=[0] * tasks)`. A row that has no stages of its own is the matrix of two: the Original's
scores and its own.

Standard errors take the scores as independent. Scores of two models on the same examples tend to go together, which
makes a difference more certain than its error here says; for a test see `comparison`. They are errors over examples:
over several seeds, compute the measure for each and hand the values to `statistics.over_seeds`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from src.evaluate.statistics import Estimate

Scores = Sequence[Sequence[Estimate | None]]


def forgetting(scores: Sequence[Estimate | None]) -> Estimate | None:
    """How far one task is now, after the last stage, below the best that it was after any earlier stage.

    f_j^k = max over l < k of a_lj, minus a_kj: Chaudhry et al. (2018), "Riemannian walk for incremental learning",
    arXiv 1801.10112, section 3 (the forgetting measure). Negative where the task is better than ever. The best of
    several noisy scores is above the true best on average, so that the measure leans to forgetting. None without an
    earlier score, or where a score since the first is missing.
    """
    *earlier, now = _since_first(scores) or [None]
    if now is None or not earlier or None in earlier:
        return None
    best = max((score for score in earlier if score is not None), key=lambda score: score.value)
    return _difference(best, now)


def average_forgetting(scores: Scores, learned: Sequence[int] | None = None) -> Estimate | None:
    """F_k, the mean of `forgetting` after the last stage over the tasks learned before it (same source).

    learned: the stage after which each task counts as learned; without it task j is learned in stage j. None where no
    task was learned before, or one that was has no value.
    """
    return _mean([None if of[stage] is None else forgetting(of) for stage, of in _learned_before(scores, learned)])


def backward_transfer(scores: Scores, learned: Sequence[int] | None = None) -> Estimate | None:
    """BWT, the mean over the tasks learned before the last stage of their score now minus that when they were learned.

    (1 / (T - 1)) sum of R_Ti - R_ii: Lopez-Paz & Ranzato (2017), "Gradient episodic memory for continual learning",
    arXiv 1706.08840, section 2. Negative where they were forgotten. learned, and None, as in `average_forgetting`.
    """
    return _mean([_difference(of[-1], of[stage]) for stage, of in _learned_before(scores, learned)])


def retention(score: Estimate | None, original: Estimate | None) -> Estimate | None:
    """What is left of a score: score / original. 1 is all of it; the standard error is the delta method's.

    None where one is missing or the original is 0.
    """
    if score is None or original is None or not original.value:
        return None
    ratio = score.value / original.value
    if score.standard_error is None or original.standard_error is None:
        return Estimate(ratio)
    return Estimate(ratio, math.hypot(score.standard_error, ratio * original.standard_error) / abs(original.value))


def forgetting_rate(score: Estimate | None, reference: Estimate | None) -> Estimate | None:
    """(score - reference) / reference x 100, in percent: Speech-IFEval, Lu et al. (2025), arXiv 2505.19037. Negative
    where something was forgotten. With the scores 89.23 and 92.53 it is -3.57. None as in `retention`.
    """
    kept = retention(score, reference)
    if kept is None:
        return None
    return Estimate(100 * (kept.value - 1), None if kept.standard_error is None else 100 * kept.standard_error)


@dataclass(frozen=True)
class Forgetting:
    """What a model lost up to one stage."""

    average: Estimate | None
    backward_transfer: Estimate | None
    retention: tuple[Estimate | None, ...]
    """Retention of each task, relative to its score when it was learned; None until there is a later stage."""
    rate: tuple[Estimate | None, ...]
    """The forgetting rate of each task, in percent, relative to the same."""


def by_stage(scores: Scores, learned: Sequence[int] | None = None) -> list[Forgetting]:
    """All measures after each stage, one entry a stage."""
    found = []
    for k in range(1, len(scores) + 1):
        so_far = scores[:k]
        pairs = [(of[-1], of[stage] if stage < k - 1 else None) for stage, of in _tasks(so_far, learned)]
        found.append(
            Forgetting(
                average_forgetting(so_far, learned),
                backward_transfer(so_far, learned),
                tuple(retention(now, then) for now, then in pairs),
                tuple(forgetting_rate(now, then) for now, then in pairs),
            )
        )
    return found


def _tasks(scores: Scores, learned: Sequence[int] | None) -> list[tuple[int, list[Estimate | None]]]:
    """(the stage it is learned in, its scores after each stage) of each task.

    Raises ValueError if the stages do not have the same tasks, or `learned` is not of them.
    """
    tasks = len(scores[0]) if scores else 0
    for i, row in enumerate(scores):
        if len(row) != tasks:
            raise ValueError(f"stage {i} has {len(row)} scores, stage 0 has {tasks}: None stands for a missing one")
    stages = range(tasks) if learned is None else learned
    if len(stages) != tasks or any(stage < 0 for stage in stages):
        raise ValueError(f"learned={list(stages)} must name a stage, from 0, for each of {tasks} tasks")
    return [(stage, [row[j] for row in scores]) for j, stage in enumerate(stages)]


def _learned_before(scores: Scores, learned: Sequence[int] | None) -> list[tuple[int, list[Estimate | None]]]:
    return [(stage, of) for stage, of in _tasks(scores, learned) if stage < len(scores) - 1]


def _since_first(scores: Sequence[Estimate | None]) -> list[Estimate | None]:
    first = next((i for i, score in enumerate(scores) if score is not None), len(scores))
    return list(scores[first:])


def _difference(score: Estimate | None, other: Estimate | None) -> Estimate | None:
    if score is None or other is None:
        return None
    errors = score.standard_error, other.standard_error
    error = None if errors[0] is None or errors[1] is None else math.hypot(errors[0], errors[1])
    return Estimate(score.value - other.value, error)


def _mean(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """None for no estimates, or if one is missing."""
    known = [one for one in estimates if one is not None]
    if not known or len(known) < len(estimates):
        return None
    n = len(known)
    errors = [one.standard_error for one in known if one.standard_error is not None]
    error = math.sqrt(math.fsum(error**2 for error in errors)) / n if len(errors) == n else None
    return Estimate(math.fsum(one.value for one in known) / n, error)
