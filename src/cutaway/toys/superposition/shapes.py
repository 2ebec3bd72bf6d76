"""The geometry of least loss, from small networks: features that share no dimension do not disturb each other, so a
large network of equal features can be no better than its dimensions filled with the best small shape.

For k features in m dimensions with loss L, each dimension saves s = (k Var x - L) / (m Var x) variances of a feature
(1 where each dimension holds one feature alone, as in the linear model). The best shape at a density has the largest s.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.toys.superposition.data import Sparse, variance
from cutaway.toys.superposition.geometry import dimensionality, dimensions_per_feature
from cutaway.toys.superposition.networks import Networks, best_of, train

# features in dimensions: digon, triangle, tetrahedron, pentagon, antiprism, and larger ones up to four dimensions
SHAPES = ((1, 1), (2, 1), (3, 2), (4, 3), (5, 2), (8, 3), (12, 4))
RESTARTS = 4


@dataclass(frozen=True, eq=False)
class LeastLoss:
    """At each density: the shape (features, dimensions), what a dimension saves, its D*, and the D_i of what it holds
    (a network may hold fewer features than it was offered)."""

    shapes: tuple[tuple[int, int], ...]
    saved: Tensor
    overall: Tensor
    shares: tuple[Tensor, ...]


def least_loss(density: Tensor, *, seed: int = 0, steps: int = 900) -> LeastLoss:
    """The best of SHAPES at each `density` [density], four trainings a shape; what a dimension saves is good to half a
    per cent (30,000 samples). Cost: about half a minute for 16 densities."""
    each = density.repeat_interleave(RESTARTS)
    tried = []
    for k, m in SHAPES:
        data = Sparse(each[:, None].expand(-1, k))
        start = Networks.random(len(each), k, m, seed=seed + 100 * m + k)
        nets = train(start, data, torch.ones(1, k), steps=steps, batch=512, seed=seed)
        nets, loss = best_of(nets, nets.loss(data, torch.ones(1, k), samples=30_000), RESTARTS)
        one = variance(density)
        tried.append(((k * one - loss) / (m * one), nets))
    saved = torch.stack([s for s, _ in tried])  # [shape, density]
    best = saved.argmax(dim=0).tolist()
    overall, shares = [], []
    for i, which in enumerate(best):
        encoder = tried[which][1].encoder[i : i + 1]
        overall.append(dimensions_per_feature(encoder))
        shares.append(dimensionality(encoder)[0][encoder[0].norm(dim=0) > 0.5])
    return LeastLoss(tuple(SHAPES[w] for w in best), saved.max(dim=0).values, torch.cat(overall), tuple(shares))
