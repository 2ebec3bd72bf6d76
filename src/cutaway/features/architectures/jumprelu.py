"""JumpReLU with a learned threshold a feature (Rajamanoharan et al. 2024), and three ways to ask for sparsity.

    quadratic   lambda (L0 / l0 - 1)^2                                the L0 that is asked for
    l0          lambda L0 / l0                                        the paper's first loss
    tanh        lambda sum_i tanh(c |W_dec,i| a_i), mean over tokens  Anthropic, January 2025
The threshold's gradient is the straight-through estimate with a window of `bandwidth` (activations.py).
"""

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.features import activations as rules
from cutaway.features.activations import Chosen, Inference
from cutaway.features.architectures.base import Architecture, At, adapted, adapting
from cutaway.features.architectures.levels import firing_levels, shared_level
from cutaway.features.settings import DictionarySettings
from cutaway.features.sparse import at_features


class JumpReLU(Architecture):
    saved_as: Inference = "jumprelu"

    def parameters(self, settings: DictionarySettings, zeros: Tensor) -> dict[str, Tensor]:
        return {"log_threshold": zeros.clone()}

    def buffers(self, settings: DictionarySettings) -> dict[str, float]:
        return adapting(settings)

    @torch.no_grad()
    def begin(self, at: At, x: Tensor) -> None:
        at.weight("log_threshold").copy_(firing_levels(at, x).clamp_min(0.01).log())

    def choose(self, at: At, x: Tensor) -> tuple[Chosen, Tensor]:
        W_enc, b_enc = at.weight("W_enc"), at.weight("b_enc")
        theta = at.weight("log_threshold").exp()
        pre = rules.dense_pre(x, W_enc, b_enc - theta, bf16=at.bf16)
        return rules.over(pre, x, W_enc, b_enc, theta, band=at.settings.bandwidth / 2), pre

    def values(self, at: At, chosen: Chosen) -> Tensor:
        theta = at_features(at.weight("log_threshold").exp(), chosen.active)
        return rules.gated(chosen.pre, theta, at.settings.bandwidth)

    def theta(self, at: At) -> Tensor:
        return at.weight("log_threshold").exp().detach()

    def pre_offset(self, at: At, features: Tensor) -> Tensor | float:
        return self.theta(at)[features]

    def penalty(self, at: At, chosen: Chosen, values: Tensor) -> Tensor | float:
        s = at.settings
        weight = at.buffer("penalty").to(values.device) if s.adapt else s.sparsity
        if s.penalty == "tanh":
            size = values * at_features(at.decoder_norms(), chosen.active)
            return weight * torch.tanh(s.tanh_scale * size).sum() / chosen.active.n_tokens
        theta = at_features(at.weight("log_threshold").exp(), chosen.active)
        l0 = at.learner.pooled(rules.counted(chosen.pre, theta, s.bandwidth) / chosen.active.n_tokens)
        return weight * (l0 / at.k if s.penalty == "l0" else (l0 / at.k - 1).square())

    def count(self, at: At, chosen: Chosen, values: Tensor) -> None:
        if at.settings.penalty != "quadratic":
            adapted(at, chosen, values)

    @torch.no_grad()
    def calibrate(self, at: At, x: Tensor, l0: float) -> None:
        """All thresholds by one factor, where an L0 was asked for (of other penalties it is the outcome)."""
        if at.settings.penalty == "quadratic" or at.settings.adapt:
            factor = shared_level(at, x, l0, at.weight("b_enc"), self.theta(at)).clamp_min(1e-3)
            at.weight("log_threshold").add_(factor.log())

    def folded(self, at: At) -> tuple[Tensor, Tensor, Tensor | None]:
        return at.weight("W_enc"), at.weight("b_enc"), self.theta(at).clone()
