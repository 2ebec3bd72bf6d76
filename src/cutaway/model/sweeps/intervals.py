"""Effects of many cells at once, with bootstrap intervals over the same resamples of items for all of them."""

from __future__ import annotations

import torch
from torch import Tensor

RESAMPLES = 2000


def effects(change: Tensor, gap: Tensor | None) -> Tensor:
    """The mean change [cell, item] over items, over the mean gap [item] where one is given -> [cell].

    Items where a cell has no value (NaN) are left out, of its gap too.
    """
    here = ~change.isnan()
    top = change.nan_to_num().sum(-1)
    bottom = here.to(change) @ gap if gap is not None else here.sum(-1).to(change)
    return top / bottom


def intervals(change: Tensor, gap: Tensor | None, seed: int, level: float = 0.95) -> tuple[Tensor, Tensor]:
    """(low, high), each [cell]: percentiles of `effects` over resamples of the items; NaN for one item."""
    draws = resampled(change, gap, seed)
    if draws is None:
        nothing = torch.full(change.shape[:-1], float("nan"), dtype=change.dtype)
        return nothing, nothing.clone()
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=draws.dtype)
    low, high = draws.nanquantile(tails, dim=0)
    return low, high


def resampled(change: Tensor, gap: Tensor | None, seed: int) -> Tensor | None:
    """[resample, cell]: `effects` of items drawn with replacement, the same for every cell; None for one item."""
    n = change.shape[-1]
    if n < 2:
        return None
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(n, (RESAMPLES, n), generator=generator)
    counts = torch.zeros(RESAMPLES, n, dtype=change.dtype)
    counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=change.dtype))
    here = (~change.isnan()).to(change)
    top = counts @ change.nan_to_num().T
    bottom = (counts * gap if gap is not None else counts) @ here.T
    return top / bottom
