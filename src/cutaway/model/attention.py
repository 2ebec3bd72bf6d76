"""Attention opened at the layers asked for; everywhere else the model's own kernel runs.

Hugging Face hands rotated queries, keys and values to a function found in a registry under the config's
`_attn_implementation`. For the time of a run the config names one of our two keys, which delegate to SDPA or to the
family's eager function. The same keys stand in the mask registry with the masks of the function delegated to: an
unknown key there would silently make attention bidirectional.

Families that compute attention inside their own forward are opened by `own_attention` under the same taps.

A module with a tap gets its queries, keys, scores and pattern read or changed. Scores are formed only if they, the
pattern, or a stored pattern are wanted.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from cutaway.model.own_attention import watched

SDPA, EAGER = "cutaway_sdpa", "cutaway_eager"

# (quantity, tensor) -> tensor; called for 'q_rot', 'k_rot', 'attn_scores', 'attn_probs'.
Edit = Callable[[str, Tensor], Tensor]


@dataclass
class Tap:
    """What a run wants of one attention module."""

    edit: Edit  # reads and changes
    opened: bool  # form scores and pattern
    detach_pattern: bool = False  # no gradient through queries and keys
    stored: Tensor | None = None  # a pattern [1 or batch, head, query, key] that replaces the model's
    compare: bool = False  # also run the kernel delegated to, and note how far it differs
    difference: float = 0.0


_taps: weakref.WeakKeyDictionary[nn.Module, Tap] = weakref.WeakKeyDictionary()


@contextmanager
def tapped(taps: dict[nn.Module, Tap], configs: Iterable[Any]) -> Iterator[None]:
    """Open `taps` for the forwards inside. `configs` are those whose `_attn_implementation` the modules read."""
    through = {module: tap for module, tap in taps.items() if registered(module)}
    with ExitStack() as stack:
        for module, tap in taps.items():
            if module not in through:
                stack.enter_context(watched(module, tap))
        if not through:
            yield
            return
        held = [(config, config._attn_implementation) for config in {id(c): c for c in configs}.values()]
        _taps.update(through)
        try:
            for config, own in held:
                config._attn_implementation = SDPA if own == "sdpa" else EAGER
            yield
        finally:
            for config, own in held:
                config._attn_implementation = own
            for module in through:
                _taps.pop(module, None)


def registered(module: nn.Module) -> bool:
    """Whether an attention module hands queries, keys and values to the attention registry."""
    source = vars(sys.modules[type(module).__module__])
    if "ALL_ATTENTION_FUNCTIONS" not in source or "eager_attention_forward" not in source:
        return False
    return not getattr(getattr(module, "config", None), "reorder_and_upcast_attn", False)


def pattern_from_scores(scores: Tensor, like: Tensor, sinks: Tensor | None = None) -> Tensor:
    """softmax over keys, in float32 or wider; a sink is one more column of the softmax that is then dropped."""
    if sinks is not None:
        column = sinks.reshape(1, -1, 1, 1).expand(scores.shape[0], -1, scores.shape[2], 1).to(scores.dtype)
        scores = torch.cat([scores, column], -1)
    wide = torch.promote_types(scores.dtype, torch.float32)
    pattern = scores.softmax(-1, dtype=wide).to(like.dtype)
    return pattern if sinks is None else pattern[..., :-1]


def _scores(module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float, **more: Any) -> Tensor:
    """softcap(q k^T scaling) + position bias + mask, in the order that every family's eager function has."""
    scores = query @ key.transpose(2, 3) * scaling
    if (cap := more.get("softcap")) is not None:
        scores = torch.tanh(scores / cap) * cap
    if (bias := more.get("position_bias")) is not None:
        scores = scores + bias[..., : key.shape[2]]
    least = torch.finfo(scores.dtype).min
    if mask is None:
        causal = more.get("is_causal")
        if (getattr(module, "is_causal", True) if causal is None else causal) and query.shape[2] > 1:
            seen = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=scores.device).tril()
            scores = scores.masked_fill(~seen, least)
    elif mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask[..., : key.shape[2]], least)
    else:
        scores = scores + mask[..., : key.shape[2]]
    return scores


def _repeated(x: Tensor, heads: int) -> Tensor:
    """[batch, kv_head, position, d] -> [batch, head, position, d], each key head beside its own query heads."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def _attend(
    delegate: Callable[..., Any], module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **more: Any
) -> tuple[Tensor, Tensor | None]:
    tap = _taps.get(module)
    if tap is None:
        result: tuple[Tensor, Tensor | None] = delegate(module, query, key, value, mask, **more)
        return result
    expected = delegate(module, query, key, value, mask, **more)[0] if tap.compare else None
    query, key = tap.edit("q_rot", query), tap.edit("k_rot", key)
    if tap.detach_pattern:
        query, key = query.detach(), key.detach()
    if not tap.opened:
        result = delegate(module, query, key, value, mask, **more)
        return result
    heads = query.shape[1]
    if tap.stored is None:
        scaling = more.pop("scaling", None)
        scaling = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
        scores = tap.edit("attn_scores", _scores(module, query, _repeated(key, heads), mask, scaling, **more))
        pattern = pattern_from_scores(scores, query, more.get("s_aux"))
    else:
        pattern = tap.stored.to(query).expand(query.shape[0], -1, -1, -1)
    pattern = tap.edit("attn_probs", pattern)
    z = (pattern @ _repeated(value, heads)).transpose(1, 2).contiguous()  # [batch, position, head, d_head]
    if expected is not None:
        tap.difference = float((z - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    return z, pattern


def _sdpa(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **more: Any) -> Any:
    return _attend(ALL_ATTENTION_FUNCTIONS["sdpa"], module, query, key, value, attention_mask, **more)


def _eager(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **more: Any) -> Any:
    family = vars(sys.modules[type(module).__module__])["eager_attention_forward"]
    return _attend(family, module, query, key, value, attention_mask, **more)


ALL_ATTENTION_FUNCTIONS.register(SDPA, _sdpa)
ALL_ATTENTION_FUNCTIONS.register(EAGER, _eager)
ALL_MASK_ATTENTION_FUNCTIONS.register(SDPA, sdpa_mask)
ALL_MASK_ATTENTION_FUNCTIONS.register(EAGER, eager_mask)
