"""Chains draw from the posterior they are said to draw from, one by one or all at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from development.regular_case import regular
from torch import nn

from cutaway.core import CutawayError, InputError, UnknownName
from cutaway.development import HMC, Loss, Setting, choose, cross_entropy, llc, quadratic_llc, sample, squared_error

BASE = Setting(n_beta=500.0, localisation=5.0, eps=1e-4, chains=32, draws=1500, burn_in=300, seed=3)


def mean_and_error(loss, setting, **more):
    drawn = sample(loss, setting, **more)
    per_chain = setting.n_beta * drawn.excess.mean(1)
    return per_chain.mean(), per_chain.std(ddof=1) / len(per_chain) ** 0.5, drawn


@pytest.mark.parametrize("sampler", ["sgnht", "hmc"])
def test_a_gaussian_posterior_gives_half_d_times_the_localisations_factor(sampler):
    loss, h = regular()
    k = float((BASE.n_beta * h + BASE.localisation).max())
    setting = replace(BASE, sampler=sampler, eps=0.2 / k, draws=150 if sampler == "hmc" else 1500)
    found, error, _ = mean_and_error(loss, setting, sampler=HMC(8) if sampler == "hmc" else None)
    truth = quadratic_llc(h.numpy(), setting.n_beta, setting.localisation)
    assert truth < 3.0
    assert abs(found - truth) < 4 * error + 0.01 * truth
    assert error < 0.05 * truth


@pytest.mark.parametrize("stiffness", [0.2, 0.8])
def test_sgld_has_the_stationary_variance_of_its_step(stiffness):
    """On a quadratic SGLD's variance is 1 / (k (1 - eps k / 4)): the bias is known, not only small."""
    loss, h = regular()
    setting = replace(BASE, eps=stiffness / float((BASE.n_beta * h + BASE.localisation).max()))
    found, error, _ = mean_and_error(loss, setting)
    biased = quadratic_llc(h.numpy(), setting.n_beta, setting.localisation, setting.eps)
    assert abs(found - biased) < 4 * error
    if stiffness > 0.5:
        assert found - quadratic_llc(h.numpy(), setting.n_beta, setting.localisation) > 4 * error


def test_twice_the_half_step_less_the_step_is_the_limit():
    h = regular()[1].numpy()
    limit = quadratic_llc(h, 500.0, 5.0)
    eps = 0.2 / float((500 * h + 5).max())
    at, half = quadratic_llc(h, 500.0, 5.0, eps), quadratic_llc(h, 500.0, 5.0, eps / 2)
    assert abs(2 * half - at - limit) < 0.1 * abs(at - limit)


@pytest.mark.parametrize("batch", [None, 16])
@pytest.mark.parametrize("sampler", ["sgld", "rmsprop", "sgnht"])
def test_chains_together_are_the_chains_one_at_a_time(sampler, batch):
    loss, _ = regular()
    setting = Setting(100.0, 1.0, 1e-4, sampler, chains=3, draws=12, burn_in=2, batch=batch, seed=5)
    together = sample(loss, setting)
    alone = sample(loss, replace(setting, chains=1), traced=False)
    assert np.allclose(together.excess[:1], alone.excess, rtol=1e-9, atol=1e-12)
    assert np.allclose(together.distance[:1], alone.distance, rtol=1e-9)


@pytest.mark.parametrize("stiffness", [0.1, 1.5])
@pytest.mark.parametrize("sampler", ["sgld", "sgnht"])
def test_acceptance_is_that_of_metropolis_adjusted_proposals(sampler, stiffness):
    """On a quadratic the acceptance of MALA from the chain's own distribution can be drawn directly."""
    loss, h = regular()
    k = (BASE.n_beta * h + BASE.localisation).numpy()
    eps = stiffness / k.max()
    drawn = sample(loss, replace(BASE, sampler=sampler, eps=eps, draws=800))
    rng = np.random.default_rng(0)
    wider = 1 - eps * k / 4 if sampler == "sgld" else 1.0  # SGLD's own stationary variance
    w = rng.normal(size=(100_000, len(k))) / np.sqrt(k * wider)
    noise = rng.normal(size=w.shape)
    new = w - eps / 2 * k * w + eps**0.5 * noise
    back = w - new + eps / 2 * k * new
    log = (k * (w**2 - new**2)).sum(1) / 2 + (noise**2 - back**2 / eps).sum(1) / 2
    assert drawn.acceptance == pytest.approx(np.minimum(1, np.exp(log)).mean(), abs=0.02)


def test_acceptance_of_preconditioned_moves_falls_with_the_step():
    loss, _ = regular()
    setting = replace(BASE, sampler="rmsprop", draws=400)
    small, large = (sample(loss, replace(setting, eps=eps)).acceptance for eps in (1e-5, 1e-3))
    assert small > 0.99
    assert large < 0.9


def test_going_on_is_the_same_as_never_having_stopped():
    loss, _ = regular()
    setting = Setting(100.0, 1.0, 1e-4, chains=2, draws=128, burn_in=0, batch=8)
    whole = sample(loss, setting)
    first = sample(loss, replace(setting, draws=64))
    second = sample(loss, replace(setting, draws=64), after=first)
    assert np.allclose(np.concatenate([first.excess, second.excess], 1), whole.excess)


@pytest.mark.parametrize("batch", [None, 16])
def test_noise_drawn_ahead_by_another_thread_is_the_same(batch, monkeypatch):
    from cutaway.development import chains as room

    loss, setting = regular()[0], Setting(30.0, 1.0, 1e-3, chains=3, draws=150, burn_in=10, batch=batch)
    alone = sample(loss, setting)
    monkeypatch.setattr(room, "_WORTH_A_THREAD", 0)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        ahead = sample(loss, setting)
        again = sample(loss, setting, after=ahead)
        assert torch.get_num_threads() == 2, "and threads are as many as before"
        with pytest.raises(CutawayError, match="left the floats"):
            sample(loss, replace(setting, eps=1e6))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(ahead.excess, alone.excess, rtol=1e-9)
    np.testing.assert_allclose(again.excess, sample(loss, setting, after=alone).excess, rtol=1e-9)


def test_recorded_gradients_are_autograds():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    x, y = torch.randn(20, 5), torch.randint(3, (20,))
    loss = Loss(module, (x, y), cross_entropy)
    w = loss.origin + 0.1 * torch.randn(3, loss.d)
    rows = torch.randint(20, (3, 6))
    gradients = loss.gradients(shared=False)
    slopes, values = gradients(w, *loss.batch(rows))
    assert gradients.how == "recorded vmap"
    for i in range(3):
        leaf = w[i].clone().requires_grad_()
        value = loss.mean(leaf, x[rows[i]], y[rows[i]])
        assert torch.allclose(values[i], value, atol=1e-6)
        assert torch.allclose(slopes[i], torch.autograd.grad(value, leaf)[0], atol=1e-5)


def test_a_module_that_vmap_cannot_batch_goes_chain_by_chain():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return x * (self.w if float(self.w.detach().sum()) > 0 else -self.w)

    x = torch.ones(4, 3)
    loss = Loss(Odd(), (x, x), squared_error)
    drawn = sample(loss, Setting(10.0, 1.0, 1e-4, chains=2, draws=4, burn_in=0))
    assert drawn.how == "chain by chain"
    assert np.isfinite(drawn.excess).all()


def test_only_the_chosen_weights_move():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 2))
    x = torch.randn(8, 4)
    y = module(x).detach()
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[1] = True
    weights = choose(module, {"0.weight": mask})
    loss = Loss(module, (x, y), squared_error, {"0.weight": mask})
    assert loss.d == weights.d == 4
    moved = weights.unpack(loss.origin + 1.0)
    assert torch.equal(moved["0.weight"][1], module[0].weight[1] + 1)
    assert torch.equal(moved["0.weight"][[0, 2, 3]], module[0].weight[[0, 2, 3]])
    before = {name: value.clone() for name, value in module.state_dict().items()}
    sample(loss, Setting(10.0, 1.0, 1e-3, chains=2, draws=4, burn_in=0))
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    assert Loss(module, (x, y), squared_error, "1").d == 10


def test_bad_inputs_are_refused():
    module = nn.Linear(2, 1)
    x = torch.ones(4, 2)
    with pytest.raises(UnknownName, match="weight"):
        Loss(module, (x, x[:, :1]), squared_error, "wieght")
    with pytest.raises(InputError, match="shape"):
        Loss(module, (x, x[:, :1]), squared_error, {"weight": torch.ones(3, dtype=torch.bool)})
    with pytest.raises(InputError, match="one length"):
        Loss(module, (x, x[:2, :1]), squared_error)
    with pytest.raises(InputError, match="NaN"):
        Loss(module, (x * float("nan"), x[:, :1]), squared_error)
    with pytest.raises(InputError, match="one number an item"):
        Loss(module, (x, x[:, :1]), lambda forward, a, b: (forward(a) - b).mean())
    loss = Loss(module, (x, module(x).detach()), squared_error)
    with pytest.raises(InputError, match="positive"):
        llc(loss, Setting(n_beta=-1.0, localisation=1.0, eps=0.1))
    with pytest.raises(UnknownName, match="sgld"):
        llc(loss, Setting(1.0, 1.0, 0.1, sampler="sgdl"))
    with pytest.raises(CutawayError, match="too large"):
        llc(loss, Setting(1e6, 1.0, 1.0, draws=300))
