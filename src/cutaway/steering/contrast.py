"""What steering is to change: a contrast of next tokens, measured as log-odds at each prompt's end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.core.answers import one_token
from cutaway.model import Intervention, Model, plan
from cutaway.steering.make import batches

Floats = npt.NDArray[np.float64]
FEW = 6  # sets of interventions: below it, a plan costs more than it saves


@dataclass(frozen=True)
class Contrast:
    """log p(target tokens) - log p(against tokens), nats; without `against`, all other tokens."""

    target: tuple[int, ...]
    against: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.target:
            raise InputError("a contrast needs at least one target token.")
        if both := set(self.target) & set(self.against):
            raise InputError(f"tokens {sorted(both)} are on both sides of the contrast.")

    def of(self, logits: Tensor) -> Tensor:
        """[n, vocab] -> [n]."""
        logits = logits.float()
        up = logits[:, list(self.target)].logsumexp(-1)
        if self.against:
            return up - logits[:, list(self.against)].logsumexp(-1)
        rest = logits.clone()
        rest[:, list(self.target)] = -torch.inf
        return up - rest.logsumexp(-1)

    def describe(self, model: Model) -> str:
        names = [
            " ".join(t.strip() or repr(t) for t in model.token_strings(list(ids)))
            for ids in (self.target, self.against)
        ]
        return f"{names[0]}  against  {names[1] or 'all other tokens'}"


def contrast_of(model: Model, target: Sequence[str | int], against: Sequence[str | int] = ()) -> Contrast:
    """From words that are one token each (with a leading space or without) or ids. Raises InputError."""
    return Contrast(tuple(one_token(model, t) for t in target), tuple(one_token(model, t) for t in against))


def contrast_tokens(model: Model, from_: Sequence[Any], to: Sequence[Any], k: int = 5) -> Contrast:
    """The k next tokens whose mean probability after `to` exceeds that after `from_` most, against the reverse.

    Raises InputError where the two lists have the same next tokens: then nothing is there to steer between.
    """
    means = [torch.cat([ends(model, rows).softmax(-1) for rows in batches(model, p)]).mean(0) for p in (from_, to)]
    apart = means[1] - means[0]
    if float(apart.abs().sum()) / 2 < 0.01:
        raise InputError(
            "the next tokens after the two lists are the same (total variation below .01); name what to raise and what "
            "to lower with target and against."
        )
    up, down = apart.topk(k), (-apart).topk(k)
    # Tokens that carry a twentieth of the largest difference or more.
    target = [int(i) for i, v in zip(up.indices, up.values) if v > 0.05 * up.values[0] and v > 0]
    against = [int(i) for i, v in zip(down.indices, down.values) if v > 0.05 * down.values[0] and v > 0]
    return Contrast(tuple(target), tuple(against))


def ends(model: Model, rows: Sequence[Sequence[int]], interventions: Sequence[Intervention] = ()) -> Tensor:
    """Logits at each row's last token, [n, vocab], on the CPU."""
    return model.run([list(r) for r in rows], interventions=interventions).at("logits").float().cpu()


def log_odds(
    model: Model, prompts: Sequence[Any], contrast: Contrast, interventions: Sequence[Intervention] = ()
) -> Floats:
    """The contrast at each prompt's end, [n]."""
    found = [contrast.of(ends(model, rows, interventions)) for rows in batches(model, prompts)]
    return torch.cat(found).double().numpy()


def log_odds_each(
    model: Model, prompts: Sequence[Any], contrast: Contrast, plans: Sequence[Sequence[Intervention]]
) -> Floats:
    """The contrast at each prompt's end under each of several sets of interventions, [plans, n].

    Many share forwards: each goes on from the block that it changes, and only the prompts' ends are unembedded.
    """
    if len(plans) < FEW:
        return np.stack([log_odds(model, prompts, contrast, one) for one in plans]) if plans else np.zeros((0, 0))
    found = [plan(model, rows, plans, contrast.of).run(progress=False) for rows in batches(model, prompts)]
    return torch.cat(found, 1).double().cpu().numpy()


def side_effects(
    model: Model, rows: Sequence[Any], plans: Sequence[Sequence[Intervention]]
) -> tuple[Floats, Floats, Floats]:
    """What plans do to neutral text, nats a token.

    Gives (KL(unsteered || steered) [plans, rows], loss [plans, rows], unsteered loss [rows]). Costs a forward of the
    text a plan, and one.
    """
    kls: list[Tensor] = []
    losses: list[Tensor] = []
    plain: list[Tensor] = []
    for part in batches(model, rows, tokens=1024):
        run = model.run(part)
        before = run.logits.float().log_softmax(-1)
        p = before.exp()
        keep = run.mask.to(before.device)
        target, inner = run.tokens[:, 1:].to(before.device), (keep[:, 1:] & keep[:, :-1]).float()

        def loss(lp: Tensor, target: Tensor = target, inner: Tensor = inner) -> Tensor:
            each = -lp[:, :-1].gather(-1, target[..., None])[..., 0]
            return ((each * inner).sum(-1) / inner.sum(-1).clamp(min=1)).cpu()

        plain.append(loss(before))
        kl_part, loss_part = [], []
        for one in plans:
            after = model.run(part, interventions=one).logits.float().log_softmax(-1) if one else before
            kl = (p * (before - after)).sum(-1) * keep
            kl_part.append((kl.sum(-1) / keep.sum(-1)).clamp(min=0).cpu())
            loss_part.append(loss(after))
        kls.append(torch.stack(kl_part))
        losses.append(torch.stack(loss_part))
    return (
        torch.cat(kls, 1).double().numpy(),
        torch.cat(losses, 1).double().numpy(),
        torch.cat(plain).double().numpy(),
    )
