"""Gated: one path decides which features are active, another how much (Rajamanoharan et al. 2024, "Improving Dictionary
Learning with Gated Sparse Autoencoders"). The paths share W_enc:

    pi = W_enc x + b_gate     active where pi > 0
    a  = ReLU(exp(r_mag) (W_enc x) + b_mag) where active
    loss = |y - y_hat(a)|^2 + lambda sum_i ReLU(pi_i) |W_dec,i| + |y - y_hat_frozen(ReLU(pi))|^2

The frozen decoder gives the gate a gradient and takes none; nor do the lengths |W_dec,i|, which stand for the paper's
unit decoders. Tied in this way it equals a JumpReLU (the paper's
appendix), which is what is saved:  h = exp(r) W_enc x + b_mag,  theta = max(0, b_mag - exp(r) b_gate).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cutaway.features.activations import Chosen, Inference
from cutaway.features.architectures.base import At
from cutaway.features.architectures.levels import shared_level
from cutaway.features.architectures.relu import ReLU
from cutaway.features.settings import DictionarySettings
from cutaway.features.sparse import at_features

if TYPE_CHECKING:
    from cutaway.features.learner import Forward, Learner


class Gated(ReLU):
    saved_as: Inference = "jumprelu"
    recipe = MappingProxyType({"sparsity": 0.1, "adapt": 0.05, "pre_activation": 0.2})

    def parameters(self, settings: DictionarySettings, zeros: Tensor) -> dict[str, Tensor]:
        return {"r_mag": zeros.clone(), "b_mag": zeros.clone()}  # b_enc is b_gate

    def values(self, at: At, chosen: Chosen) -> Tensor:
        scale, b_mag, b_gate = (
            at_features(value, chosen.active)
            for value in (at.weight("r_mag").exp(), at.weight("b_mag"), at.weight("b_enc"))
        )
        return (scale * (chosen.pre - b_gate) + b_mag).relu()

    def penalty(self, at: At, chosen: Chosen, values: Tensor) -> Tensor | float:
        # The norms are units here, no way out: the frozen decoder has no gradient that would answer to theirs.
        norms = at_features(at.decoder_norms().detach(), chosen.active)
        return self.weight(at) * (chosen.pre.relu() * norms).sum() / chosen.active.n_tokens

    def also(self, learner: Learner, x: Tensor, y: Tensor, forward: Forward) -> Tensor | float:
        frozen = [learner.bias(layer, x[layer]).detach() for layer in range(learner.n_layers)]
        for layer, chosen in enumerate(forward.chosen):
            W_dec = learner.weight("W_dec", layer).detach()
            for m, part in zip(learner.writes(layer), learner.written(layer, chosen.pre.relu(), chosen.active, W_dec)):
                frozen[m] = frozen[m] + part
        total: Tensor | float = 0.0
        for layer in range(learner.n_layers):
            total = total + learner.reconstruction(y[layer], frozen[layer])
        return total

    @torch.no_grad()
    def calibrate(self, at: At, x: Tensor, l0: float) -> None:
        """As ReLU's, of the gate; a feature fires where its magnitude is positive, too: W x > -b_mag / exp(r_mag)."""
        if at.settings.adapt:
            unit = at.weight("W_enc").norm(dim=1).clamp_min(1e-12)
            gate = torch.minimum(at.weight("b_enc"), at.weight("b_mag") / at.weight("r_mag").exp())
            at.weight("b_enc").copy_(gate - shared_level(at, x, l0, gate, unit) * unit)

    def folded(self, at: At) -> tuple[Tensor, Tensor, Tensor | None]:
        scale = at.weight("r_mag").exp()
        threshold = (at.weight("b_mag") - scale * at.weight("b_enc")).clamp_min(0)
        return at.weight("W_enc") * scale[:, None], at.weight("b_mag"), torch.Tensor.clone(threshold)
