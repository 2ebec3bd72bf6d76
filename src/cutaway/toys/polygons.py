"""The toy model of superposition with two hidden dimensions and its loss in closed form: regular polygons are critical
points (Chen et al. 2023, "Dynamical versus Bayesian phase transitions in a toy model of superposition").

One feature of c is on at a time, with strength mu uniform on [0, 1]; x = mu e_i goes to ReLU(W^T W x + b), so

    L(W, b) = 1/c sum_i [ integral (mu - R(mu w_i.w_i + b_i))^2 dmu + sum_{j != i} integral R(mu w_i.w_j + b_j)^2 dmu ]

and both integrals are polynomials in R(a + b) and R(b), R the ReLU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cutaway.core import InputError


class Polygons(nn.Module):
    """A loss for its own sake: each row of x [n] gets L(W, b), [n]. W [2, c], b [c], in float64."""

    def __init__(self, w: Tensor, b: Tensor) -> None:
        super().__init__()
        self.W, self.b = nn.Parameter(w.double()), nn.Parameter(b.double())

    def forward(self, x: Tensor) -> Tensor:
        return polygon_loss(self.W, self.b).expand(x.shape[0])

    def data(self) -> Tensor:
        return torch.zeros(1, dtype=torch.float64)


def polygon_loss(w: Tensor, b: Tensor) -> Tensor:
    """L(W, b) of the equation above, exactly; a number."""
    c = w.shape[1]
    a = w.T @ w  # [i, j]: input i, output j
    # Where a = 0 the integrand is constant; a stands in for it, and the value is put right below.
    flat = a.abs() < 1e-9
    safe = torch.where(flat, torch.ones_like(a), a)
    high, low = (safe + b).relu(), b.relu().expand_as(a)
    square = torch.where(flat, low.square(), (high**3 - low**3) / (3 * safe))
    # integral of mu R(a mu + b)
    first = (high**3 - low**3) / (3 * safe**2) - b * (high**2 - low**2) / (2 * safe**2)
    first = torch.where(flat, low / 2, first)
    own = 1 / 3 - 2 * first.diagonal() + square.diagonal()
    return (own.sum() + square.sum() - square.diagonal().sum()) / c


@dataclass(frozen=True)
class Polygon:
    """The regular k-gon among c features: its loss, the length of its vectors, and biases on and off it."""

    k: int
    loss: float
    length: float
    bias: float
    bias_off: float

    def place(self, c: int) -> Polygons:
        angle = 2 * math.pi * torch.arange(self.k, dtype=torch.float64) / self.k
        w = torch.zeros(2, c, dtype=torch.float64)
        w[:, : self.k] = self.length * torch.stack([angle.cos(), angle.sin()])
        b = torch.full((c,), self.bias_off, dtype=torch.float64)
        b[: self.k] = self.bias
        return Polygons(w, b)


def regular_polygon(k: int, c: int) -> Polygon:
    """The best regular k-gon among c features: length and biases that minimise L. Raises InputError for k > c or k < 2.

    A feature off the polygon is answered by its bias alone: E mu / c = 1 / (2c), the mean of its strength.
    """
    from scipy.optimize import minimize

    if not 2 <= k <= c:
        raise InputError(f"a polygon among {c} features has 2 to {c} corners; {k} was given.")
    off = 1 / (2 * c)

    def loss(v: np.ndarray) -> float:
        return float(polygon_loss(*(p.detach() for p in Polygon(k, 0.0, v[0], v[1], off).place(c).parameters())))

    starts = [(length, bias) for length in (0.8, 1.1, 1.4) for bias in (-0.4, -0.1, 0.1)]
    best = min((minimize(loss, s, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12}) for s in starts),
               key=lambda r: r.fun)  # fmt: skip
    return Polygon(k, float(best.fun), float(best.x[0]), float(best.x[1]), off)


def corners(w: Tensor, least: float = 0.4) -> int:
    """How many features of W [2, c] stand out of the origin, by at least that length."""
    return int((w.norm(dim=0) >= least).sum())
