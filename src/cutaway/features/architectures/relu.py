"""ReLU with an L1 penalty weighted by decoder norms (Anthropic, "Update on how we train SAEs", April 2024).

loss = |y - y_hat|^2 + lambda sum_i a_i |W_dec,i|,   lambda rising from 0 over the first steps
"""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor

from cutaway.features import activations as rules
from cutaway.features.activations import Chosen, Inference
from cutaway.features.architectures.base import Architecture, At, adapted, adapting
from cutaway.features.architectures.levels import firing_levels, shared_level
from cutaway.features.settings import DictionarySettings
from cutaway.features.sparse import at_features


class ReLU(Architecture):
    saved_as: Inference = "relu"
    # The weight moves until the L0 is what was asked for. AuxK gives a feature whose h is nowhere positive no gradient;
    # the pre-activation loss does.
    recipe = MappingProxyType({"sparsity": 0.05, "adapt": 0.05, "pre_activation": 0.2})

    def buffers(self, settings: DictionarySettings) -> dict[str, float]:
        return adapting(settings)

    @torch.no_grad()
    def begin(self, at: At, x: Tensor) -> None:
        at.weight("b_enc").copy_(-firing_levels(at, x))

    def choose(self, at: At, x: Tensor) -> tuple[Chosen, Tensor]:
        W_enc, b_enc = at.weight("W_enc"), at.weight("b_enc")
        pre = rules.dense_pre(x, W_enc, b_enc, bf16=at.bf16)
        return rules.over(pre, x, W_enc, b_enc, torch.zeros_like(b_enc)), pre

    def theta(self, at: At) -> Tensor:
        return torch.zeros_like(at.weight("b_enc"))

    def weight(self, at: At) -> Tensor | float:
        """lambda in this step."""
        s = at.settings
        base: Tensor | float = at.buffer("penalty").to(at.weight("W_enc").device) if s.adapt else s.sparsity
        return base * min(1.0, at.learner.done / s.sparsity_warmup) if s.sparsity_warmup else base

    def penalty(self, at: At, chosen: Chosen, values: Tensor) -> Tensor | float:
        norms = at.decoder_norms()
        return self.weight(at) * (values * at_features(norms, chosen.active)).sum() / chosen.active.n_tokens

    def count(self, at: At, chosen: Chosen, values: Tensor) -> None:
        adapted(at, chosen, values)

    @torch.no_grad()
    def calibrate(self, at: At, x: Tensor, l0: float) -> None:
        """Every b_enc down by t |W_enc,f|, the same t for all: what remains for the weight of the penalty to do."""
        if at.settings.adapt:
            unit = at.weight("W_enc").norm(dim=1).clamp_min(1e-12)
            at.weight("b_enc").sub_(shared_level(at, x, l0, at.weight("b_enc"), unit) * unit)
