"""The Hessian of a loss without forming it: its largest eigenvalue, its trace, and the LLC of a quadratic."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cutaway.core import Estimate
from cutaway.development.loss import Loss
from cutaway.evidence import bootstrap


def hessian_vector(loss: Loss, w: Tensor, v: Tensor, *batch: Tensor) -> Tensor:
    """H v at w, both [d], of the mean loss of a batch (all data if none). Costs two backwards."""
    with torch.enable_grad():
        leaf = w.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss.mean(leaf, *(batch or loss.data)), leaf, create_graph=True)
        if not slope.requires_grad:  # linear in w: no curvature
            return torch.zeros_like(w)
        (found,) = torch.autograd.grad(slope, leaf, v)
    return found.detach()


def hessian(loss: Loss, w: Tensor | None = None) -> Tensor:
    """The Hessian [d, d] on all data. For tiny cases: d Hessian-vector products."""
    at = loss.origin if w is None else w
    return torch.stack([hessian_vector(loss, at, row) for row in torch.eye(loss.d, dtype=at.dtype, device=at.device)])


def largest_eigenvalue(
    loss: Loss,
    w: Tensor | None = None,
    *,
    items: int = 256,
    iterations: int = 30,
    scale: Tensor | None = None,
    seed: int = 0,
) -> float:
    """The Hessian's largest |eigenvalue| at w by power iteration, on `items` items; of G^1/2 H G^1/2 with `scale` G.

    Stops when it changes by less than 1 %. Costs up to `iterations` Hessian-vector products.
    """
    at = loss.origin if w is None else w
    generator = torch.Generator().manual_seed(seed)
    batch = loss.batch(_rows(loss, items, generator))
    root = torch.ones_like(at) if scale is None else scale.sqrt()
    v = torch.randn(loss.d, generator=generator, dtype=at.dtype).to(at.device)
    value = 0.0
    for _ in range(iterations):
        norm = float(v.norm())
        if norm == 0 or not np.isfinite(norm):
            break
        v = root * hessian_vector(loss, at, root * v / norm, *batch)
        new = float(v.norm())
        if abs(new - value) <= 0.01 * new:
            return new
        value = new
    return value


def hessian_trace(
    loss: Loss, w: Tensor | None = None, *, probes: int = 32, items: int = 256, seed: int = 0
) -> Estimate:
    """Tr H at w: the mean of v.Hv over random signs v (Hutchinson 1989), with a bootstrap interval over probes.

    The interval is about the probes, not about the `items` chosen. Costs `probes` Hessian-vector products.
    """
    at = loss.origin if w is None else w
    generator = torch.Generator().manual_seed(seed)
    batch = loss.batch(_rows(loss, items, generator))
    found = []
    for _ in range(probes):
        signs = torch.randint(0, 2, (loss.d,), generator=generator).to(at) * 2 - 1
        found.append(float(signs @ hessian_vector(loss, at, signs, *batch)))
    return bootstrap(found, name="Hessian trace", over="probes", seed=seed)


def quadratic_llc(eigenvalues: ArrayLike, n_beta: float, localisation: float, eps: float = 0.0) -> float:
    """What an estimate gives where L is quadratic with these curvatures h_i: with k_i = n beta h_i + gamma,

        lambda_hat = 1/2 sum_i n beta h_i / (k_i (1 - eps k_i / 4))

    d/2 as n beta grows; the last factor is SGLD's stationary variance at step eps.
    """
    h = np.asarray(eigenvalues, dtype=np.float64)
    k = n_beta * h + localisation
    return float(0.5 * (n_beta * h / (k * (1 - eps * k / 4))).sum())


def _rows(loss: Loss, items: int, generator: torch.Generator) -> Tensor:
    """At most `items` rows, all of them in order where they are fewer."""
    if loss.n <= items:
        return torch.arange(loss.n)
    return torch.randperm(loss.n, generator=generator)[:items]
