"""Errors and intervals against statsmodels and scipy, and how often the intervals hold what they should."""

import math
import subprocess
import sys
from typing import TypeVar

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from src.evaluate.statistics import accuracy, bootstrap, clustered_accuracy, over_seeds, share, wilson

REPETITIONS = 3000

UTTERANCES = st.lists(
    st.integers(1, 6).flatmap(lambda words: st.tuples(st.integers(0, words + 2), st.just(words))),
    min_size=2,
    max_size=30,
)
"""(errors, words) of each."""
SHARES = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
"""(successes, n)."""

T = TypeVar("T")


def present(something: T | None) -> T:
    assert something is not None
    return something


def draw(random: np.random.Generator, repetitions: int, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Parts and wholes of clusters of 1 to 4 outcomes with a probability of their own, 0.3 on average; each
    [repetitions, clusters]."""
    wholes = random.integers(1, 5, (repetitions, clusters))
    return random.binomial(wholes, random.beta(1.2, 2.8, (repetitions, clusters))), wholes


def coverage(intervals: list[tuple[float, float]], truth: float) -> float:
    return sum(low <= truth <= high for low, high in intervals) / len(intervals)


def test_share_is_the_cluster_robust_error():
    """Of a regression on a constant: outcome by outcome, and with one weighted rate a cluster."""
    parts, wholes = (row[0] for row in draw(np.random.default_rng(1), 1, 40))
    value, error = share(list(parts), list(wholes))
    outcomes = np.concatenate([[1.0] * p + [0.0] * (w - p) for p, w in zip(parts, wholes, strict=True)])
    groups = np.repeat(np.arange(40), wholes)
    model = sm.OLS(outcomes, np.ones_like(outcomes))
    plain = model.fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False})
    corrected = model.fit(cov_type="cluster", cov_kwds={"groups": groups})
    assert value == pytest.approx(plain.params[0], rel=1e-9)
    assert error == pytest.approx(plain.bse[0], rel=1e-9)
    assert present(error) * math.sqrt(40 / 39) == pytest.approx(corrected.bse[0], rel=1e-9)
    weighted = sm.WLS(parts / wholes, np.ones(40), weights=wholes).fit(cov_type="HC0")
    assert (value, error) == pytest.approx((weighted.params[0], weighted.bse[0]), rel=1e-9)
    entry = clustered_accuracy([[True] * p + [False] * (w - p) for p, w in zip(parts, wholes, strict=True)])
    assert (entry["value"], entry["standard_error"]) == pytest.approx((value, error), rel=1e-12)


def test_accuracy_is_the_mean_of_a_binomial():
    entry = accuracy([True] * 13 + [False] * 27)
    assert entry["standard_error"] == pytest.approx(stats.binom.std(40, 13 / 40) / 40, rel=1e-12)


def test_share_keeps_its_shape():
    assert share([1.0, 2.0], [2.0, 2.0]) == (0.75, pytest.approx(math.sqrt(0.5) / 4))
    assert share([1.0], [2.0]) == (0.5, None)
    with pytest.raises(ValueError, match="nothing to score"):
        share([], [])
    with pytest.raises(ValueError, match="is shorter than"):
        share([1.0, 2.0, 3.0], [1.0, 1.0])


@given(SHARES, st.sampled_from([0.9, 0.95, 0.99]))
@settings(deadline=None)
def test_wilson_against_statsmodels(share_of, confidence):
    successes, n = share_of
    low, high = wilson(successes, n, confidence)
    expected = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    assert (low, high) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert 0 <= low <= successes / n <= high <= 1


@pytest.mark.parametrize(("successes", "n"), [(3, 2), (-1, 2), (0, 0)])
def test_wilson_refuses_what_is_no_share(successes, n):
    with pytest.raises(ValueError, match=f"{successes} of {n} is no share"):
        wilson(successes, n)


@pytest.mark.parametrize("clusters", [8, 20, 60, 150, None])
def test_bootstrap_against_scipy(clusters):
    """Both are BCa with the same bias and acceleration: they differ by what was drawn alone."""
    if clusters:
        parts, wholes = (row[0] for row in draw(np.random.default_rng(clusters), 1, clusters))
    else:  # with much bias to correct
        parts, wholes = np.exp(np.linspace(-3, 4, 15)), np.full(15, 40)
    resamples = 40_000
    expected = stats.bootstrap(
        (parts, wholes),
        lambda p, w, axis: p.sum(axis=axis) / w.sum(axis=axis),
        paired=True, vectorized=True, n_resamples=resamples, batch=2000, method="BCa", rng=np.random.default_rng(99),
    )  # fmt: skip
    interval = present(bootstrap(parts, wholes, resamples))
    # a quantile's Monte-Carlo error, where the density is that of a normal: sqrt(p (1 - p) / resamples) / density
    error = expected.standard_error * math.sqrt(0.025 * 0.975 / resamples) / stats.norm.pdf(1.96)
    assert interval == pytest.approx(tuple(expected.confidence_interval), abs=10 * error)
    assert 10 * error < 0.15 * (interval[1] - interval[0])


@given(UTTERANCES, st.integers(0, 5), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_bootstrap_knows_its_seed_and_no_order(utterances, seed, random):
    errors, words = zip(*utterances, strict=True)
    low, high = present(bootstrap(errors, words, 200, seed))
    random.shuffle(utterances)
    errors, words = zip(*utterances, strict=True)
    assert bootstrap(errors, words, 200, seed) == (low, high)
    rates = [error / of for error, of in utterances]
    assert min(rates) - 1e-9 <= low <= high <= max(rates) + 1e-9


def test_bootstrap_in_pieces_is_the_same(monkeypatch):
    parts, wholes = (row[0] for row in draw(np.random.default_rng(2), 1, 50))
    whole = bootstrap(parts, wholes, 500)
    monkeypatch.setattr("src.evaluate.statistics.CHUNK", 100)
    assert bootstrap(parts, wholes, 500) == whole
    assert bootstrap(parts, wholes, 500, seed=1) != whole


def test_bootstrap_at_its_limits():
    assert bootstrap([1.0], [2.0]) is None
    assert bootstrap([2, 2, 2], [4, 4, 4]) == (0.5, 0.5)
    assert bootstrap([1, 2, 3], [2, 4, 6], 100) == pytest.approx((0.5, 0.5))
    with pytest.raises(ValueError, match="a whole is below 0"):
        bootstrap([1, 2], [1, -1])


def test_clusters_without_a_whole_add_their_parts():
    """An utterance without words in its reference, in which some were heard; against scipy's BCa."""
    assert bootstrap([1, 2], [1, 0]) is None and bootstrap([0, 0, 1], [0, 0, 0]) is None
    parts, wholes = [0, 1, 2, 0, 3, 1, 0, 2, 1, 2], [4, 5, 6, 3, 7, 5, 4, 6, 0, 0]
    expected = stats.bootstrap(
        (parts, wholes), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True, vectorized=True, rng=0
    ).confidence_interval
    assert bootstrap(parts, wholes) == pytest.approx(tuple(expected), abs=0.03)
    low, high = present(bootstrap([1, 1, 1, 0, 0], [1, 1, 0, 0, 0]))  # now and then a draw holds nothing
    assert 0 <= low <= 1.5 <= high


def test_wilson_covers():
    random = np.random.default_rng(3)
    for n, p in ((100, 0.15), (200, 0.5), (541, 0.92)):
        hits = [wilson(int(successes), n) for successes in random.binomial(n, p, REPETITIONS)]
        assert 0.93 < coverage(hits, p) < 0.97, (n, p)


def test_share_and_bootstrap_cover():
    """150 clusters; the truth is the ratio of the expectations, 0.3."""
    parts, wholes = draw(np.random.default_rng(4), REPETITIONS, 150)
    normal, resampled = [], []
    for part, whole in zip(parts, wholes, strict=True):
        value, error = share(part.tolist(), whole.tolist())
        normal.append((value - 1.96 * present(error), value + 1.96 * present(error)))
        resampled.append(present(bootstrap(part, whole, 400)))
    assert 0.93 < coverage(normal, 0.3) < 0.97
    assert 0.93 < coverage(resampled, 0.3) < 0.97
    # the error that takes every outcome for a cluster of its own is too small
    values = parts.sum(axis=1) / wholes.sum(axis=1)
    binomial = 1.96 * np.sqrt(values * (1 - values) / wholes.sum(axis=1))
    assert coverage(list(zip(values - binomial, values + binomial, strict=True)), 0.3) < 0.9


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seeds_cover(seeds):
    runs = np.random.default_rng(seeds).normal(0.7, 0.05, (REPETITIONS, seeds)).tolist()
    assert 0.93 < coverage([present(over_seeds(values)[2]) for values in runs], 0.7) < 0.97


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda values: np.std(values) > 1e-4))
@settings(deadline=None)
def test_seeds_against_scipy(values):
    mean, deviation, interval = over_seeds(values)
    assert (mean, deviation) == pytest.approx((np.mean(values), np.std(values, ddof=1)), rel=1e-9)
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert interval == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_one_seed_has_no_deviation():
    assert over_seeds([0.5]) == (0.5, None, None)
    assert over_seeds([0.5, 0.5]) == (0.5, 0.0, (0.5, 0.5))
    with pytest.raises(ValueError, match="no seeds"):
        over_seeds([])


def test_import_is_light():
    """The report imports these for every plan."""
    code = "import sys, src.evaluate.comparison, src.evaluate.forgetting; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"scipy", "torch", "transformers", "pandas"}.isdisjoint(modules)
