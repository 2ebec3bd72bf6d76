"""Tests of hypotheses: their level under the null, their power off it, bad input."""

import numpy as np
import pytest

from cutaway.core import InputError
from cutaway.evidence import equivalence, exceeds_share, holm, hsic

RUNS = 400
# A test at level .05 rejects in at most 8.5 % of 400 runs, but for one time in a thousand.
MOST = 0.085


def test_apartness_keeps_its_level_at_the_edge_of_its_null_and_equivalence_at_the_edge_of_the_other():
    rng = np.random.default_rng(0)
    apart, same = 0, 0
    for _ in range(RUNS):
        differences = np.where(rng.random(60) < 0.6, 1.0, -1.0)  # P(d > 0) = 1/2 + epsilon: the edge of both nulls
        found = equivalence(differences, 0.1)
        apart += found.p_apart <= 0.05
        same += found.p_same <= 0.05
    assert apart / RUNS <= MOST
    assert same / RUNS <= MOST


def test_what_is_the_same_is_equivalent_and_what_is_apart_is_not():
    rng = np.random.default_rng(1)
    alike = equivalence(rng.normal(size=1000), 0.1)
    assert alike.p_same < 0.01 < alike.p_apart
    apart = equivalence(rng.normal(size=100) + 1.5, 0.1)
    assert apart.p_apart < 0.01
    assert apart.p_same > 0.9


def test_units_without_a_difference_count_half_on_either_side():
    equal = equivalence(np.zeros(200), 0.1)
    assert equal.share.value == 0.5
    assert equal.p_apart == pytest.approx(1.0)
    assert equal.p_same < 0.01


def test_independence_keeps_its_level_and_sees_what_correlation_does_not():
    rng = np.random.default_rng(2)
    x = [rng.normal(size=24) for _ in range(RUNS)]
    rejected = sum(hsic(a, rng.normal(size=24), permutations=99, seed=i)[1] <= 0.05 for i, a in enumerate(x))
    assert rejected / RUNS <= MOST
    a = rng.uniform(-1, 1, size=120)
    assert abs(np.corrcoef(a, a**2)[0, 1]) < 0.3
    assert hsic(a, a**2 + 0.01 * rng.normal(size=120))[1] < 0.01


def test_the_statistic_is_that_of_the_definition():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=12), rng.normal(size=12)

    def kernel(v):
        apart = np.abs(v[:, None] - v[None])
        return np.exp(-(apart**2) / (2 * np.median(apart[np.triu_indices(12, 1)]) ** 2))

    h = np.eye(12) - 1 / 12
    by_hand = np.trace(h @ kernel(x) @ h @ kernel(y)) / 11**2
    assert hsic(x, y)[0] == pytest.approx(by_hand)


def test_what_is_constant_is_independent_of_all():
    assert hsic(np.ones(8), np.arange(8.0)) == (0.0, 1.0)


def test_a_share_of_draws_keeps_its_level_and_holm_the_family():
    rng = np.random.default_rng(4)
    rejected, families = 0, 0
    for _ in range(RUNS):
        p = [exceeds_share(int(k), 100, 0.9) for k in rng.binomial(100, 0.9, size=5)]
        rejected += p[0] <= 0.05
        families += bool((holm(p) <= 0.05).any())
    assert rejected / RUNS <= MOST
    assert families / RUNS <= MOST
    assert exceeds_share(100, 100, 0.9) == pytest.approx(0.9**100)
    assert exceeds_share(0, 100, 0.9, less=True) < 1e-50


@pytest.mark.parametrize(
    "call",
    [
        lambda: equivalence([1.0, 2.0], 0.6),
        lambda: equivalence([[1.0]], 0.1),
        lambda: equivalence([np.nan], 0.1),
        lambda: hsic([1.0, 2.0], [1.0, 2.0]),
        lambda: hsic([1.0] * 5, [1.0] * 6),
        lambda: exceeds_share(5, 4),
        lambda: exceeds_share(0, 0),
    ],
)
def test_bad_input_is_said(call):
    with pytest.raises(InputError):
        call()
