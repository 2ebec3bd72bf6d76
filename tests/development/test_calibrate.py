"""The estimator finds its setting, and refuses where no setting will do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from development.regular_case import regular
from torch import nn

from cutaway.core import InputError
from cutaway.development import (
    Loss,
    Setting,
    calibrated_llc,
    find_step,
    fit_lambda,
    hessian,
    hessian_trace,
    largest_eigenvalue,
    llc,
    quadratic_llc,
    squared_error,
)
from cutaway.development.fit import curve, solve


def test_it_finds_a_regular_models_coefficient():
    loss, h = regular()
    found = calibrated_llc(loss, n_beta=500.0, sampler="sgnht", chains=16, draws=500)
    truth = quadratic_llc(h.numpy(), 500.0, 1.0)
    assert found.believed, found.refused
    assert abs(found.value - truth) < 0.1 * truth
    assert found.estimate.interval.low < found.value < found.estimate.interval.high
    assert len(found.sweep) == 4
    body = found.to_json()
    assert body["schema"] == "cutaway.llc/1"
    assert body["believed"]
    assert "d/2" in str(found)


def test_it_refuses_where_the_localisation_dominates():
    loss, h = regular()
    found = calibrated_llc(loss, n_beta=500.0, localisation=2000.0, sampler="sgnht", chains=8, draws=300)
    assert any("localisation dominates" in why for why in found.refused)
    assert "REFUSED" in str(found)
    assert found.value == pytest.approx(quadratic_llc(h.numpy(), 500.0, 2000.0), rel=0.15)


def test_it_refuses_a_step_that_dominates():
    loss, h = regular()
    eps = 3.5 / float((500 * h + 1).max())
    found = calibrated_llc(loss, n_beta=500.0, eps=eps, chains=8, draws=300, budget=1, sweep=False)
    assert any("step dominates" in why or "moves would be accepted" in why for why in found.refused)


def test_a_point_that_is_no_minimum_is_refused_and_not_clipped():
    module = nn.Linear(4, 1, bias=False).double()
    x = torch.eye(4, dtype=torch.float64).repeat(4, 1)
    y = x @ module.weight.T.detach() + 3.0
    loss = Loss(module, (x, y), squared_error)
    found = llc(loss, Setting(50.0, 0.1, 1e-3, chains=4, draws=400, burn_in=200))
    assert found.value < 0
    assert not found.believed
    assert any("no minimum" in why for why in found.refused)


def test_chains_that_disagree_are_refused():
    loss, _ = regular()
    found = llc(loss, Setting(500.0, 1.0, 1e-8, chains=4, draws=40, burn_in=0))
    assert any("do not agree" in why for why in found.refused)


def test_curvature_is_that_of_the_hessian():
    loss, h = regular()
    whole = hessian(loss)
    assert torch.allclose(torch.linalg.eigvalsh(whole), h)
    assert largest_eigenvalue(loss) == pytest.approx(float(h.max()), rel=0.05)
    trace = hessian_trace(loss, probes=64)
    assert trace.interval.low - 0.2 < float(h.sum()) < trace.interval.high + 0.2


def test_the_step_keeps_singular_points_stable():
    """At the crossing the curvature is zero; it is where chains go that decides."""
    from cutaway.toys.normal_crossing import NormalCrossing, itself

    module = NormalCrossing((1, 1))
    loss = Loss(module, module.data(), itself)
    found = find_step(loss, Setting(1000.0, 1.0, 1.0, chains=4))
    assert found.eps < 0.2
    assert math.isfinite(llc(loss, found).value)


@pytest.mark.parametrize(("m", "c"), [(1, 3.0), (2, 1.5), (3, -0.5)])
def test_a_fit_finds_the_lambda_of_its_own_curve(m, c):
    t = np.array([1e2, 1e3, 1e4, 1e5])
    value, correction = solve(t, curve(t, 0.5, c, m), np.full(4, 0.01), m)
    assert value == pytest.approx(0.5, abs=0.005)
    assert correction == pytest.approx(c, abs=0.1)


def test_a_fit_needs_two_temperatures():
    loss, _ = regular()
    one = llc(loss, Setting(100.0, 1.0, 1e-4, chains=2, draws=10, burn_in=0))
    with pytest.raises(InputError, match="two n beta"):
        fit_lambda([one, one])


def test_one_chain_cannot_be_calibrated():
    with pytest.raises(InputError, match="at least 2"):
        calibrated_llc(regular()[0], chains=1)
