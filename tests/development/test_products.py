"""Large linear layers by the faster kernel: the same losses and gradients, of any order."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.pytorch_utils import Conv1D

from cutaway.core import onednn
from cutaway.development import Loss, squared_error
from cutaway.development import products as room
from cutaway.development.samplers import SPAN, Posterior, distance, langevin

LAYERS = {
    "linear": lambda: nn.Linear(300, 260),
    "linear without bias": lambda: nn.Linear(300, 260, bias=False),
    "GPT-2's": lambda: Conv1D(260, 300),
}


@pytest.fixture
def calls(monkeypatch):
    if not onednn.available():
        pytest.skip("this torch has no such kernel here")
    made = []
    kept = room.product
    monkeypatch.setattr(room, "product", lambda a, b: made.append((tuple(a.shape), tuple(b.shape))) or kept(a, b))
    return made


def both(layer, x, of):
    plain = of(layer(x))
    with room.fast_products():
        fast = of(layer(x))
    return plain, fast


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("inputs", [lambda: torch.randn(4, 8, 300), lambda: torch.randn(300, 32).t()])
def test_values_and_gradients_are_torchs_own(name, inputs, calls):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    x = inputs().requires_grad_()
    plain, fast = both(layer, x, lambda y: y)
    assert torch.allclose(plain, fast, atol=1e-4)
    assert len(calls) == 1, "it was used once"
    wrt = [x, *layer.parameters()]
    weights = torch.randn(plain.shape)
    for a, b in zip(torch.autograd.grad(plain, wrt, weights), torch.autograd.grad(fast, wrt, weights)):
        assert a.shape == b.shape
        assert torch.allclose(a, b, atol=1e-4 * float(a.abs().max()))
    assert len(calls) == 3, "and for both gradients"


def test_a_gradients_gradient_too(calls):
    """A loss may contain a gradient itself (a penalty on it)."""
    torch.manual_seed(0)
    layer, x = nn.Linear(200, 200), torch.randn(64, 200, requires_grad=True)

    def penalty(y):
        (g,) = torch.autograd.grad(y.tanh().sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), layer.weight)[0]

    plain, fast = both(layer, x, penalty)
    assert torch.allclose(plain, fast, atol=1e-4 * float(plain.abs().max()))


def test_what_does_not_fit_is_left_to_torch(calls):
    with room.fast_products():
        nn.Linear(4, 4)(torch.randn(2, 4))  # small
        nn.Linear(300, 260).double()(torch.randn(64, 300).double())
        F.linear(torch.randn(300), torch.randn(7000, 300))
        with pytest.raises(RuntimeError, match="shapes"):
            nn.Linear(300, 260)(torch.randn(64, 299))
    assert not calls


def test_chains_of_a_large_network_use_it(calls):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(300, 2000), nn.ReLU(), nn.Linear(2000, 800))
    x = torch.randn(16, 300)
    loss = Loss(module, (x, torch.zeros(16, 800)), squared_error)
    gradients = loss.gradients(shared=True)
    found, values = gradients(loss.origin[None], *loss.data)
    assert gradients.how == "chain by chain"
    assert calls
    mean = squared_error(module, *loss.data).mean()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(mean, list(module.parameters()))])
    assert torch.allclose(found[0], expected, atol=1e-5)
    assert torch.allclose(values[0], mean.detach())


@pytest.mark.parametrize("chains", [1, 3])
@pytest.mark.parametrize("each", [False, True])
def test_a_move_in_parts_is_the_move(chains, each):
    """Longer than a span and no multiple of one."""
    d = 2 * SPAN + 7
    g = torch.Generator().manual_seed(0)
    w, grad, noise = (torch.randn(chains, d, generator=g, dtype=torch.float64) for _ in range(3))
    origin = torch.randn(d, generator=g, dtype=torch.float64)
    spread = torch.rand(chains, d, generator=g, dtype=torch.float64) if each else 0.3
    root = spread.sqrt() if each else spread**0.5
    expected = w + spread / 2 * (-5.0 * grad - 0.7 * (w - origin)) + root * noise
    moved = w.clone()
    langevin(moved, grad, Posterior(5.0, 0.7, origin), spread, noise)
    assert torch.allclose(moved, expected)
    assert torch.allclose(distance(w, origin), (w - origin).square().sum(1).sqrt())
