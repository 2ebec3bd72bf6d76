"""ReLU with an L_p penalty whose p falls from 1 (Karvonen et al. 2024, "Measuring Progress in Dictionary Learning").

    loss = |y - y_hat|^2 + lambda_s sum_i (a_i |W_dec,i|)^p_s

p goes down to `p_end` in `p_steps` stages, spread over the middle 80 % of the steps; at each, lambda is scaled so that
the penalty does not jump: lambda_{s+1} = lambda_s S_{p_s} / S_{p_{s+1}}, S the running mean of the sum. The power is
taken of (v + eps), less eps^p, so that its slope stays finite.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cutaway.features.activations import Chosen
from cutaway.features.architectures.base import At, adapted, adapting
from cutaway.features.architectures.relu import ReLU
from cutaway.features.settings import DictionarySettings
from cutaway.features.sparse import at_features

if TYPE_CHECKING:
    from cutaway.features.learner import Learner

EPS = 1e-3


def power(sizes: Tensor, p: float) -> Tensor:
    """sum of (v + eps)^p - eps^p; p = 1 gives the plain sum."""
    total: Tensor = ((sizes + EPS).pow(p) - EPS**p).sum()
    return total


class PAnneal(ReLU):
    # Each stage moves the L0, so that the weight must follow faster than L1's.
    recipe = MappingProxyType({**ReLU.recipe, "adapt": 0.1})

    def buffers(self, settings: DictionarySettings) -> dict[str, float]:
        return {**adapting(settings, always=True), "stage": 0.0, "now": 0.0, "next": 0.0}

    def exponent(self, settings: DictionarySettings, stage: int) -> float:
        return 1 + (settings.p_end - 1) * min(stage, settings.p_steps) / settings.p_steps

    def anneal(self, learner: Learner, done: float) -> None:
        s = learner.settings
        stage = int(max(0.0, min(1.0, (done - 0.1) / 0.8)) * s.p_steps)
        held = learner.buffers
        if stage > int(held["stage"][0]):
            seen = held["next"] > 0
            ratio = torch.where(seen, held["now"] / held["next"].clamp_min(1e-30), torch.ones_like(held["now"]))
            held["penalty"].mul_(ratio)
            held["stage"].fill_(stage)
            held["now"].zero_()
            held["next"].zero_()

    def weight(self, at: At) -> Tensor | float:
        s, base = at.settings, at.buffer("penalty").to(at.weight("W_enc").device)
        return base * min(1.0, at.learner.done / s.sparsity_warmup) if s.sparsity_warmup else base

    def penalty(self, at: At, chosen: Chosen, values: Tensor) -> Tensor | float:
        sizes = values * at_features(at.decoder_norms(), chosen.active)
        p = self.exponent(at.settings, int(at.buffer("stage")))
        return self.weight(at) * power(sizes, p) / chosen.active.n_tokens

    def count(self, at: At, chosen: Chosen, values: Tensor) -> None:
        sizes = values.detach() * at_features(at.decoder_norms().detach(), chosen.active)
        stage = int(at.buffer("stage"))
        for name, ahead in (("now", 0), ("next", 1)):
            found = power(sizes, self.exponent(at.settings, stage + ahead)) / chosen.active.n_tokens
            found = at.learner.pooled(found)
            held = at.buffer(name)
            held.copy_(found if float(held) == 0 else 0.9 * held + 0.1 * found.to(held))
        adapted(at, chosen, values)
