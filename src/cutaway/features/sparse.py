"""The sparse path: which features are active at which token, and products that touch those entries alone.

    dense   pre = x W_enc^T + b_enc                       one product; in bf16 where it only serves to choose
    choose  the active set (activations.py)               [nnz] (token, feature) pairs
    sparse  a = x_t . W_enc[f] + b_enc[f]                 at the pairs, in full precision
            y_t = sum over active f of a_tf W_dec[f]      gathered rows

and back: dL/da = W_dec[f] . g_t, dW_dec[f] = sum_t a_tf g_t, dW_enc[f] = sum_t (dL/da)_tf x_t, each over the pairs.
Products with a sparse left factor are `embedding_bag` (one bag a row), those that fill a sparse pattern are
`sampled_addmm`; on CUDA, with Triton installed, both are kernels (triton_kernels.py). Cost a pair: 2 d multiply-adds
forward, 4 d backward; dense training pays F / k times as much.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, cast

import torch
from torch import Tensor

_GATHER_ROWS = 4096  # of the fallback without `sampled_addmm`: bounds its memory


@dataclass(frozen=True, eq=False)
class Active:
    """The active (token, feature) pairs of one layer, ordered by token.

    `offsets` [n_tokens + 1]: pairs of token t lie at offsets[t] : offsets[t + 1]; `features` [nnz].
    """

    offsets: Tensor
    features: Tensor
    n_features: int

    @classmethod
    def of(cls, tokens: Tensor, features: Tensor, n_tokens: int, n_features: int) -> Active:
        """From pairs ordered by token."""
        offsets = torch.zeros(n_tokens + 1, dtype=torch.long, device=tokens.device)
        torch.cumsum(torch.bincount(tokens, minlength=n_tokens), 0, out=offsets[1:])
        active = cls(offsets, features, n_features)
        active.__dict__["tokens"] = tokens
        return active

    @property
    def n_tokens(self) -> int:
        return self.offsets.shape[0] - 1

    def __len__(self) -> int:
        return self.features.shape[0]

    @cached_property
    def tokens(self) -> Tensor:
        """[nnz], ascending."""
        return torch.repeat_interleave(torch.arange(self.n_tokens, device=self.offsets.device), self.offsets.diff())

    @cached_property
    def by_feature(self) -> tuple[Tensor, Tensor, Tensor]:
        """The transpose: the order that sorts pairs by feature [nnz], their tokens [nnz], offsets [n_features + 1]."""
        # 32-bit keys sort twice as fast.
        order = torch.sort(self.features.int(), stable=True).indices
        offsets = torch.zeros(self.n_features + 1, dtype=torch.long, device=order.device)
        torch.cumsum(torch.bincount(self.features, minlength=self.n_features), 0, out=offsets[1:])
        return order, self.tokens.index_select(0, order), offsets

    def kept(self, keep: Tensor) -> Active:
        """The pairs where `keep` [nnz] is true."""
        at = keep.nonzero()[:, 0]
        return Active.of(
            self.tokens.index_select(0, at), self.features.index_select(0, at), self.n_tokens, self.n_features
        )

    def dense(self, values: Tensor) -> Tensor:
        """Values at the pairs [nnz] -> [n_tokens, n_features]."""
        out = values.new_zeros(self.n_tokens, self.n_features)
        out[self.tokens, self.features] = values
        return out


def encode_at(x: Tensor, W_enc: Tensor, b_enc: Tensor, active: Active, known: Tensor | None = None) -> Tensor:
    """Pre-activations at the active pairs, [nnz]: x [n, d] . W_enc[f] [d] + b_enc[f]. Differentiable in all three.

    known: these values, where they have been computed already, so that only gradients are left to do.
    """
    return cast(Tensor, _EncodeAt.apply(x, W_enc, b_enc, active, known))  # type: ignore[no-untyped-call]


def decode(values: Tensor, W_dec: Tensor, active: Active) -> Tensor:
    """[nnz], [F, m] -> [n, m]: sum over a token's active features of value times decoder row. Differentiable."""
    return cast(Tensor, _Decode.apply(values, W_dec, active))  # type: ignore[no-untyped-call]


def at_features(vector: Tensor, active: Active) -> Tensor:
    """A value per feature [F] -> its value at the pairs [nnz]. Differentiable."""
    return cast(Tensor, _AtFeatures.apply(vector, active))  # type: ignore[no-untyped-call]


class _AtFeatures(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vector: Tensor, active: Active) -> Tensor:
        ctx.active = active
        return vector.index_select(0, active.features)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return feature_sums(grads[0].contiguous(), ctx.active), None


class _EncodeAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, W_enc: Tensor, b_enc: Tensor, active: Active, known: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, W_enc)
        ctx.active = active
        if known is not None:
            return known.clone()
        return sampled(x, W_enc, active) + b_enc.index_select(0, active.features)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = grads
        x, W_enc = ctx.saved_tensors
        need_x, need_w, need_b, *_ = ctx.needs_input_grad
        dx = times(g, W_enc, ctx.active) if need_x else None
        dw = transpose_times(g, x, ctx.active) if need_w else None
        db = feature_sums(g, ctx.active) if need_b else None
        return dx, dw, db, None, None


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, W_dec: Tensor, active: Active) -> Tensor:
        ctx.save_for_backward(values, W_dec)
        ctx.active = active
        return times(values, W_dec, active)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        g = grads[0].contiguous()
        values, W_dec = ctx.saved_tensors
        need_values, need_w, _ = ctx.needs_input_grad
        dvalues = sampled(g, W_dec, ctx.active) if need_values else None
        dw = transpose_times(values, g, ctx.active) if need_w else None
        return dvalues, dw, None


@torch.no_grad()
def times(values: Tensor, matrix: Tensor, active: Active) -> Tensor:
    """A @ matrix, A sparse [n, F] with `values` at the pairs: [F, m] -> [n, m]."""
    return _bags(active.features, active.offsets, values, matrix)


@torch.no_grad()
def transpose_times(values: Tensor, matrix: Tensor, active: Active) -> Tensor:
    """A^T @ matrix: [n, m] -> [F, m]. Rows of features that are nowhere active are zero."""
    order, tokens, offsets = active.by_feature
    return _bags(tokens, offsets, values.index_select(0, order), matrix)


@torch.no_grad()
def feature_sums(values: Tensor, active: Active) -> Tensor:
    """A^T 1: [nnz] -> [F]. Summed in the order of the transpose, so that it is the same on every run."""
    order, _, offsets = active.by_feature
    return _bags(torch.zeros_like(order), offsets, values.index_select(0, order), values.new_ones(1, 1))[:, 0]


@torch.no_grad()
def sampled(left: Tensor, right: Tensor, active: Active) -> Tensor:
    """left[t] . right[f] at the pairs: [n, m], [F, m] -> [nnz]."""
    if (kernels := _kernels(left)) is not None:
        return cast(Tensor, kernels.sampled(left, right, active.tokens, active.features))
    if left.device.type in ("cpu", "cuda") and len(active):
        pattern = _csr(active, left)
        filled: Tensor = torch.sparse.sampled_addmm(pattern, left.contiguous(), right.t(), beta=0.0)
        return filled.values()
    out = left.new_empty(len(active))
    for start in range(0, len(active), _GATHER_ROWS):
        part = slice(start, start + _GATHER_ROWS)
        out[part] = torch.linalg.vecdot(left[active.tokens[part]], right[active.features[part]])
    return out


def _bags(index: Tensor, offsets: Tensor, weights: Tensor, table: Tensor) -> Tensor:
    """out[i] = sum over j in offsets[i] : offsets[i + 1] of weights[j] table[index[j]]."""
    if index.numel() == 0:
        return table.new_zeros(offsets.shape[0] - 1, table.shape[1])
    if (kernels := _kernels(table)) is not None:
        return cast(Tensor, kernels.bags(index, offsets, weights, table))
    return torch.nn.functional.embedding_bag(
        index, table.contiguous(), offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


def _kernels(x: Tensor) -> Any:
    """The Triton kernels where x lies on CUDA and Triton is installed; else None."""
    return _triton() if x.is_cuda else None


@cache
def _triton() -> Any:
    try:
        from cutaway.features import triton_kernels
    except ImportError:
        return None
    return triton_kernels


def _csr(active: Active, like: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*CSR tensor support is in beta.*")
        return torch.sparse_csr_tensor(
            active.offsets, active.features, like.new_zeros(len(active)),
            (active.n_tokens, active.n_features), check_invariants=False,
        )  # fmt: skip
