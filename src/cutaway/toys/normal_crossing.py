"""Normal crossings: L(w) = prod_i w_i^(2 k_i), to which every analytic loss resolves. lambda = min 1/(2 k_i), with as
multiplicity the number of i that reach it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cutaway.core import InputError


class NormalCrossing(nn.Module):
    """A loss for its own sake: each row of x [n] gets prod w_i^(2 k_i), [n]. w starts at 0, the crossing itself."""

    def __init__(self, k: Sequence[int]) -> None:
        super().__init__()
        if not k or any(one < 1 for one in k):
            raise InputError(f"a normal crossing has exponents k of at least 1; {list(k)} was given.")
        self.k = tuple(k)
        self.w = nn.Parameter(torch.zeros(len(k), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        value = torch.ones_like(x)
        for i, k in enumerate(self.k):  # powers by multiplication: their derivatives are right at zero
            for _ in range(2 * k):
                value = value * self.w[i]
        return value

    def data(self) -> Tensor:
        return torch.zeros(1, dtype=torch.float64)

    @property
    def truth(self) -> tuple[float, int]:
        """(lambda, multiplicity)."""
        return 1 / (2 * max(self.k)), self.k.count(max(self.k))


def itself(forward: nn.Module, x: Tensor) -> Tensor:
    """The loss of an item is the module's output."""
    out: Tensor = forward(x)
    return out


def crossing_llc(k: Sequence[int], n_beta: float, localisation: float, points: int | None = None) -> float:
    """What an LLC estimate is at w* = 0, by quadrature over log w (each quadrant alike): n beta E[L]. Up to three k."""
    if len(k) > 3:
        raise InputError(f"quadrature takes up to three weights; {len(k)} were given.")
    points = points or {1: 4000, 2: 1200, 3: 240}[len(k)]
    u = torch.linspace(math.log(1e-9), math.log(12 / math.sqrt(localisation)), points, dtype=torch.float64)
    log_f = torch.zeros((points,) * len(k), dtype=torch.float64)
    log_p = torch.zeros_like(log_f)
    for i, one in enumerate(k):
        shape = [1] * len(k)
        shape[i] = points
        log_f = log_f + 2 * one * u.view(shape)
        log_p = log_p + (u - localisation * (2 * u).exp() / 2).view(shape)
    energy = n_beta * log_f.exp()
    p = (log_p - energy).flatten().softmax(0)
    return float((p * energy.flatten()).sum())
