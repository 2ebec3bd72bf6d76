"""Laws of the toy networks: gradients, exact expectations, draws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core import CutawayError, InputError
from cutaway.toys.superposition.data import Exact, Grouped, Sparse, variance
from cutaway.toys.superposition.geometry import (
    cosines,
    dimensionality,
    dimensions_per_feature,
    interference,
    neighbour_angles,
)
from cutaway.toys.superposition.networks import Networks, best_of, gradients, train
from cutaway.toys.superposition.packing import linear_network_loss
from cutaway.toys.superposition.phases import theory

KINDS = [{}, {"relu_hidden": True}, {"relu_output": False}, {"relu_hidden": True, "absolute": True}]


def double(nets: Networks) -> Networks:
    decoder = None if nets.decoder is None else nets.decoder.double()
    return Networks(
        nets.encoder.double(), nets.bias.double(), decoder, nets.relu_hidden, nets.relu_output, nets.absolute
    )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("shared", [True, False])
def test_written_gradients_equal_autograd(kind, tied, shared):
    nets = double(Networks.random(3, 5, 2, seed=0, tied=tied, **kind))
    x = torch.randn(1 if shared else 3, 32, 5, generator=torch.Generator().manual_seed(1)).double()
    importance = 0.9 ** torch.arange(5).double()[None]
    parameters = [p.requires_grad_() for p in (nets.encoder, nets.bias, nets.decoder) if p is not None]
    loss = (nets.errors(x).square() * importance[:, None]).sum(dim=2).mean(dim=1)
    expected = torch.autograd.grad(loss.sum(), parameters)
    with torch.no_grad():
        value, found = gradients(nets, x, None, importance)
    torch.testing.assert_close(value, loss.detach())
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b)


def test_weighted_gradients_equal_autograd():
    nets = double(Networks.random(2, 3, 2, seed=0))
    data = Exact.of(torch.tensor([[0.1, 0.2, 0.5], [0.9, 0.4, 0.3]]))
    x, weight = data.points.double(), data.weights.double()
    importance = torch.ones(1, 3).double()
    nets.encoder.requires_grad_()
    loss = ((nets.errors(x).square() * importance[:, None]).sum(dim=2) * weight).sum(dim=1)
    (expected,) = torch.autograd.grad(loss.sum(), nets.encoder)
    with torch.no_grad():
        value, (found, _) = gradients(nets, x, weight, importance)
    torch.testing.assert_close(value, loss.detach())
    torch.testing.assert_close(found, expected)


@given(st.lists(st.floats(0.05, 0.95), min_size=3, max_size=3))
@settings(max_examples=15, deadline=None)
def test_exact_expectations_are_the_moments_of_the_features(density):
    p = torch.tensor([density])
    data = Exact.of(p, nodes=(8, 6, 4))
    x, weight = data.draw(0, torch.Generator())
    mean = (weight[0, :, None] * x[0]).sum(dim=0)
    second = torch.einsum("s,si,sj->ij", weight[0], x[0], x[0])
    covariance = second - mean[:, None] * mean
    torch.testing.assert_close(mean, p[0] / 2, atol=1e-5, rtol=0)
    torch.testing.assert_close(covariance, torch.diag(variance(p[0])), atol=1e-5, rtol=0)


def test_truncated_expectations_say_what_they_leave_out():
    p = torch.full((1, 5), 0.1)
    left = float(Exact.of(p, at_most=1, nodes=(4,)).left_out)
    assert left == pytest.approx(1 - 0.9**5 - 5 * 0.1 * 0.9**4, abs=1e-6)


def test_sampled_loss_agrees_with_the_exact_one():
    density = torch.tensor([[0.3, 0.3], [0.8, 0.1]])
    nets = Networks.random(2, 2, 1, seed=4)
    importance = torch.tensor([[1.0, 0.5]])
    exact = nets.loss(Exact.of(density, nodes=(64, 48)), importance)
    sampled = nets.loss(Sparse(density), importance, samples=400_000)
    torch.testing.assert_close(sampled, exact, rtol=0.01, atol=0)


def test_theory_of_phases_is_the_exact_loss_of_the_ideal_networks():
    density, extra = torch.tensor([0.05, 0.3, 0.9]), torch.tensor([0.2, 1.0, 5.0])
    importance = torch.stack([torch.ones(3), extra], dim=1)
    data = Exact.of(density[:, None].expand(-1, 2), nodes=(64, 96))
    expected = theory(2, density, extra)
    mean = density / 2
    zero = torch.zeros(3)
    ideal = [
        ([[1.0, 0.0]], torch.stack([zero, mean], dim=1)),
        ([[0.0, 1.0]], torch.stack([mean, zero], dim=1)),
        ([[1.0, -1.0]], torch.zeros(3, 2)),
    ]
    for column, (weights, bias) in enumerate(ideal):
        nets = Networks(torch.tensor(weights).expand(3, 1, 2).contiguous(), bias)
        torch.testing.assert_close(nets.loss(data, importance).double(), expected[:, column], rtol=2e-3, atol=0)


def test_loss_of_linear_networks_in_closed_form():
    nets = Networks.random(2, 4, 2, seed=3, relu_output=False)
    density = torch.tensor([[0.3, 0.5, 0.1, 0.9], [0.2, 0.2, 0.2, 0.2]])
    importance = torch.tensor([[1.0, 0.5, 2.0, 0.1]])
    exact = nets.loss(Exact.of(density, nodes=(4, 4, 3, 3)), importance)
    torch.testing.assert_close(linear_network_loss(nets, density, importance).float(), exact, rtol=1e-4, atol=0)


def test_groups_come_together_or_exclude_each_other():
    generator = torch.Generator().manual_seed(0)
    together, _ = Grouped(torch.full((2, 3), 0.3), 2, "correlated").draw(20_000, generator)
    on = (together > 0).reshape(2, -1, 3, 2)
    assert torch.equal(on[..., 0], on[..., 1])
    assert float(on.double().mean()) == pytest.approx(0.3, abs=0.01)
    apart, _ = Grouped(torch.full((2, 3), 0.6), 2, "anticorrelated").draw(20_000, generator)
    on = (apart > 0).reshape(2, -1, 3, 2)
    assert not bool((on[..., 0] & on[..., 1]).any())
    assert float(on.double().mean()) == pytest.approx(0.3, abs=0.01)
    with pytest.raises(InputError, match="correlated or anticorrelated"):
        Grouped(torch.ones(1, 1), 2, "friends")


def test_instances_do_not_touch_each_other():
    """A network trained among others is the network trained alone: the draws of uniforms are the same."""
    density = torch.tensor([[0.3] * 4, [0.05] * 4])
    importance = torch.ones(1, 4)
    start = Networks.random(2, 4, 2, seed=0)
    both = train(start, Sparse(density), importance, steps=40, batch=64)
    alone = train(start.at([1]), Sparse(density[1:]), importance, steps=40, batch=64)
    torch.testing.assert_close(both.encoder[1:], alone.encoder, rtol=1e-4, atol=1e-5)


def test_training_lowers_the_exact_loss_and_leaves_its_start_alone():
    density = torch.full((6, 3), 0.2)
    data = Exact.of(density, nodes=(8, 6, 4))
    start = Networks.random(6, 3, 2, seed=0)
    kept = start.encoder.clone()
    trained = train(start, data, torch.ones(1, 3), steps=200)
    assert torch.equal(start.encoder, kept)
    before, after = (nets.loss(data, torch.ones(1, 3)) for nets in (start, trained))
    assert bool((after < before).all())
    best, loss = best_of(trained, after, 3)
    assert best.instances == 2
    torch.testing.assert_close(loss, after.reshape(2, 3).min(dim=1).values)
    again = best.loss(Exact.of(density[:2], nodes=(8, 6, 4)), torch.ones(1, 3))
    torch.testing.assert_close(again, loss)


def test_a_network_that_diverges_is_an_error():
    with pytest.raises(CutawayError, match="diverged"):
        train(
            Networks(torch.full((1, 1, 2), torch.nan), torch.zeros(1, 2)),
            Sparse(torch.ones(1, 2)),
            torch.ones(1, 2),
            steps=1,
        )
    with pytest.raises(InputError, match="at least one step"):
        train(Networks.random(1, 2, 1, seed=0), Sparse(torch.ones(1, 2)), torch.ones(1, 2), steps=0)
    with pytest.raises(InputError, match="at least 1"):
        Networks.random(1, 2, 0, seed=0)


def test_geometry_of_regular_polygons():
    for k in (3, 4, 5, 6, 8):
        angle = 2 * torch.pi * torch.arange(k) / k
        encoder = torch.stack([angle.cos(), angle.sin()])[None]
        torch.testing.assert_close(dimensionality(encoder), torch.full((1, k), 2 / k))
        torch.testing.assert_close(dimensions_per_feature(encoder), torch.tensor([2 / k]))
        torch.testing.assert_close(neighbour_angles(encoder), torch.full((1, k), 360 / k), rtol=1e-4, atol=0)


def test_dimensions_of_features_do_not_add_up_past_the_space():
    """sum_i D_i <= m for any weights, with equality where features fill tight frames; none for absent features."""
    encoder = torch.randn(20, 5, 30, generator=torch.Generator().manual_seed(0))
    assert bool((dimensionality(encoder).sum(dim=1) <= 5 + 1e-4).all())
    encoder[:, :, 3] = 0
    share = dimensionality(encoder)
    assert bool((share[:, 3] == 0).all())
    assert bool((interference(encoder)[:, 3] == 0).all())
    assert bool((cosines(encoder)[:, 3] == 0).all())
    assert np.isfinite(share.numpy()).all()
