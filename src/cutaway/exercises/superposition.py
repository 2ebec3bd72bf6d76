"""Exercises on superposition. Source: Elhage et al. 2022, Toy Models of Superposition."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.exercises.exercise import Answer, Case, Exercise, Finding
from cutaway.toys.superposition.geometry import dimensionality, neighbour_angles

SOURCE = "Elhage et al. 2022, Toy Models of Superposition"
_DENSITY = 0.05


def reconstruct(weights: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """What the toy model makes of its features: it writes them into a smaller space with W, and reads them back with
    the transpose of the same W, a bias, and a ReLU.

    weights: [hidden, feature]. bias: [feature]. x: [batch, feature].
    Return x' [batch, feature].
    """
    return torch.relu(x @ weights.T @ weights + bias)


def loss(x: Tensor, made: Tensor, importance: Tensor) -> Tensor:
    """The toy model's loss: for each example the sum over features of importance times squared error; then the mean
    over examples.

    x and made: [batch, feature]. importance: [feature].
    Return a scalar tensor.
    """
    return (importance * (x - made).square()).sum(dim=1).mean()


def dimensions(weights: Tensor) -> Tensor:
    """How much of a dimension each feature has to itself: |W_i|^2 over the sum, over all features j (i too), of the
    squared product of W_j with the unit vector along W_i. 1 for a feature that shares with no other, 1/2 for one of an
    antipodal pair, 0 for one that is not represented (|W_i| = 0).

    weights: [hidden, feature]; W_i is a column.
    Return [feature].
    """
    norm = weights.norm(dim=0)
    unit = weights / norm.clamp_min(1e-12)
    return norm.square() / (unit.T @ weights).square().sum(dim=1).clamp_min(1e-12)


def pentagon(seed: int) -> tuple[Tensor, Tensor]:
    """Train the toy model to hold five features in two dimensions: x' = ReLU(W^T W x + b), each feature present with
    probability 0.05 and then uniform on [0, 1], all equally important. With features that sparse the best arrangement
    is a regular pentagon: neighbours 72 degrees apart, 2/5 of a dimension each. Runs get stuck in other shapes: train
    several from different starts, and keep the best.

    seed: of what you draw.
    Return (W [2, 5], b [5]).
    """
    generator = torch.Generator().manual_seed(seed)
    starts, batch, steps = 8, 512, 2000
    weights = (0.6 * torch.randn(starts, 2, 5, generator=generator)).requires_grad_()
    bias = torch.zeros(starts, 1, 5, requires_grad=True)
    optimiser = torch.optim.Adam([weights, bias], lr=0.01)
    smooth = torch.zeros(starts)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 0.01 * (1 - step / steps)
        x = torch.rand(batch, 5, generator=generator) * (torch.rand(batch, 5, generator=generator) < 0.05)
        losses = (x - torch.relu(x @ weights.mT @ weights + bias)).square().sum(dim=2).mean(dim=1)
        optimiser.zero_grad()
        losses.sum().backward()
        optimiser.step()
        smooth = 0.99 * smooth + 0.01 * losses.detach()
    best = int(smooth.argmin())
    return weights[best].detach(), bias[best, 0].detach()


def _pentagon_laws(answer: Answer) -> Iterator[Finding]:
    made = answer(0)
    shapes = [list(part.shape) for part in made] if isinstance(made, tuple) else type(made).__name__
    yield Finding("it gives (W [2, 5], b [5])", shapes == [[2, 5], [5]], "" if shapes == [[2, 5], [5]] else f"{shapes}")
    if shapes != [[2, 5], [5]]:
        return
    weights, bias = (part.detach().float() for part in made)
    shares = dimensionality(weights[None])[0]
    lowest, highest = float(shares.min()), float(shares.max())
    fifths = lowest > 0.38 and highest < 0.42
    yield Finding("each feature has 2/5 of a dimension", fifths, "" if fifths else _shape(weights, lowest))
    angles = neighbour_angles(weights[None])[0]
    worst = float((angles - 72).abs().max())
    yield Finding(
        "neighbours are 72 degrees apart, within 2", worst < 2, "" if worst < 2 else f"one is off by {worst:.1f}"
    )
    given, best = (_expected(*part) for part in ((weights, bias), _regular()))
    near = given < 1.05 * best
    why = f"its loss is {given:.4g}, the best pentagon's {best:.4g}: lengths or biases are not yet right."
    yield Finding("its loss is within 5 % of the best pentagon's", near, "" if near else why)


def _shape(weights: Tensor, lowest: float) -> str:
    held = int((weights.norm(dim=0) > 0.5).sum())
    if held < 5:
        return f"{held} of 5 features are represented: a run that is stuck, or features that are not sparse enough."
    return f"the smallest share is {lowest:.2f}: not a regular pentagon; try more starts, or train longer."


def _expected(weights: Tensor, bias: Tensor) -> float:
    """The loss on a large draw, the same for everybody."""
    x = _examples()
    return float(loss(x, reconstruct(weights, bias, x), torch.ones(5)))


@cache
def _examples() -> Tensor:
    generator = torch.Generator().manual_seed(20)
    return torch.rand(50_000, 5, generator=generator) * (torch.rand(50_000, 5, generator=generator) < _DENSITY)


@cache
def _regular() -> tuple[Tensor, Tensor]:
    """The regular pentagon of least loss: the best length of its arms, and the best bias."""
    from scipy.optimize import minimize

    angle = 2 * torch.pi * torch.arange(5) / 5
    star = torch.stack([angle.cos(), angle.sin()])

    def made(at: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        return float(at[0]) * star, torch.full((5,), float(at[1]))

    found = minimize(lambda at: _expected(*made(at)), x0=(1.0, -0.1), method="Nelder-Mead", options={"maxiter": 60})
    return made(found.x)


def _drawn() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(3, 7, generator=generator),
        0.1 * torch.randn(7, generator=generator),
        torch.rand(11, 7, generator=generator),
    )


def _dimension_cases() -> list[Case]:
    weights = _drawn()[0]
    pair = torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 0.7]])
    empty = torch.cat([weights, torch.zeros(3, 1)], dim=1)
    return [
        Case("an antipodal pair and a feature of its own: 1/2, 1/2, 1", (pair,)),
        Case("seven random features in three dimensions", (weights,)),
        Case("a feature that is not represented has 0", (empty,)),
    ]


EXERCISES = (
    Exercise(
        "reconstruct",
        "What a toy model makes of its features",
        SOURCE,
        reconstruct,
        cases=lambda: [Case("seven features in three dimensions", _drawn())],
        mistakes={
            "there is no ReLU.": lambda w, b, x: x @ w.T @ w + b,
            "the ReLU is in the hidden space; this model has it on the output.": lambda w, b, x: (
                torch.relu(x @ w.T) @ w + b
            ),
            "the bias is added after the ReLU.": lambda w, b, x: torch.relu(x @ w.T @ w) + b,
        },
    ),
    Exercise(
        "loss",
        "The loss, with importance",
        SOURCE,
        loss,
        cases=lambda: [Case("random errors", (_drawn()[2], _drawn()[2].flip(0), 0.7 ** torch.arange(7)))],
        mistakes={
            "it is the mean over features; the loss is their sum.": lambda x, y, i: (i * (x - y).square()).mean(),
            "importance is squared with the error: it multiplies the squared error.": lambda x, y, i: (
                (i * (x - y)).square().sum(dim=1).mean()
            ),
            "importance is left out.": lambda x, y, i: (x - y).square().sum(dim=1).mean(),
            "it is the sum over examples; take their mean.": lambda x, y, i: (i * (x - y).square()).sum(),
        },
    ),
    Exercise(
        "dimensions",
        "How much of a dimension a feature has",
        SOURCE,
        dimensions,
        cases=_dimension_cases,
        mistakes={
            "the other vectors are scaled to unit length too; only W_i is.": lambda w: (
                (w.norm(dim=0).square())
                / ((w / w.norm(dim=0).clamp_min(1e-12)).T @ (w / w.norm(dim=0).clamp_min(1e-12))).square().sum(dim=1)
            ),
            "the sum leaves out j = i.": lambda w: (
                w.norm(dim=0).square()
                / (((w / w.norm(dim=0).clamp_min(1e-12)).T @ w).square().sum(dim=1) - w.norm(dim=0).square()).clamp_min(
                    1e-12
                )
            ),
            "it takes rows as features; a feature is a column of W [hidden, feature].": lambda w: dimensions(w.T),
        },
    ),
    Exercise("pentagon", "Train five features into two dimensions", SOURCE, pentagon, laws=_pentagon_laws),
)
