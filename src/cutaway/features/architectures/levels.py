"""Where activity is a threshold's: the levels at which features begin to fire, so that the L0 is what is asked for."""

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.features.activations import above, dense_pre
from cutaway.features.architectures.base import At
from cutaway.features.sparse import encode_at

_BEGIN_ROWS, _BEGIN_FEATURES = 2048, 4096  # looked at before the first step, and at once
_PAIRS = 2**24  # (token, feature) pairs held at once when a level is looked for


@torch.no_grad()
def firing_levels(at: At, x: Tensor) -> Tensor:
    """[F]: the W_enc x that each feature exceeds at a share l0_start / F of the inputs [n, d_in], at most half."""
    s, some = at.settings, x[:_BEGIN_ROWS]
    share = min(0.5, (s.l0_start or 3 * s.l0) / s.features)
    rank = max(1, min(len(some), round((1 - share) * len(some))))
    parts = torch.split(at.weight("W_enc"), _BEGIN_FEATURES)
    return torch.cat([(some @ rows.T).kthvalue(rank, dim=0).values for rows in parts])


@torch.no_grad()
def shared_level(at: At, x: Tensor, l0: float, bias: Tensor, unit: Tensor | None = None) -> Tensor:
    """The level t, [], that (W_enc x + bias) / unit exceeds `l0` times a token, over inputs [n, d_in].

    bias, unit: [F]; unit (positive; by default 1) is the measure in which all features' levels are one. Exact: the
    pairs that may count are computed in full precision. Cost: one dense encoder product over the inputs; memory: 64 MB
    and twice the pairs that count.
    """
    unit = torch.ones_like(bias) if unit is None else unit
    W, b = at.weight("W_enc") / unit[:, None], bias / unit
    rows = max(1, _PAIRS // len(b))
    wanted = max(1, min(round(l0 * len(x)), len(x) * len(b)))
    more = 2.0  # so many times the pairs that are wanted are looked at
    while True:
        bound, found = None, []
        for part in torch.split(x, rows):
            pre = dense_pre(part, W, b, bf16=at.bf16)
            if bound is None:
                some = min(pre.numel(), round(more * wanted * len(part) / len(x)) + 1)
                bound = float(pre.flatten().topk(some, sorted=False).values.min())
                everything = some == pre.numel()
            found.append(encode_at(part, W, b, above(pre, -torch.inf if everything else bound)))
        values = torch.cat(found)
        if len(values) >= wanted:
            t = values.topk(wanted, sorted=False).values.min()
            return t - 1e-6 * t.abs()  # below the last that counts, by more than folding rounds
        more *= 4  # the first rows fire far more than the others
