"""Paired tests between strategies that were scored on the same examples.

What a test can tell depends on what was repeated:

- **One seed.** Two models answered the same examples: the example is the unit, and the test is exact (`permutation`,
  which for 0-or-1 verdicts is McNemar's). It speaks of new examples and of these two models. It cannot tell what a
  strategy does from what its one training happened to do.
- **Several seeds.** Each strategy was trained once a seed, and the seed is the unit: a paired t test over the seeds
  that both rows have (`paired_t`). Answers of several seeds are not pooled as if there were more examples: they answer
  the same ones, and those of one seed share its luck, so that a difference between two trainings would pass for one
  between strategies. The standard error includes what the examples add, so that the claim is for new seeds *and* new
  examples, and seeds that agree by accident do not make a difference certain. Few seeds tell little: p < 0.05 needs
  a difference of 4.3 standard errors with 3 seeds, of 12.7 with 2.

The exact p of each seed is kept beside; `Comparison.p_every` is the weaker claim that the models of every seed differ.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

Outcome = bool | tuple[int, int]
"""What became of one example: its verdict, or (part, whole) as (followed, instructions) or (errors, words)."""

Examples = Mapping[str, Outcome]
"""Outcomes by the example's id."""

Seeds = Mapping[int, Mapping[str, Examples]]
"""The outcomes of one row: seed -> score key -> examples."""


@dataclass(frozen=True)
class Within:
    """The difference within one seed."""

    seed: int
    difference: float
    p: float
    """Two-sided exact, over the examples."""


@dataclass(frozen=True)
class Comparison:
    """One score of a row beside that of the reference."""

    difference: float
    """Row - reference, mean over the seeds that both have."""
    standard_error: float | None
    """Error of the difference: over the examples for one seed, over seeds and examples for several. None for one
    example."""
    p: float
    """Two-sided, of this comparison alone."""
    p_adjusted: float
    """Holm's, over all comparisons that were asked for at once."""
    mark: str
    """"higher" or "lower" than the reference where p_adjusted is below the level, else ""."""
    seeds: tuple[Within, ...]

    @property
    def p_every(self) -> float:
        """That these models differ, in the same direction, in every seed: the largest p of the seeds, or 1 (the
        intersection-union test of Berger 1982, "Multiparameter hypothesis testing and acceptance sampling",
        Technometrics 24). A claim for new examples and the trainings that were run, not for new seeds; unadjusted."""
        if len({one.difference > 0 for one in self.seeds}) > 1:
            return 1.0
        return max(one.p for one in self.seeds)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p of the exact test that two models are right equally often, from the counts of examples that only one
    of them got right: min(1, 2 P(X <= the smaller)) with X ~ Binomial(only_first + only_second, 1/2).

    McNemar (1947), "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, with the binomial in place of chi-squared. Not the mid-p, which may exceed its level.
    """
    n, smaller = only_first + only_second, min(only_first, only_second)
    term = tail = 1
    for i in range(smaller):
        term = term * (n - i) // (i + 1)
        tail += term
    return min(1.0, 2 * tail / 2**n)


def permutation(differences: Sequence[int]) -> float:
    """Two-sided p of the exact paired permutation test on the differences of two models' counts, one an example.

    If nothing tells the models apart, each difference could as well have the other sign: p is the share of the 2^n
    choices of signs whose sum is at least as far from 0 (Fisher 1935, "The design of experiments", section 21; Noreen
    1989, "Computer-intensive methods for testing hypotheses"). A cluster's counts change sign together. The choices are
    counted by the shift algorithm of Streitberg & Röhmel (1984), "Exact nonparametrics in APL": nothing is sampled. For
    differences of -1, 0 and 1 this is `mcnemar`.
    """
    sizes = [abs(difference) for difference in differences if difference]
    positive = sum(difference for difference in differences if difference > 0)
    smaller = min(positive, sum(sizes) - positive)
    if all(size == 1 for size in sizes):
        return mcnemar(smaller, len(sizes) - smaller)
    # probability of each sum of the positive differences, up to the smaller of the two sums
    probability = np.zeros(smaller + 1)
    probability[0] = 1.0
    for size in sizes:
        probability[size:] += probability[:-size].copy()
        probability /= 2
    return min(1.0, 2 * float(probability.sum()))


def paired_t(differences: Sequence[float], noise: float = 0.0, common: float = 0.0) -> tuple[float, float]:
    """(standard error, two-sided p) of the mean of the differences d, one a seed: t = mean / sqrt(variance), with k - 1
    degrees of freedom.

    As it stands it is Student's paired t test, variance = s^2(d) / k: a claim for new seeds on the same examples.
    `noise` and `common` are the variances that the examples give to the mean (`_variances`) and widen it to a claim for
    new examples too:

        variance = max(s^2(d) / k, noise) + common

    That is the analysis of variance of a layout of seeds by examples, both random, as min F' of Clark (1973), "The
    language-as-fixed-effect fallacy", J. Verbal Learning and Verbal Behavior 12, but without counting noise twice; or
    two-way clustering with the fewer clusters for the degrees of freedom (Cameron, Gelbach & Miller 2011, "Robust
    inference with multiway clustering", J. Business & Economic Statistics 29). The maximum is there because s^2(d) / k
    measures the noise too: when two or three seeds differ less than that, they agree by accident.

    Without any variance p is 1 for a mean of 0, else 0. Raises ValueError with fewer than two differences.
    """
    k = len(differences)
    if k < 2:
        raise ValueError(f"the seed can be the unit of a test only where there are several, not {k}")
    mean = statistics.fmean(differences)
    standard_error = math.sqrt(max(statistics.variance(differences) / k, noise) + common)
    if not standard_error:
        return 0.0, float(not mean)
    from scipy.special import stdtr

    return standard_error, 2 * float(stdtr(k - 1, -abs(mean) / standard_error))


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: rejecting those below a level keeps the chance of any false rejection in
    the family below it, however the tests depend on each other.

    Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6: the
    i-th smallest of m is multiplied by m - i + 1, and none may be below the one before.
    """
    adjusted = [0.0] * len(ps)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = largest
    return adjusted


def compare(rows: Mapping[str, Seeds], reference: str, level: float = 0.05) -> dict[str, dict[str, Comparison]]:
    """Each row's scores against the reference row's: row -> score key -> comparison, without the reference itself.

    Only scores and seeds that both rows have are compared; a row that shares none has none, and so has a score over
    nothing (word errors, where no reference has a word). The family of the Holm
    correction is everything that is compared in this call: pass the rows and scores whose marks are read together.

    Raises ValueError if the reference is not among the rows, or two rows were not scored on the same examples.
    """
    if reference not in rows:
        raise ValueError(f"the reference {reference!r} is not among the rows: {', '.join(rows)}")
    found: dict[tuple[str, str], Comparison] = {}
    for name, seeds in rows.items():
        if name == reference:
            continue
        common = [seed for seed in sorted(seeds) if seed in rows[reference]]
        for key in dict.fromkeys(key for seed in common for key in seeds[seed]):
            pairs = [
                _pair(name, reference, key, seed, seeds[seed][key], rows[reference][seed][key])
                for seed in common
                if key in seeds[seed] and key in rows[reference][seed]
            ]
            if pairs and all(any(pair.wholes.values()) for pair in pairs):
                found[name, key] = _test(pairs)
    adjusted = holm([one.p for one in found.values()])
    compared: dict[str, dict[str, Comparison]] = {name: {} for name in rows if name != reference}
    for ((name, key), one), p in zip(found.items(), adjusted, strict=True):
        mark = "" if p >= level else "higher" if one.difference > 0 else "lower"
        compared[name][key] = replace(one, p_adjusted=p, mark=mark)
    return compared


@dataclass(frozen=True)
class _Pair:
    """Two rows on the examples of one seed."""

    seed: int
    parts: Mapping[str, int]
    """Row - reference, of each example."""
    wholes: Mapping[str, int]

    @property
    def difference(self) -> float:
        return sum(self.parts.values()) / sum(self.wholes.values())

    def deviations(self) -> dict[str, float]:
        """What each example adds to the deviation of `difference` from that over all possible examples."""
        difference, total = self.difference, sum(self.wholes.values())
        return {id: (part - difference * self.wholes[id]) / total for id, part in self.parts.items()}


def _pair(name: str, reference: str, key: str, seed: int, own: Examples, other: Examples) -> _Pair:
    where = f"{key} of {name!r} and {reference!r} (seed {seed})"
    if not own and not other:
        raise ValueError(f"{where} is over no examples")
    for id in sorted(own.keys() ^ other.keys()):
        only = name if id in own else reference
        raise ValueError(f"{where} is not over the same examples: {id!r} is only in {only!r}")
    parts, wholes = {}, {}
    for id in own:
        (part, whole), (part_other, whole_other) = _counts(own[id]), _counts(other[id])
        if whole != whole_other:
            raise ValueError(f"{where} is not over the same examples: {id!r} is of {whole} and of {whole_other}")
        parts[id], wholes[id] = part - part_other, whole
    return _Pair(seed, parts, wholes)


def _counts(outcome: Outcome) -> tuple[int, int]:
    return outcome if isinstance(outcome, tuple) else (int(outcome), 1)


def _test(pairs: Sequence[_Pair]) -> Comparison:
    """One comparison, of one pair a seed, as the only one of its family."""
    within = tuple(Within(pair.seed, pair.difference, permutation(list(pair.parts.values()))) for pair in pairs)
    if len(pairs) == 1:
        (only,) = within
        squares = _variance(pairs[0].deviations())
        return Comparison(only.difference, None if squares is None else math.sqrt(squares), only.p, only.p, "", within)
    differences = [one.difference for one in within]
    standard_error, p = paired_t(differences, *_variances(pairs))
    # no test over these examples could give less than one in which all of them agree
    p = max(p, 2.0 ** (1 - len({id for pair in pairs for id in pair.parts})))
    return Comparison(statistics.fmean(differences), standard_error, p, p, "", within)


def _variance(deviations: Mapping[str, float]) -> float | None:
    """Variance of the sum of one deviation an example: the squared error of `statistics.share`, with n / (n - 1)."""
    n = len(deviations)
    return math.fsum(own**2 for own in deviations.values()) * n / (n - 1) if n > 1 else None


def _variances(pairs: Sequence[_Pair]) -> tuple[float, float]:
    """(noise, common): what the examples give to the variance of the mean difference over the seeds.

    common: from examples that favor one row in every seed, measured by how the examples' deviations go together over
    the seeds; it does not shrink with more seeds. noise: from what an example does in one seed alone. For n verdicts in
    each of k seeds they are the estimates of the two-way analysis of variance, (MS_examples - MS_residual) / (k n) and
    MS_residual / (k n), as long as the first is not below 0.
    """
    k = len(pairs)
    together: dict[str, float] = {}
    for pair in pairs:
        for id, own in pair.deviations().items():
            together[id] = together.get(id, 0.0) + own / k
    apart = math.fsum(_variance(pair.deviations()) or 0.0 for pair in pairs) / k**2
    common = max(0.0, ((_variance(together) or 0.0) - apart) * k / (k - 1))
    return apart - common / k, common
