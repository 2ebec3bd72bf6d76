"""The last phase: a dictionary trained through the replacement model, whose MLPs it has all taken over.

Errors of one layer move the inputs of the next. So a share of the steps ends with the loss

    loss on the true inputs (learner.py)  +  kl  * KL(model || replacement model), a token
                                          +  own * error of y_hat on the replacement model's inputs against the true y

whose gradient flows through attention, norms and all later layers into every dictionary feature. In the replaced pass
features fire as they will in use (JumpReLU with the running threshold); the true pass keeps L0 where it was asked for.
Published practice: end-to-end SAEs (Braun et al. 2024), KL fine-tuning at the end of training (Karvonen 2025).
Cost a token: two forwards and one backward of the model, two passes of the dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.features.learner import Learner, Step
from cutaway.features.sites import Sites
from cutaway.features.stream import kept_positions
from cutaway.model.parameters import without_gradients


@dataclass(frozen=True)
class Truth:
    """The model's own pass over rows: log-probabilities [kept tokens, vocab], x and y [layers, tokens, d] and which."""

    log_probs: Tensor
    x: Tensor
    y: Tensor
    kept: Tensor


@torch.no_grad()
def truth(sites: Sites, rows: Tensor, first_position: bool) -> Truth:
    """One forward of rows [rows, position] (-1 pads)."""
    kept = kept_positions(rows, first_position).to(sites.device)
    ids = rows.long().clamp_min(0).to(sites.device)
    run = sites.model.run(ids, sites.addresses)
    x, y = sites.stacked(run)
    return Truth(run.logits[kept].float().log_softmax(-1), x[:, kept].float(), y[:, kept].float(), kept)


def finetune_step(learner: Learner, sites: Sites, rows: Tensor, true: Truth, lr: float) -> tuple[Step, float]:
    """One Adam step; the numbers of the true pass, and the KL in nats a token."""
    settings = learner.settings
    x, y = learner.normal.inputs(true.x), learner.normal.outputs(true.y)
    loss, forward = learner.loss(x, y)
    with without_gradients(sites.model.hf):
        logits, errors = replaced_pass(learner, sites, rows, true, y)
    kl = (true.log_probs.exp() * (true.log_probs - logits[true.kept].float().log_softmax(-1))).sum(-1).mean()
    learner.update(loss + settings.kl * kl + settings.own * errors, lr)
    learner.count(forward)
    return learner.report(float(loss.detach()), y, forward), float(kl.detach())


def replaced_pass(learner: Learner, sites: Sites, rows: Tensor, true: Truth, y: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [rows, position, vocab] with every MLP replaced; the error against the true outputs, summed over layers.

    Positions that training leaves out keep the model's own MLP.
    """
    parts: dict[int, list[Tensor]] = {layer: [] for layer in range(learner.n_layers)}
    errors: list[Tensor] = []
    normal = learner.normal

    def substitute(layer: int, x: Tensor, own: Tensor) -> Tensor:
        here = normal.inputs(x[true.kept], layer)
        chosen = learner.choose_fixed(layer, here)
        for m, part in zip(learner.writes(layer), learner.written(layer, chosen.pre, chosen.active)):
            parts[m].append(part)
        y_hat = learner.bias(layer, here)
        for part in parts.pop(layer):
            y_hat = y_hat + part
        errors.append(learner.reconstruction(y[layer], y_hat))
        return own.detach().index_put(
            (true.kept,), (y_hat * normal.y_scale[layer] + normal.y_mean[layer]).to(own.dtype)
        )

    logits = sites.replaced(rows.long().clamp_min(0), substitute, keep_graph=True)
    return logits, torch.stack(errors).sum()
