"""Changepoints are found where they were planted, and none in noise."""

from __future__ import annotations

import numpy as np
import pytest

from cutaway.core import InputError
from cutaway.development import changepoints, nearest, onset
from cutaway.development.changepoints import segment

STEPS = np.unique(np.geomspace(1, 4000, 45).round())
X = np.log(STEPS + 1)
RNG = np.random.default_rng(0)


def test_a_planted_jump_is_found_within_its_interval():
    y = np.where(X < 4.5, 0.0, 3.0) + 0.4 * RNG.standard_normal(len(X))
    found = changepoints(STEPS, y, "mean", most=2)
    assert len(found.points) == 1
    (point,) = found.points
    true = STEPS[X >= 4.5][0]
    assert point.interval.low <= true <= point.interval.high
    assert point.interval.high < 3 * true
    assert point.p <= 0.02


def test_a_planted_turn_is_found_and_a_straight_line_is_not():
    y = np.where(X < 4.5, X, 9 - X) + 0.1 * RNG.standard_normal(len(X))
    found = changepoints(STEPS, y, "slope", most=1)
    assert abs(np.log(found.steps[0] + 1) - 4.5) < 0.6
    assert changepoints(STEPS, 0.5 * X + 0.1 * np.random.default_rng(5).standard_normal(len(X)), "slope").points == ()


@pytest.mark.parametrize("kind", ["mean", "slope"])
def test_noise_has_none(kind):
    rng = np.random.default_rng(1)
    found = [changepoints(STEPS, rng.standard_normal(len(X)), kind, most=1, seed=i).points for i in range(6)]
    assert sum(bool(points) for points in found) <= 1


def test_the_segmentation_is_the_best_there_is():
    y = RNG.standard_normal(12)
    x = np.arange(12.0)

    def error(cut):
        return sum(float(((part - part.mean()) ** 2).sum()) for part in (y[:cut], y[cut:]))

    assert segment(x, y, 1, "mean") == [min(range(2, 11), key=error)]


def test_an_event_at_the_changepoint_is_nearer_than_in_shuffles():
    y = np.where(X < 4.5, 0.0, 3.0) + 0.4 * RNG.standard_normal(len(X))
    found = changepoints(STEPS, y, "mean", most=2)
    near = nearest(float(STEPS[X >= 4.5][0]), STEPS, y, found)
    assert near.p < 0.1
    assert near.distance <= near.resolution + 1e-9
    far = nearest(float(STEPS[0]), STEPS, y, found)
    assert far.distance > near.distance
    assert far.p > near.p
    assert nearest(5.0, STEPS, y, changepoints(STEPS, RNG.standard_normal(len(X)), "mean", most=1)) is None


def test_onset_lies_half_way():
    y = np.where(X < 4.5, 0.0, 1.0)
    at = onset(STEPS, y)
    after = int(np.argmax(X >= 4.5))
    assert STEPS[after - 1] < at < STEPS[after]
    assert np.isnan(onset(STEPS, -X))


def test_nan_values_are_left_out_and_counted():
    y = np.where(X < 4.5, 0.0, 3.0) + 0.1 * RNG.standard_normal(len(X))
    y[3] = np.nan
    found = changepoints(STEPS, y, "mean", most=2)
    assert found.left_out == 1
    assert len(found.points) == 1


def test_bad_series_are_refused():
    with pytest.raises(InputError, match="3 finite values of 3"):
        changepoints([1, 2, 3], [1, 2, 3], "slope")
    with pytest.raises(InputError, match="0 finite values"):
        changepoints(STEPS, np.full(len(X), np.nan), "mean")
    with pytest.raises(InputError, match="increase"):
        changepoints([1, 3, 2, 4, 5, 6], range(6), "mean")
    with pytest.raises(InputError, match="'mean' or its 'slope'"):
        changepoints(STEPS, X, "level")


def test_where_there_is_one_segmentation_only_nothing_is_found():
    """Twelve points and segments of three: three cuts would lie at 3, 6 and 9 whatever the series."""
    steps = np.geomspace(1, 1000, 12)
    zigzag = np.array([0, 1, 2, 5, 3, 1, 4, 7, 10, 2, 1, 0], dtype=float)
    assert len(changepoints(steps, zigzag, "slope").points) <= 2
    with pytest.raises(InputError, match="needs 9"):
        changepoints(steps[:8], zigzag[:8], "slope")
