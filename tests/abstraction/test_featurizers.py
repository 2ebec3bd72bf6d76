"""Featurizers are invertible; rotations stay orthonormal; what is learned exchanges what it freezes to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cutaway.abstraction import neurons, subspace
from cutaway.abstraction.featurizers import (
    Coordinates,
    DictionaryFeatures,
    Featurizer,
    Subspace,
    Whole,
    principal,
    random_subspace,
)
from cutaway.abstraction.learners import Boundless, Mask, Rotation
from cutaway.abstraction.nonlinear import Nonlinear, NonlinearLearner, parameters
from cutaway.core import InputError, UnknownName

D = 12


class Relu:
    """A dictionary that leaves something unexplained."""

    n_features = 20

    def __init__(self) -> None:
        self.w = torch.randn(D, self.n_features, generator=torch.Generator().manual_seed(5))

    def encode(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.w)

    def decode(self, a: Tensor) -> Tensor:
        return a @ self.w.T / 8


def every() -> list[Featurizer]:
    generator = torch.Generator().manual_seed(0)
    return [
        Whole(D),
        Subspace(random_subspace(D, 3, generator)),
        Subspace.spanning(torch.randn(4, D, generator=generator)),
        Coordinates((1, 5), D),
        DictionaryFeatures((0, 3, 7), Relu()),
        Nonlinear.random(D, 4, generator),
        Nonlinear.random(D, D, generator),
    ]


@pytest.mark.parametrize("featurizer", every(), ids=lambda f: f.kind)
def test_features_and_error_give_the_vector_back(featurizer: Featurizer) -> None:
    x = torch.randn(4, 2, D)
    torch.testing.assert_close(featurizer.inverse(*featurizer.features(x)), x)


@pytest.mark.parametrize("featurizer", every(), ids=lambda f: f.kind)
def test_a_swap_with_itself_changes_nothing_and_twice_is_once(featurizer: Featurizer) -> None:
    x, y = torch.randn(2, 4, D)
    torch.testing.assert_close(featurizer.swap(x, x), x)
    if featurizer.kind != "dictionary":  # its encoder does not undo its decoder
        torch.testing.assert_close(featurizer.swap(featurizer.swap(x, y), y), featurizer.swap(x, y))


def test_a_subspace_of_every_dimension_is_the_whole_vector() -> None:
    x, y = torch.randn(2, 6, D)
    full = Subspace(random_subspace(D, D, torch.Generator().manual_seed(1)))
    torch.testing.assert_close(full.swap(x, y), y, atol=1e-5, rtol=1e-5)


def test_bases_are_orthonormal() -> None:
    generator = torch.Generator().manual_seed(0)
    for basis in (
        random_subspace(D, 5, generator),
        Subspace.spanning(torch.randn(5, D, generator=generator)).basis,
        principal(torch.randn(40, D, generator=generator), 5),
    ):
        torch.testing.assert_close(basis @ basis.T, torch.eye(5), atol=1e-6, rtol=0)


@pytest.mark.parametrize("sizes", [(3,), (2, 3)])
def test_a_rotation_exchanges_while_it_learns_what_it_exchanges_when_frozen(sizes: tuple[int, ...]) -> None:
    learner = Rotation(D, sizes, seeds=(0, 1))
    with torch.no_grad():  # as after many steps: neither orthogonal nor of unit length
        learner.w.mul_(3).add_(torch.randn(learner.w.shape, generator=torch.Generator().manual_seed(2)))
    x, y = torch.randn(2, 7, D), torch.randn(len(sizes), 2, 7, D)
    moved = learner.change(x, y[0] if len(sizes) == 1 else y, None).detach()
    for cell, featurizers in enumerate(learner.frozen()):
        expected = x[cell]
        for v, featurizer in enumerate(featurizers):
            assert isinstance(featurizer, Subspace)
            k = sizes[v]
            torch.testing.assert_close(featurizer.basis @ featurizer.basis.T, torch.eye(k), atol=1e-5, rtol=0)
            expected = featurizer.swap(expected, y[v, cell])
        torch.testing.assert_close(moved[cell], expected, atol=1e-5, rtol=1e-4)


def test_the_gradient_of_a_rotation_is_that_of_finite_differences() -> None:
    learner = Rotation(5, (2,), seeds=(0,))
    learner.w = learner.w.detach().double().requires_grad_()
    x, y = torch.randn(2, 1, 3, 5, dtype=torch.float64)

    def of(w: Tensor) -> Tensor:
        learner.w = w
        base = x.clone()
        delta = y - base
        inverse = torch.linalg.inv(w.mT @ w)
        plain = base + (delta @ w) @ inverse @ w.mT
        torch.testing.assert_close(learner.change(x, y, None), plain, atol=1e-6, rtol=1e-5)
        return plain.pow(3)

    assert torch.autograd.gradcheck(of, (learner.w,))


@pytest.mark.parametrize("make", [lambda: Boundless(D, D, (0,)), lambda: Mask(D, 1), lambda: Mask(20, 1, Relu())])
def test_soft_masks_end_as_what_they_freeze_to(make: Any) -> None:
    learner = make()
    with torch.no_grad():
        if isinstance(learner, Mask):
            learner.m.copy_(torch.randn(learner.m.shape, generator=torch.Generator().manual_seed(1)).sign())
        else:
            learner.boundary.fill_(0.5 - 0.5 / D)  # between two dimensions, where the last step of cooling is sharp
            learner.cold = 1e-3
    learner.cool(1.0)
    x, y = torch.randn(2, 1, 6, D)
    (frozen,) = learner.frozen()[0]
    soft = learner.change(x, y, None).detach()
    if isinstance(learner, Boundless):
        # The first dimension's weight is sigma(0) = 1/2 by the definition; the others are in or out.
        q = frozen.rows(D)
        assert q is not None
        hard = x + (y - x) @ q.T @ torch.diag(torch.tensor([0.5] + [1.0] * (len(q) - 1))) @ q
        torch.testing.assert_close(soft, hard, atol=1e-4, rtol=1e-4)
    else:
        torch.testing.assert_close(soft, frozen.swap(x, y), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("width", [D, 7])
def test_a_nonlinear_map_exchanges_while_it_learns_what_it_exchanges_when_frozen(width: int) -> None:
    learner = NonlinearLearner(width, 3, seeds=(0, 1))
    with torch.no_grad():
        for parameter, _ in learner.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) / 3)
    x, y = torch.randn(2, 2, 5, width)
    moved = learner.change(x, y, None).detach()
    for cell, (frozen,) in enumerate(learner.frozen()):
        torch.testing.assert_close(moved[cell], frozen.swap(x[cell], y[cell]), atol=1e-4, rtol=1e-4)
        back = Nonlinear.read({name: t.clone() for name, t in frozen.tensors().items()})
        torch.testing.assert_close(back.swap(x[cell], y[cell]), frozen.swap(x[cell], y[cell]))
        # Not linear: half of the way between two sources is not half of what they do.
        both = [frozen.swap(x[cell], s) for s in (y[cell], -y[cell], torch.zeros_like(y[cell]))]
        assert not torch.allclose((both[0] + both[1]) / 2, both[2], atol=1e-3)
    one_cell = sum(p[0].numel() for p, _ in learner.parameters())
    assert parameters(width) == one_cell


def test_a_nonlinear_map_that_learned_nothing_is_a_rotation() -> None:
    (frozen,) = NonlinearLearner(D, 3, seeds=(0,)).frozen()[0]
    assert isinstance(frozen, Nonlinear)
    x, y = torch.randn(2, 6, D)
    torch.testing.assert_close(frozen.swap(x, y), Subspace(frozen.rotation[:, :3].T).swap(x, y), atol=1e-5, rtol=1e-4)


def test_places_that_say_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        subspace("resid_post.0", dims=0)
    with pytest.raises(UnknownName, match="boundles"):
        subspace("resid_post.0", how="boundles")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="linearly independent"):
        subspace("resid_post.0", basis=torch.ones(2, 4))
    with pytest.raises(InputError, match="none twice"):
        neurons("mlp_act.0", which=[1, 1])
    with pytest.raises(InputError, match="too many"):
        principal(torch.randn(3, D), 5)
