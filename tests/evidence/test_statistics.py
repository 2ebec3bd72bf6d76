"""Intervals cover, tests keep their level, and all agrees with scipy where scipy has it."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cutaway.core import InputError
from cutaway.evidence import statistics as cs


def covers(interval, truth) -> bool:
    return interval.low <= truth <= interval.high


# ------------------------------------------------------------------------------------------------------ correlations


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=30))
def test_correlations_equal_scipy_with_ties_and_are_nan_for_constants(pairs):
    x, y = np.array(pairs, dtype=float).T
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = {k: cs.correlation(x, y, k, resamples=50) for k in ("spearman", "pearson")}
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert all(math.isnan(e.value) and e.n == len(pairs) and e.interval is None for e in ours.values())
        return
    assert ours["spearman"].value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert ours["pearson"].value == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)


def test_spearman_sees_ranks_alone():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 50))
    assert cs.correlation(np.exp(3 * x), y**3).value == pytest.approx(cs.correlation(x, y).value)
    assert cs.correlation(x, np.exp(x)).value == pytest.approx(1)


def test_pearson_does_not_underflow():
    x = np.array([1.0, 2.0, 4.0, 3.0])
    assert cs.correlation(1e-200 * x, 1e-200 * x[::-1], "pearson").value == pytest.approx(np.corrcoef(x, x[::-1])[0, 1])


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_units_are_undefined(n):
    estimate = cs.correlation(np.arange(n), np.arange(n))
    assert math.isnan(estimate.value)
    assert estimate.n == n


def test_a_correlation_that_most_resamples_cannot_form_has_no_interval():
    x = np.zeros(12)
    x[0] = 1.0  # a third of the resamples miss the one unit that differs
    estimate = cs.correlation(x, np.arange(12.0))
    assert math.isfinite(estimate.value)
    assert math.isnan(estimate.interval.low)


# --------------------------------------------------------------------------------------------------------- bootstrap


def test_bootstrap_agrees_with_scipy():
    x = np.random.default_rng(1).exponential(size=60)
    for method in ("percentile", "bca"):
        ours = cs.bootstrap(x, method=method, resamples=20_000).interval
        theirs = stats.bootstrap((x,), np.mean, n_resamples=20_000, method=method, rng=2).confidence_interval
        assert ours.low == pytest.approx(theirs.low, abs=0.02)
        assert ours.high == pytest.approx(theirs.high, abs=0.02)


def test_paired_bootstrap_of_a_correlation_agrees_with_scipy():
    rng = np.random.default_rng(3)
    x = rng.normal(size=80)
    y = x + rng.normal(size=80)
    ours = cs.correlation(x, y, "pearson", resamples=10_000).interval
    theirs = stats.bootstrap((x, y), lambda a, b, axis: stats.pearsonr(a, b, axis=axis).statistic, paired=True,
                             n_resamples=10_000, method="BCa", rng=4).confidence_interval  # fmt: skip
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_bca_covers_the_mean_of_skewed_data_better_than_percentile():
    rng = np.random.default_rng(5)
    samples = rng.exponential(size=(500, 30))
    share = {m: np.mean([covers(cs.bootstrap(s, method=m, resamples=400).interval, 1.0) for s in samples])
             for m in ("bca", "percentile")}  # fmt: skip
    assert 0.90 <= share["bca"] <= 0.98
    assert share["bca"] >= share["percentile"]


def test_spearman_interval_covers():
    rng = np.random.default_rng(6)
    rho = 0.7
    truth = 6 / math.pi * math.asin(rho / 2)
    hits = []
    for _ in range(300):
        x, e = rng.normal(size=(2, 60))
        hits.append(covers(cs.correlation(x, rho * x + math.sqrt(1 - rho**2) * e, resamples=400).interval, truth))
    assert 0.91 <= np.mean(hits) <= 0.98


def test_constant_data_have_a_point_interval():
    interval = cs.bootstrap(np.full(9, 2.5)).interval
    assert (interval.low, interval.high) == (2.5, 2.5)


def test_the_seed_decides_and_the_blocks_do_not(monkeypatch):
    x = np.random.default_rng(7).normal(size=40)
    first = cs.bootstrap(x, seed=1)
    assert first == cs.bootstrap(x, seed=1)
    assert first != cs.bootstrap(x, seed=2)
    monkeypatch.setattr(cs, "_CELLS", 1_000)
    assert first == cs.bootstrap(x, seed=1)


def test_paired_difference_is_narrower_where_units_share_their_noise():
    rng = np.random.default_rng(8)
    shared = rng.normal(size=100)
    a, b = shared + 0.1 + 0.1 * rng.normal(size=100), shared + 0.1 * rng.normal(size=100)
    paired, unpaired = (cs.bootstrap_difference(a, b, paired=p) for p in (True, False))
    assert paired.low > 0 > unpaired.low
    assert paired.high - paired.low < 0.3 * (unpaired.high - unpaired.low)


def test_paired_difference_of_correlations():
    rng = np.random.default_rng(9)
    truth = rng.normal(size=150)
    good, bad = truth + 0.3 * rng.normal(size=150), truth + 3 * rng.normal(size=150)
    interval = cs.bootstrap_difference([good, truth], [bad, truth], paired=True, statistic=cs.spearman)
    point = cs.correlation(good, truth).value - cs.correlation(bad, truth).value
    assert 0 < interval.low < point < interval.high


@pytest.mark.parametrize("paired", [True, False])
def test_difference_covers_zero_at_its_level(paired):
    rng = np.random.default_rng(10)
    hits = [covers(cs.bootstrap_difference(*rng.normal(size=(2, 40)), paired=paired, resamples=400, seed=i), 0.0)
            for i in range(400)]  # fmt: skip
    assert 0.91 <= np.mean(hits) <= 0.98


# -------------------------------------------------------------------------------------------------------- proportions


def test_wilson_equals_scipy():
    for k, n in [(0, 10), (3, 10), (10, 10), (77, 130)]:
        theirs = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
        ours = cs.wilson(k, n)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_wilson_covers():
    k = np.arange(41)
    for p in (0.05, 0.3, 0.9):
        inside = [covers(cs.wilson(int(i), 40), p) for i in k]
        assert 0.91 <= float((stats.binom.pmf(k, 40, p) * inside).sum()) <= 0.985


def test_no_trials_say_nothing():
    estimate = cs.proportion(0, 0, name="flips")
    assert math.isnan(estimate.value)
    assert (estimate.interval.low, estimate.interval.high) == (0, 1)
    with pytest.raises(InputError, match="5 successes out of 3"):
        cs.wilson(5, 3)


def test_auroc_counts_pairs_and_ties():
    rng = np.random.default_rng(11)
    scores, labels = rng.integers(0, 6, 60), rng.random(60) < 0.4
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[labels] for n in scores[~labels]]
    assert cs.auroc(scores, labels).value == pytest.approx(np.mean(pairs))


def test_auroc_interval_covers_and_stays_open_at_one():
    rng = np.random.default_rng(12)
    truth = float(stats.norm.cdf(1.0 / math.sqrt(2)))
    labels = np.arange(50) < 25
    hits = [covers(cs.auroc(rng.normal(size=50) + labels, labels).interval, truth) for _ in range(600)]
    assert 0.92 <= np.mean(hits) <= 0.985
    perfect = cs.auroc([1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 1])
    assert perfect.value == perfect.interval.high == 1
    assert perfect.interval.low < 0.9
    assert math.isnan(cs.auroc([1, 2, 3], [1, 1, 1]).value)


# ------------------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_permutation_p_values_agree_with_scipy(paired, alternative):
    rng = np.random.default_rng(13)
    a, b = rng.normal(0.4, 1, 25), rng.normal(0, 1, 25)
    theirs = stats.permutation_test(
        (a, b),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        permutation_type="samples" if paired else "independent",
        alternative=alternative,
        vectorized=True,
        rng=14,
    )
    ours = cs.permutation_test(a, b, paired=paired, alternative=alternative)
    assert ours == pytest.approx(theirs.pvalue, abs=0.02)


@pytest.mark.parametrize("paired", [True, False])
def test_permutation_test_keeps_its_level_and_has_power(paired):
    rng = np.random.default_rng(15)
    null = [cs.permutation_test(*rng.normal(size=(2, 20)), paired=paired, permutations=199, seed=i) for i in range(500)]
    assert np.mean(np.array(null) <= 0.05) <= 0.08
    assert stats.kstest(null, "uniform").statistic < 0.08
    assert cs.permutation_test(rng.normal(3, 1, 20), rng.normal(size=20), paired=paired) < 0.001


def test_identical_samples_have_p_one():
    assert cs.permutation_test([1, 2, 3], [1, 2, 3], paired=True) == 1
    assert math.isnan(cs.permutation_test([], [], paired=True))


def test_adjusted_p_values():
    p = np.random.default_rng(16).random(40) ** 2
    assert cs.benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))
    raw = np.sort(p)  # Holm by its definition: stop at the first p_(i) > alpha / (n - i)
    for alpha in (0.01, 0.05, 0.3):
        bad = np.nonzero(raw > alpha / np.arange(40, 0, -1))[0]
        assert (cs.holm(p) <= alpha).sum() == (bad[0] if bad.size else 40)
    assert (cs.holm(p) >= cs.benjamini_hochberg(p) - 1e-15).all()
    assert cs.holm([]).shape == cs.benjamini_hochberg([]).shape == (0,)


# ------------------------------------------------------------------------------------------------------------- input


def test_bad_input_is_named():
    with pytest.raises(InputError, match="1 of 6 values are NaN"):
        cs.correlation([1, 2, np.nan], [1, 2, 3])
    with pytest.raises(InputError, match="lengths"):
        cs.correlation([1, 2, 3], [1, 2])
    with pytest.raises(InputError, match="same units"):
        cs.bootstrap_difference([1.0, 2.0], [1.0, 2.0, 3.0], paired=True)
    with pytest.raises(InputError, match="between 0 and 1"):
        cs.holm([0.1, 1.2])
    with pytest.raises(InputError, match="level"):
        cs.bootstrap([1.0, 2.0, 4.0], level=95)


@given(st.lists(st.tuples(st.integers(-4, 4), st.floats(-3, 3)), min_size=3, max_size=25), st.integers(0, 2**16))
def test_counted_ranks_are_the_ranks_of_the_resample(units: list[tuple[int, float]], seed: int) -> None:
    from cutaway.evidence.statistics import _spearman_counted, spearman

    x, y = np.array(units, dtype=float).T
    index = np.random.default_rng(seed).integers(0, len(x), size=(7, len(x)))
    counts = np.stack([np.bincount(row, minlength=len(x)) for row in index]).astype(float)
    np.testing.assert_allclose(_spearman_counted(x, y, counts), spearman(x[index], y[index]), atol=1e-9)
