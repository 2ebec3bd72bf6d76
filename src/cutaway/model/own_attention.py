"""Attention opened in families that compute it inside their own forward (GPT-J, GPT-Neo, BLOOM, Falcon).

They hand nothing to the attention registry, but they all call the same few torch functions: a product of queries and
keys, a softmax over keys, or the fused kernel that does both. While a tapped module's forward runs, those calls pass
through here (a `TorchFunctionMode`), and the tap reads or changes their tensors: the softmax's input is the scores, its
output the pattern, the arguments of the product before it the queries and keys as attention uses them. Where the
kernel is fused, its arithmetic is written out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)
_PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm)
_ADDED_PRODUCTS = (torch.baddbmm, Tensor.baddbmm)


class Opened(Protocol):
    """What of a tap is used here."""

    @property
    def edit(self) -> Callable[[str, Tensor], Tensor]: ...

    opened: bool
    detach_pattern: bool
    stored: Tensor | None
    compare: bool
    difference: float


@contextmanager
def watched(module: nn.Module, tap: Opened) -> Iterator[None]:
    """For the forwards inside, `module` computes attention under `tap`."""
    held = module.__dict__.get("forward")
    own = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with _Inside(module, tap):
            return own(*args, **kwargs)

    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if held is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = held


class _Inside(TorchFunctionMode):
    """One forward of one attention module. The product comes first, then the softmax; or one fused kernel."""

    def __init__(self, module: nn.Module, tap: Opened) -> None:
        super().__init__()
        self.tap = tap
        kv_heads = getattr(module, "num_kv_heads", None)
        self.kv_heads = int(kv_heads) if kv_heads else None
        names = ("num_heads", "num_attention_heads", "n_heads", "n_head")
        heads = next((found for name in names if (found := getattr(module, name, None))), 0)
        self.heads = int(heads)
        # None where the weights are quantised and say nothing of what is computed in.
        self.dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
        self.multiplied = self.done = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.done:
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self.done = True
            return self._kernel(*args, **kwargs)
        if not self.multiplied:
            if func in _PRODUCTS and _are_heads(args[0], args[1], self.heads):
                return func(*self._product(args[0], args[1]))
            if func in _ADDED_PRODUCTS:
                bias, left, right = args[0], kwargs.pop("batch1", None), kwargs.pop("batch2", None)
                left, right = (args[1] if left is None else left), (args[2] if right is None else right)
                return func(bias, *self._product(left, right), **kwargs)
        if func in _SOFTMAX and self.multiplied:
            self.done = True
            given: Tensor = args[0]  # [batch, head, query, key], or [batch * head, query, key]
            scores = given.reshape(-1, self.heads, *given.shape[-2:])
            scores = scores.clamp(min=torch.finfo(scores.dtype).min)  # GPT-Neo masks twice, to -inf
            if self.tap.stored is None:
                scores = self.tap.edit("attn_scores", scores)
            return self._pattern(func(scores, *args[1:], **kwargs)).reshape(given.shape)
        return func(*args, **kwargs)

    def _product(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [batch, head, query, d] (or [batch * head, query, d]) and keys transposed, through the tap."""
        self.multiplied = True
        query = left.reshape(-1, self.heads, *left.shape[-2:])
        key = right.transpose(-1, -2).reshape(-1, right.shape[1] if right.ndim == 4 else self.heads, *_flip(right))
        query, key = self._queries_and_keys(query, key)
        return query.reshape(left.shape), key.transpose(-1, -2).reshape(right.shape)

    def _queries_and_keys(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        query = self.tap.edit("q_rot", query)
        if self.kv_heads and key.shape[1] != self.kv_heads and key.shape[1] % self.kv_heads == 0:
            # Falcon copies each key head for its query heads beforehand; the point is the key head itself.
            group = key.shape[1] // self.kv_heads
            key = self.tap.edit("k_rot", key[:, ::group]).repeat_interleave(group, dim=1)
        else:
            key = self.tap.edit("k_rot", key)
        if self.tap.detach_pattern:
            query, key = query.detach(), key.detach()
        return query, key

    def _pattern(self, pattern: Tensor) -> Tensor:
        if self.dtype is not None:
            pattern = pattern.to(self.dtype)  # as the family does right after its softmax
        if self.tap.stored is not None:
            pattern = self.tap.stored.to(pattern).expand(pattern.shape[0], -1, -1, -1)
        return self.tap.edit("attn_probs", pattern)

    def _kernel(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        def fused(query: Tensor, key: Tensor) -> Tensor:
            more: dict[str, Any] = {"scale": scale, "enable_gqa": enable_gqa}
            return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, **more)

        expected = fused(query, key) if self.tap.compare else None
        query, key = self._queries_and_keys(query, key)
        if not self.tap.opened:
            return fused(query, key)
        # softmax(q k^T / sqrt(d) + mask) v, the pattern in float32 or wider
        keys, values = _spread(key, query.shape[1]), _spread(value, query.shape[1])
        scores = query @ keys.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
            scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
        if attn_mask is not None:
            is_bool = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min) if is_bool else scores + attn_mask
        if self.tap.stored is None:
            scores = self.tap.edit("attn_scores", scores)
        wide = torch.promote_types(scores.dtype, torch.float32)
        z = self._pattern(scores.softmax(-1, dtype=wide).to(query.dtype)) @ values
        if expected is not None:
            self.tap.difference = float((z - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
        return z


def _are_heads(left: Any, right: Any, heads: int) -> bool:
    """Whether a product can be that of queries and keys: both [batch, head, …], or both [batch * head, …]."""
    if not (isinstance(left, Tensor) and isinstance(right, Tensor)) or left.ndim != right.ndim:
        return False
    return bool(left.ndim == 4 and left.shape[1] == heads) or (left.ndim == 3 and left.shape[0] % max(heads, 1) == 0)


def _flip(x: Tensor) -> tuple[int, int]:
    return x.shape[-1], x.shape[-2]


def _spread(x: Tensor, heads: int) -> Tensor:
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)
