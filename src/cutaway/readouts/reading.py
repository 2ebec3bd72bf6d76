"""One model read through a lens at every point: what each says next, and how far that is from what the model says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.model import Model
from cutaway.model.tokens import Batch
from cutaway.readouts.unembed import divergence, log_probabilities, unembedding

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Translate = Callable[[str, Tensor], Tensor]  # (address, x [n, d_model]) -> [n, d_model]


@dataclass(frozen=True, eq=False)
class Reading:
    """P points by n tokens (all real tokens of all rows, row after row). The last point is the model's own output."""

    points: tuple[str, ...]  # ends with "logits"
    row: Ints  # [n]
    position: Ints  # [n], counted in the row's own tokens
    last: Ints  # [rows]: which of the n is each row's last
    target: Ints  # [n]: the token whose rank and probability are given
    top: Ints  # [P, n, k]
    top_p: Floats  # [P, n, k]
    log_p: Floats  # [P, n]: of the target, nats
    rank: Ints  # [P, n]: of the target, 1 is first
    kl: Floats  # [P, n]: KL(final || read), nats
    unigram_agrees: Floats  # [n]: whether the mean of the other tokens' final distributions has the final top token
    unigram_log_p: Floats  # [n]: its log-probability of the target
    unigram_kl: Floats  # [n]

    @property
    def agrees(self) -> npt.NDArray[np.bool_]:
        """[P, n]: whether the top token read is the model's own."""
        return np.asarray(self.top[:, :, 0] == self.top[-1, :, 0])

    @property
    def depth(self) -> Ints:
        """[n]: the first point from which on the top token is the model's own (Belrose et al. 2023, after Baldock et
        al. 2021)."""
        agrees = self.agrees
        late = np.flip(np.cumprod(np.flip(agrees, 0), 0), 0)  # [P, n]: agrees here and at all later points
        return np.asarray(late.argmax(0), dtype=np.int64)


def read_lens(
    model: Model,
    batch: Batch,
    points: Sequence[str],
    *,
    translate: Translate | None = None,
    answers: Tensor | None = None,
    unigram: Tensor | None = None,
    top: int = 5,
) -> Reading:
    """Read `model` at `points` on a batch.

    answers: [rows] token ids, the targets at each row's last token; the targets elsewhere are the model's own top
    tokens. unigram: [vocab] log-probabilities; without, the mean of the final distributions at the other tokens.
    Costs one forward, and an unembedding of every token at every point, in blocks.
    """
    unembed = unembedding(model)
    with torch.no_grad():
        run = model.run(batch, read=points)
        keep = run.mask.to(run.logits.device)
        final = log_probabilities(run.logits[keep])  # [n, vocab]
        lengths = run.mask.sum(-1)
        last = lengths.cumsum(0) - 1
        target = final.argmax(-1)
        if answers is not None:
            target[last.to(target.device)] = answers.to(target)
        shape = (len(points) + 1, final.shape[0])
        top_ids, top_p = torch.zeros(*shape, top, dtype=torch.long), torch.zeros(*shape, top)
        log_p, kl = torch.zeros(shape), torch.zeros(shape)
        rank = torch.zeros(shape, dtype=torch.long)
        for index in range(len(points) + 1):
            x = None if index == len(points) else run[points[index]][keep]
            for part in unembed.blocks(final.shape[0], extra=3):
                if x is None:
                    lp = final[part]
                else:
                    h = x[part] if translate is None else translate(points[index], x[part])
                    lp = unembed.log_probabilities(h)
                found = lp.topk(top, -1)
                own = lp.gather(-1, target[part, None])
                top_ids[index, part], top_p[index, part] = found.indices.cpu(), found.values.exp().cpu()
                log_p[index, part] = own[:, 0].cpu()
                rank[index, part] = (lp > own).sum(-1).cpu() + 1
                kl[index, part] = divergence(final[part], lp).clamp(min=0).cpu()
        prior_top, prior_log_p, prior_kl = _unigram(final, target, unigram)
    return Reading(
        points=(*points, "logits"),
        row=np.repeat(np.arange(len(lengths)), lengths.numpy()),
        position=np.concatenate([np.arange(n) for n in lengths.tolist()]),
        last=last.numpy(),
        target=target.cpu().numpy(),
        top=top_ids.numpy(),
        top_p=top_p.double().numpy(),
        log_p=log_p.double().numpy(),
        rank=rank.numpy(),
        kl=kl.double().numpy(),
        unigram_agrees=prior_top,
        unigram_log_p=prior_log_p,
        unigram_kl=prior_kl,
    )


def _unigram(final: Tensor, target: Tensor, unigram: Tensor | None) -> tuple[Floats, Floats, Floats]:
    """What one distribution that reads nothing gets: does its top token agree, log p of the target, KL; each [n]."""
    n, vocab = final.shape
    total = final.exp().sum(0)
    agrees, log_p, kl = (torch.zeros(n) for _ in range(3))
    step = max(1, 8_000_000 // vocab)
    for start in range(0, n, step):
        part = slice(start, min(n, start + step))
        if unigram is not None:
            prior = unigram.to(final)[None].expand_as(final[part])
        elif n == 1:
            prior = torch.full_like(final[part], -float(np.log(vocab)))
        else:  # each token's own distribution left out
            prior = ((total - final[part].exp()).clamp(min=1e-12) / (n - 1)).log()
        agrees[part] = (prior.argmax(-1) == final[part].argmax(-1)).float().cpu()
        log_p[part] = prior.gather(-1, target[part, None])[:, 0].cpu()
        kl[part] = divergence(final[part], prior).clamp(min=0).cpu()
    return agrees.double().numpy(), log_p.double().numpy(), kl.double().numpy()
