"""Which features are active: ReLU, TopK, BatchTopK, JumpReLU; one rule a function, exact however the bound is guessed.

    ReLU       a = max(h, 0)
    JumpReLU   a = h 1[h > theta]                                  Rajamanoharan et al. 2024
    TopK       the k largest positive h of each token              Gao et al. 2024
    BatchTopK  the n k largest positive h of a batch of n tokens   Bussmann et al. 2024; at inference JumpReLU with one
               threshold, the running mean of the smallest activation that passed
Training chooses pairs through `choose`; a trained dictionary applies `activate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from cutaway.features.products import affine
from cutaway.features.sparse import Active, encode_at

_WIDE = 8192  # features, from which searching group maxima is the faster way

Inference = Literal["relu", "jumprelu", "topk", "matching_pursuit", "gated"]


def activate(pre: Tensor, rule: Inference, threshold: Tensor | None = None, k: int | None = None) -> Tensor:
    """Pre-activations [..., F] -> activations [..., F], as a trained dictionary applies them.

    threshold: [F] or a scalar, for "jumprelu"; k: for "topk".
    """
    if rule == "relu":
        return pre.relu()
    if rule == "jumprelu":
        assert threshold is not None
        return pre * (pre > threshold)
    assert k is not None
    top = pre.topk(min(k, pre.shape[-1]), dim=-1)
    return torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())


@dataclass(frozen=True)
class Chosen:
    """The pairs that a layer's rule chose, and their pre-activations [nnz] (differentiable)."""

    active: Active
    pre: Tensor

    @property
    def lowest(self) -> float:
        """The smallest chosen pre-activation; infinity where none was chosen."""
        return float(self.pre.detach().min()) if len(self.active) else float("inf")


def dense_pre(x: Tensor, W_enc: Tensor, bias: Tensor, *, bf16: bool) -> Tensor:
    """x W_enc^T + bias, [n, F], without gradient; in bf16 where it only serves to find candidates."""
    with torch.no_grad():
        if bf16:
            return affine(x.bfloat16(), W_enc.bfloat16(), bias.bfloat16())
        return affine(x, W_enc, bias)


def batch_topk(pre: Tensor, x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int, guess: float) -> Chosen:
    """The n k largest positive pre-activations of the batch. `guess` (the last threshold) only saves time."""
    wanted = k * pre.shape[0]
    bound = max(guess, 0.0) * 0.9
    while True:
        # A bf16 candidate may lie below its exact value; the margin keeps such pairs.
        candidates = above(pre, bound * (1 - _margin(pre)))
        if len(candidates) >= wanted or bound <= 0:
            break
        bound = bound / 2 if bound > 1e-3 else 0.0
    exact = _exact(x, W_enc, b_enc, candidates)
    keep = _largest(exact, wanted, at_least=bound)
    if keep is None:  # the margin was short of exact candidates: look again below
        return batch_topk(pre, x, W_enc, b_enc, k, guess=bound / 2 if bound > 1e-3 else 0.0)
    return _chosen(x, W_enc, b_enc, candidates, exact, keep)


def topk(pre: Tensor, x: Tensor, W_enc: Tensor, b_enc: Tensor, k: int) -> Chosen:
    """The k largest positive pre-activations of each token."""
    k = min(k, pre.shape[1])
    # A token's k-th largest group maximum is at most its k-th largest value, since k groups reach it.
    maxima = _group_maxima(pre)
    values = maxima if maxima.shape[1] >= k else pre
    bound = values.topk(k, dim=1).values[:, -1:]
    # `above` is strict, and the bound itself may be the k-th value.
    bound = torch.nextafter(bound - bound.abs() * 2 * _margin(pre), torch.full_like(bound, -torch.inf)).clamp_min(0)
    candidates = above(pre, bound, maxima)
    exact, token = _exact(x, W_enc, b_enc, candidates), candidates.tokens
    # Largest first within each token; then the first k of each.
    order = torch.argsort(exact, descending=True, stable=True)
    order = order[torch.argsort(token[order], stable=True)]
    rank = torch.arange(len(candidates), device=pre.device) - candidates.offsets[token[order]]
    keep = torch.zeros(len(candidates), dtype=torch.bool, device=pre.device)
    keep[order] = rank < k
    return _chosen(x, W_enc, b_enc, candidates, exact, keep & (exact > 0))


def over(pre_above: Tensor, x: Tensor, W_enc: Tensor, b_enc: Tensor, threshold: Tensor, band: float = 0.0) -> Chosen:
    """Pairs with pre > threshold - band. `pre_above` [n, F] is the dense pre-activation *less the threshold*.

    The band holds pairs just below the threshold, whose value is zero but which a JumpReLU's straight-through gradient
    needs.
    """
    margin = _margin(pre_above) * float(threshold.detach().abs().max()) * 4 if _margin(pre_above) else 0.0
    candidates = above(pre_above, -band - margin)
    exact = _exact(x, W_enc, b_enc, candidates)
    keep = exact > threshold.detach().index_select(0, candidates.features) - band
    return _chosen(x, W_enc, b_enc, candidates, exact, keep)


@torch.no_grad()
def above(pre: Tensor, bound: float | Tensor, maxima: Tensor | None = None) -> Active:
    """The pairs with pre > bound (a number, or [n, 1] a token). maxima: `_group_maxima(pre)`, where they are at hand.

    A plain search for non-zeros costs more than the product that made `pre`. Both ways here look at groups first:
    eight neighbours as one 64-bit word of the mask, or for wide layers the maximum of sixteen.
    """
    n, features = pre.shape
    if features >= _WIDE and features % 16 == 0:
        return _above_by_maxima(pre, bound, _group_maxima(pre) if maxima is None else maxima)
    mask = pre > bound
    if mask.numel() % 8:
        token, feature = mask.nonzero().unbind(1)
        return Active.of(token, feature, n, features)
    words = mask.view(-1).view(torch.int64).nonzero()[:, 0]
    member = mask.view(-1, 8).index_select(0, words).view(-1).nonzero()[:, 0]
    flat = words.index_select(0, member >> 3) * 8 + (member & 7)
    token = torch.div(flat, features, rounding_mode="floor")
    return Active.of(token, flat - token * features, n, features)


def _above_by_maxima(pre: Tensor, bound: float | Tensor, maxima: Tensor) -> Active:
    n, features = pre.shape
    groups = maxima.shape[1]
    size = features // groups
    hit = (maxima > bound).view(-1).nonzero()[:, 0]  # of [n, groups]
    token = torch.div(hit, groups, rounding_mode="floor")
    # Feature f lies in group f % groups: the strided layout lets the maximum run over contiguous memory.
    member = (hit - token * groups)[:, None] + groups * torch.arange(size, device=pre.device)
    value = pre.view(-1).index_select(0, ((token * features)[:, None] + member).view(-1)).view(-1, size)
    passes = value > (bound[token] if isinstance(bound, Tensor) else bound)
    pair = passes.view(-1).nonzero()[:, 0]
    feature, token = (
        member.view(-1).index_select(0, pair),
        token.index_select(0, torch.div(pair, size, rounding_mode="floor")),
    )
    # Pairs of a token come group by group; the order within a token does not matter.
    return Active.of(token, feature, n, features)


@torch.no_grad()
def _exact(x: Tensor, W_enc: Tensor, b_enc: Tensor, candidates: Active) -> Tensor:
    return encode_at(x, W_enc, b_enc, candidates)


def _chosen(x: Tensor, W_enc: Tensor, b_enc: Tensor, candidates: Active, exact: Tensor, keep: Tensor) -> Chosen:
    """Of the candidates and their values, those to keep."""
    active = candidates.kept(keep)
    return Chosen(active, encode_at(x, W_enc, b_enc, active, exact.index_select(0, keep.nonzero()[:, 0])))


def _group_maxima(pre: Tensor) -> Tensor:
    """[n, F] -> [n, F / size], size the largest of 16, 8, 4, 2, 1 that divides F."""
    n, features = pre.shape
    size = next(s for s in (16, 8, 4, 2, 1) if features % s == 0)
    return pre.view(n, size, features // size).amax(1)


def _largest(values: Tensor, wanted: int, at_least: float) -> Tensor | None:
    """A mask of the `wanted` largest positive values; None where fewer than that many reach `at_least` > 0."""
    positive = values > 0
    if int(positive.sum()) <= wanted:
        return positive if at_least <= 0 else None
    top = values.topk(wanted, sorted=False)
    if at_least > 0 and float(top.values.min()) < at_least:
        return None
    keep = torch.zeros_like(positive)
    keep[top.indices] = True
    return keep


def _margin(pre: Tensor) -> float:
    """The relative error of a pre-activation held in bf16 (7 bits), doubled for its rounded factors; 0 if exact."""
    return 2**-6 if pre.dtype == torch.bfloat16 else 0.0


class jumprelu(torch.autograd.Function):
    """a = h 1[h > theta], with the straight-through gradient of theta (Rajamanoharan et al. 2024):

    da/dh = 1[h > theta],   da/dtheta = -(theta / eps) rect((h - theta) / eps)
    """

    @staticmethod
    def forward(ctx, h: Tensor, theta: Tensor, eps: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(h, theta)
        ctx.eps = eps
        return h * (h > theta)

    @staticmethod
    def backward(ctx, g: Tensor):  # type: ignore[no-untyped-def]
        h, theta = ctx.saved_tensors
        near = ((h - theta).abs() < ctx.eps / 2).to(g)
        return g * (h > theta), -(theta / ctx.eps) * near * g, None


class count(torch.autograd.Function):
    """The number of active pairs, sum of 1[h > theta], with dcount/dtheta = -(1 / eps) rect((h - theta) / eps)."""

    @staticmethod
    def forward(ctx, h: Tensor, theta: Tensor, eps: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(h, theta)
        ctx.eps = eps
        return (h > theta).to(h).sum()

    @staticmethod
    def backward(ctx, g: Tensor):  # type: ignore[no-untyped-def]
        h, theta = ctx.saved_tensors
        near = ((h - theta).abs() < ctx.eps / 2).to(h)
        return None, -(1 / ctx.eps) * near * g, None


def gated(h: Tensor, theta: Tensor, eps: float) -> Tensor:
    """JumpReLU of pre-activations by thresholds, differentiable in both."""
    return cast(Tensor, jumprelu.apply(h, theta, eps))  # type: ignore[no-untyped-call]


def counted(h: Tensor, theta: Tensor, eps: float) -> Tensor:
    """The number of pairs over their thresholds, differentiable in the thresholds."""
    return cast(Tensor, count.apply(h, theta, eps))  # type: ignore[no-untyped-call]
