"""What is done for features that no longer fire: AuxK, the pre-activation loss, resampling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cutaway.features.sparse import Active, encode_at

if TYPE_CHECKING:
    from cutaway.features.learner import Forward, Learner


def revive(learner: Learner, x: Tensor, y: Tensor, forward: Forward) -> Tensor | float:
    """The terms of the loss that reach dead features, x and y normalised.

    AuxK (Gao et al. 2024): the dead features with the largest h model what is left of y; the target is detached, so
    only they learn from it, encoders included. Pre-activation loss: ReLU(theta - h) |W_dec| brings them up.
    """
    total: Tensor | float = 0.0
    if not learner.architecture.reads_pairs:
        return total
    settings = learner.settings
    parts: dict[int, list[Tensor]] = {m: [] for m in range(learner.n_layers)}
    for layer in range(learner.n_layers):
        dead = (learner.since_fired[layer] > settings.dead_after).nonzero()[:, 0]
        if not learner.anywhere(len(dead)):
            continue
        at = learner.at(layer)
        W_enc, b_enc = at.weight("W_enc"), at.weight("b_enc")
        if settings.aux:
            h = learner.dense_pre[layer][:, dead] + learner.architecture.pre_offset(at, dead)
            top = h.topk(min(settings.aux_k, len(dead)), dim=1)
            n, k = top.indices.shape
            tokens = torch.arange(n, device=x.device).repeat_interleave(k)
            active = Active.of(tokens, dead[top.indices].view(-1), n, W_enc.shape[0]).kept(
                learner.among_largest(top.values, settings.aux_k).view(-1)
            )
            values = encode_at(x[layer], W_enc, b_enc, active).relu()
            for m, part in zip(learner.writes(layer), learner.written(layer, values, active)):
                parts[m].append(part)
        if settings.pre_activation:
            h = torch.addmm(b_enc[dead], x[layer], W_enc[dead].T)
            short = (learner.architecture.theta(at)[dead] - h).relu()
            norms = at.weight("W_dec")[dead].flatten(1).norm(dim=1).detach()
            total = total + settings.pre_activation * (short * norms).sum(1).mean()
    for m, written in parts.items():
        if written:
            left = (y[m] - forward.y_hat[m]).detach()
            total = total + settings.aux * ((left - sum(written)).square().sum(-1) * learner.token_weight(y[m])).mean()
    return total


@torch.no_grad()
def resample(learner: Learner, x: Tensor, y: Tensor, forward: Forward, step: int) -> None:
    """Features that did not fire for `dead_after` tokens start anew (Bricken et al. 2023): encoders read the direction
    of a token drawn with probability ~ (its loss)^2, at a fifth of the mean encoder length, decoders write it; their
    moments in Adam are zeroed. Drawn from (seed, step, layer): a resumed run draws the same."""
    settings = learner.settings
    for layer in range(learner.n_layers):
        dead = (learner.since_fired[layer] > settings.dead_after).nonzero()[:, 0]
        if len(dead) == 0:
            continue
        left = y[layer] - forward.y_hat[layer].detach()
        chance = (left.square().sum(-1) * learner.token_weight(y[layer])).square().double()
        if not bool(chance.sum() > 0):
            continue
        seed = int(np.random.SeedSequence([settings.seed, step, layer]).generate_state(1, np.uint64)[0] >> np.uint64(1))
        generator = torch.Generator().manual_seed(seed)
        token = torch.multinomial(chance.cpu(), len(dead), replacement=True, generator=generator).to(x.device)
        W_dec = learner.weight("W_dec", layer)
        living = W_dec.flatten(1).norm(dim=1).mean()
        written = torch.zeros_like(W_dec[dead])
        written[:, 0] = left[token] / left[token].norm(dim=1, keepdim=True).clamp_min(1e-12)
        length = 1.0 if settings.decoder == "unit" else living
        new = {"W_dec": written * length}
        if learner.architecture.reads_pairs:
            W_enc = learner.weight("W_enc", layer)
            read = x[layer][token] / x[layer][token].norm(dim=1, keepdim=True).clamp_min(1e-12)
            new |= {"W_enc": read * 0.2 * W_enc.norm(dim=1).mean(), "b_enc": torch.zeros_like(dead).to(W_enc)}
        for name, value in new.items():
            learner.replace_rows(name, layer, dead, value)
        learner.since_fired[layer, dead] = 0
