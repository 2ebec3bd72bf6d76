"""What a score would be without what it is meant to show: floors for explained variance, random directions, permuted
labels.

The two statistics to stand beside every dictionary score are the excess over a matched-covariance Gaussian (a
dictionary explains some variance of noise too) and the excess over what the token's identity explains (a dictionary of
token detectors explains that, in a random network as well).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cutaway.core import InputError


def matched_gaussian(x: Tensor, n: int | None = None, seed: int = 0) -> Tensor:
    """Gaussian rows [n, d] with the mean and covariance of the rows of x [rows, d] (n defaults to the rows of x).

    The floor of a dictionary is the explained variance of one trained, or applied, in the same way on these rows.
    """
    _check(x)
    generator = torch.Generator().manual_seed(seed)
    rows = x.shape[0]
    centre = x.double().mean(0)
    # A symmetric root of the covariance, so that a covariance of any rank will do.
    values, vectors = torch.linalg.eigh((x.double() - centre).T @ (x.double() - centre) / rows)
    root = vectors * values.clamp(min=0).sqrt()
    z = torch.randn(n or rows, x.shape[1], generator=generator, dtype=torch.float64).to(x.device)
    drawn: Tensor = centre + z @ root.T
    return drawn.to(x.dtype)


def explained_variance(
    x: Tensor, x_hat: Tensor, about: Literal["mean", "zero", "token"] = "mean", tokens: Tensor | None = None
) -> float:
    """1 - sum |x - x_hat|^2 / sum |x - c|^2 over the rows [n, d].

    about: c is the rows' mean (the default), zero (a widespread definition that flatters: the mean counts as
    explained), or "token", the mean of the *other* rows of the same token (`tokens` [n]); rows whose token occurs once
    are left out there. NaN where the denominator is zero.
    """
    _check(x)
    if x.shape != x_hat.shape:
        raise InputError(
            f"a reconstruction has its target's shape: {tuple(x.shape)} and {tuple(x_hat.shape)} were given."
        )
    x, x_hat = x.double(), x_hat.double()
    if about == "token":
        if tokens is None:
            raise InputError("explained variance about the token's mean needs `tokens` [n].")
        spread, seen = without_token(x, tokens)
        x, x_hat, spread = x[seen], x_hat[seen], spread[seen]
    elif about == "mean":
        spread = x - x.mean(0)
    elif about == "zero":
        spread = x
    else:
        raise InputError(f"explained variance is about 'mean', 'zero' or 'token'; {about!r} was given.")
    total = float((spread**2).sum())
    return 1 - float(((x - x_hat) ** 2).sum()) / total if total > 0 else float("nan")


def without_token(x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [n, d] less the mean of the other rows of the same token, and which rows have such others, [n] bool.

    Leaving the row itself out keeps rare tokens from explaining themselves.
    """
    _check(x)
    if tokens.shape != x.shape[:1]:
        raise InputError(f"one token a row: {tuple(x.shape)} rows and {tuple(tokens.shape)} tokens were given.")
    _, which, counts = torch.unique(tokens, return_inverse=True, return_counts=True)
    sums = torch.zeros(counts.shape[0], x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, which, x)
    others = (counts[which] - 1).to(x.dtype)[:, None]
    return x - (sums[which] - x) / others.clamp(min=1), counts[which] > 1


def random_directions(like: Tensor, seed: int = 0) -> Tensor:
    """Vectors [..., d] in uniformly random directions, each of the norm of its fellow in `like`."""
    drawn = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scaled: Tensor = (
        drawn.to(like.device) * (like.double().norm(dim=-1) / drawn.to(like.device).norm(dim=-1))[..., None]
    )
    return scaled.to(like.dtype)


def permuted(labels: ArrayLike, seed: int = 0, within: ArrayLike | None = None) -> NDArray[np.generic]:
    """The labels [n] in random order; `within` [n] keeps each label inside its group."""
    given = np.asarray(labels)
    rng = np.random.default_rng(seed)
    if within is None:
        return given[rng.permutation(given.shape[0])]
    groups = np.asarray(within)
    if groups.shape != given.shape[:1]:
        raise InputError(f"one group a label: {given.shape} labels and {groups.shape} groups were given.")
    out = given.copy()
    for group in np.unique(groups):
        (members,) = np.nonzero(groups == group)
        out[members] = given[rng.permutation(members)]
    return out


def _check(x: Tensor) -> None:
    if x.ndim != 2 or x.shape[0] == 0:
        raise InputError(f"activations are rows [n, d]; shape {tuple(x.shape)} was given.")
