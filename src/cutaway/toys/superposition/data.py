"""What the toy networks see: features that are mostly zero, drawn from a seed or integrated over exactly.

Source: Elhage et al., Toy Models of Superposition (2022), "Demonstrating superposition": each x_i is 0 with probability
S_i and otherwise uniform on [0, 1]; I_i is its importance; p_i = 1 - S_i is called its density here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Protocol

import numpy as np
import torch

from cutaway.core import InputError

MOMENT_1, MOMENT_2 = 1 / 2, 1 / 3  # of the uniform distribution on [0, 1]


def variance(density: torch.Tensor) -> torch.Tensor:
    """Var x = p/3 - p^2/4 of a feature of density p, any shape."""
    return density * MOMENT_2 - (density * MOMENT_1) ** 2


class Data(Protocol):
    """Where inputs come from. All instances see the same draws of uniforms, each cut at its own density."""

    def draw(self, batch: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Inputs [instance or 1, batch, n] and their weights [instance or 1, batch] that sum to one (None: equal)."""
        ...


@dataclass(frozen=True, eq=False)
class Sparse:
    """Independent features of `density` [instance, n]; on [-1, 1] where `signed`."""

    density: torch.Tensor
    signed: bool = False

    def draw(self, batch: int, generator: torch.Generator) -> tuple[torch.Tensor, None]:
        n = self.density.shape[-1]
        size = torch.rand(batch, n, generator=generator)
        if self.signed:
            size = size * 2 - 1
        on = torch.rand(batch, n, generator=generator)
        return size * (on < self.density[:, None]), None


@dataclass(frozen=True, eq=False)
class Grouped:
    """Features in groups of `size`, neighbours in the order of features; `density` [instance, groups] is the group's.

    "correlated": the members of a group are zero together; "anticorrelated": at most one of them is on, each as often.
    Source: Elhage et al. 2022, "Correlated and Anticorrelated Feature Pairs".
    """

    density: torch.Tensor
    size: int
    kind: str

    def __post_init__(self) -> None:
        if self.kind not in ("correlated", "anticorrelated"):
            raise InputError(f"groups are correlated or anticorrelated; {self.kind!r} was given.")

    def draw(self, batch: int, generator: torch.Generator) -> tuple[torch.Tensor, None]:
        instances, groups = self.density.shape
        size = torch.rand(batch, groups, self.size, generator=generator)
        on = torch.rand(batch, groups, 1, generator=generator) < self.density[:, None, :, None]
        if self.kind == "anticorrelated":
            chosen = torch.rand(batch, groups, 1, generator=generator).mul(self.size).long()
            on = on & (chosen == torch.arange(self.size))
        return (size * on).reshape(instances, batch, groups * self.size), None


@dataclass(frozen=True, eq=False)
class Exact:
    """The expectation itself: every subset of at most `at_most` active features, Gauss-Legendre nodes in each.

    The points are the same for all instances; their weights [instance, points] carry the densities. What is left out
    (more features active at once) is at most `left_out` [instance], and the weights are scaled to sum to one.
    """

    points: torch.Tensor
    weights: torch.Tensor
    left_out: torch.Tensor

    @classmethod
    def of(cls, density: torch.Tensor, at_most: int | None = None, nodes: Sequence[int] = (24, 16, 10, 6)) -> Exact:
        """From densities [instance, n]; `nodes[k - 1]` a feature where k are active. Cost: sum over k of
        C(n, k) * nodes[k-1]^k points; the kinks of ReLU leave an error near 1e-4 of the loss."""
        n = density.shape[1]
        points, weights = [], []
        p = density.double()
        for k in range(0, (n if at_most is None else min(n, at_most)) + 1):
            where, area = np.polynomial.legendre.leggauss(nodes[min(k, len(nodes)) - 1] if k else 1)
            where, area = (where + 1) / 2, area / 2
            grid = np.array(list(product(where, repeat=k))).reshape(len(where) ** k if k else 1, k)
            cell = torch.tensor([np.prod(c) for c in product(area, repeat=k)]).double()
            for active in combinations(range(n), k):
                x = torch.zeros(len(grid), n)
                x[:, list(active)] = torch.tensor(grid, dtype=torch.float32)
                on = torch.zeros(n, dtype=torch.bool)
                on[list(active)] = True
                chance = torch.where(on, p, 1 - p).prod(dim=1)  # [instance]
                points.append(x)
                weights.append(chance[:, None] * cell)
        all_weights = torch.cat(weights, dim=1)
        total = all_weights.sum(dim=1, keepdim=True)
        return cls(torch.cat(points)[None], (all_weights / total).float(), (1 - total[:, 0]).clamp_min(0).float())

    def draw(self, batch: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """All points; `batch` and `generator` change nothing."""
        del batch, generator
        return self.points, self.weights


def logspace(low: float, high: float, count: int) -> torch.Tensor:
    """[count] numbers from `low` to `high` in equal ratios."""
    return torch.tensor(np.geomspace(low, high, count), dtype=torch.float32)
