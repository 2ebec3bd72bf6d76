"""BatchTopK: the n k largest positive pre-activations of a batch of n tokens (Bussmann et al. 2024).

At inference JumpReLU with one threshold a layer: in training the running mean of the smallest activation that passed,
at the end set on training rows.
"""

from __future__ import annotations

from torch import Tensor

from cutaway.features import activations as rules
from cutaway.features.activations import Chosen, Inference
from cutaway.features.architectures.base import Architecture, At
from cutaway.features.architectures.levels import shared_level


class BatchTopK(Architecture):
    saved_as: Inference = "jumprelu"

    def choose(self, at: At, x: Tensor) -> tuple[Chosen, Tensor]:
        W_enc, b_enc = at.weight("W_enc"), at.weight("b_enc")
        pre = rules.dense_pre(x, W_enc, b_enc, bf16=at.bf16)
        return rules.batch_topk(pre, x, W_enc, b_enc, at.k, float(at.learner.threshold[at.layer])), pre

    def choose_fixed(self, at: At, x: Tensor) -> Chosen:
        W_enc, b_enc = at.weight("W_enc"), at.weight("b_enc")
        theta = self.theta(at)
        pre = rules.dense_pre(x, W_enc, b_enc - theta, bf16=at.bf16)
        return rules.over(pre, x, W_enc, b_enc, theta)

    def theta(self, at: At) -> Tensor:
        b_enc = at.weight("b_enc")
        return at.learner.threshold[at.layer].to(b_enc.device).expand_as(b_enc)

    def count(self, at: At, chosen: Chosen, values: Tensor) -> None:
        if len(chosen.active):
            threshold = at.learner.threshold
            old, new = threshold[at.layer], chosen.lowest
            threshold[at.layer] = new if old == 0 else 0.98 * old + 0.02 * new

    def calibrate(self, at: At, x: Tensor, l0: float) -> None:
        at.learner.threshold[at.layer] = shared_level(at, x, l0, at.weight("b_enc")).clamp_min(0)

    def folded(self, at: At) -> tuple[Tensor, Tensor, Tensor | None]:
        return at.weight("W_enc"), at.weight("b_enc"), self.theta(at).clone()


class Matryoshka(BatchTopK):
    """BatchTopK whose prefixes of features each reconstruct alone (Bussmann et al. 2025).

    loss = mean over prefixes m of |y - b_dec - sum over i < m of a_i W_dec,i|^2
    """

    def bounds(self, features: int, groups: tuple[float, ...]) -> tuple[int, ...]:
        ends = sorted({max(1, min(features, round(share * features))) for share in (*groups, 1.0)})
        return tuple(ends)
