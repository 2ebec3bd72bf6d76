"""Matching pursuit: features are taken one after another, each from what the ones before left (Costa et al. 2025).

    r_0 = x - b_dec;   f_t = argmax_f D_f . r_t,   v_t = ReLU(D_f_t . r_t),   r_{t+1} = r_t - v_t D_f_t,   l0 times

D are the decoder rows at unit length; there is no encoder. A feature taken twice has the sum. The gradient goes through
all steps; which feature is taken is not differentiated. For SAEs alone. Cost a token: l0 products with D.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cutaway.features.activations import Chosen, Inference
from cutaway.features.architectures.base import Architecture, At
from cutaway.features.settings import DictionarySettings
from cutaway.features.sparse import Active


def pursue(residual: Tensor, D: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """[n, d], unit rows [F, d] -> features [n, steps] and values [n, steps], differentiable in both."""
    features, values = [], []
    for _ in range(steps):
        with torch.no_grad():
            best = (residual @ D.T).argmax(1)
        row = D[best]
        value = (residual * row).sum(-1).relu()
        residual = residual - value[:, None] * row
        features.append(best)
        values.append(value)
    return torch.stack(features, 1), torch.stack(values, 1)


def gathered(features: Tensor, values: Tensor, n_features: int) -> tuple[Active, Tensor]:
    """[n, steps] -> the distinct (token, feature) pairs, and their sums [nnz]."""
    n = features.shape[0]
    flat = (features + n_features * torch.arange(n, device=features.device)[:, None]).view(-1)
    pairs, place = torch.unique(flat, return_inverse=True)
    summed = values.new_zeros(len(pairs)).index_add(0, place, values.reshape(-1))
    token = torch.div(pairs, n_features, rounding_mode="floor")
    return Active.of(token, pairs - token * n_features, n, n_features), summed


class MatchingPursuit(Architecture):
    saved_as: Inference = "matching_pursuit"
    scale_free = False
    reads_pairs = False

    def choose(self, at: At, x: Tensor) -> tuple[Chosen, Tensor]:
        W_dec = at.weight("W_dec").flatten(1)
        D = W_dec / W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12)
        features, values = pursue(x - at.weight("b_dec"), D, at.k)
        active, summed = gathered(features, values, D.shape[0])
        return Chosen(active, summed / W_dec.norm(dim=1).clamp_min(1e-12)[active.features]), values.new_zeros(0, 0)

    def theta(self, at: At) -> Tensor:
        return torch.zeros(at.settings.features)

    def folded(self, at: At) -> tuple[Tensor, Tensor, Tensor | None]:
        W_dec = at.weight("W_dec").flatten(1)
        return W_dec / W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12), torch.zeros_like(W_dec[:, 0]), None

    def saved_fields(self, settings: DictionarySettings) -> dict[str, Any]:
        return {"k": settings.l0, "centred": True}
