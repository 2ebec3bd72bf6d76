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

    def counted(a, b, into=None):
        made.append((tuple(a.shape), tuple(b.shape)))
        return kept(a, b, into)

    monkeypatch.setattr(room, "product", counted)
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
        F.linear(torch.randn(64, 300), torch.randn(260, 600)[:, ::2])  # no kernel packs this in reasonable time
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


class Twice(nn.Module):
    """One weight in two products, beside one whose use is no product."""

    def __init__(self):
        super().__init__()
        self.square, self.last = nn.Linear(1500, 1500), nn.Linear(1500, 300)

    def forward(self, x):
        y = self.square(self.square(x).relu())
        return self.last(y) + 0.1 * self.last.weight.sum(1)


def test_gradients_written_in_place_add_up_where_a_weight_is_used_again(calls):
    torch.manual_seed(0)
    module, x = Twice(), torch.randn(64, 1500)
    loss = Loss(module, (x, torch.zeros(64, 300)), squared_error)
    gradients = loss.gradients(shared=True)
    for _ in range(2):  # the second call writes over the first's
        found, _ = gradients(loss.origin[None], *loss.data)
    assert gradients.how == "chain by chain"
    expected = torch.autograd.grad(squared_error(module, *loss.data).mean(), list(module.parameters()))
    for a, b in zip(torch.split(found[0], [p.numel() for p in expected]), expected):
        assert torch.allclose(a, b.flatten(), atol=1e-4 * float(b.abs().max()))


def test_a_gradient_lies_where_it_is_wanted(calls):
    torch.manual_seed(0)
    layer, x = nn.Linear(300, 260, bias=False), torch.randn(64, 300)
    place = torch.full((260 * 300,), torch.nan)
    with room.fast_products({layer.weight.data_ptr(): place}):
        y = layer(x)
        (found,) = torch.autograd.grad(y.square().sum(), layer.weight)
    assert found.data_ptr() == place.data_ptr()
    (expected,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    assert torch.allclose(place.view(260, 300), expected, atol=1e-4 * float(expected.abs().max()))


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
