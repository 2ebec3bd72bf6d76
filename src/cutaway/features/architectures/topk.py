"""TopK: the k largest positive pre-activations of each token (Gao et al. 2024). Nothing else is asked of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cutaway.features import activations as rules
from cutaway.features.activations import Chosen, Inference
from cutaway.features.architectures.base import Architecture, At
from cutaway.features.settings import DictionarySettings


class TopK(Architecture):
    saved_as: Inference = "topk"
    scale_free = False  # it compares activations with one another

    def choose(self, at: At, x: Tensor) -> tuple[Chosen, Tensor]:
        W_enc, b_enc = at.weight("W_enc"), at.weight("b_enc")
        pre = rules.dense_pre(x, W_enc, b_enc, bf16=at.bf16)
        return rules.topk(pre, x, W_enc, b_enc, at.k), pre

    def theta(self, at: At) -> Tensor:
        return torch.zeros_like(at.weight("b_enc"))

    def saved_fields(self, settings: DictionarySettings) -> dict[str, Any]:
        return {"k": settings.l0}
