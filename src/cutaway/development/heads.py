"""The weights of one attention head, as masks: for LLCs restricted to it."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError


def head_weights_mask(model: Any, layer: int, head: int) -> dict[str, Tensor]:
    """Parameter name -> boolean mask of the rows and columns that are this head's own (query, key, value, output).

    Under grouped queries the key and value rows of the head's group are its own too. Reads separate q/k/v/o
    projections, GPT-2's c_attn and NeoX's fused query_key_value. Raises InputError for another layout.
    """
    facts = model.facts
    if not 0 <= layer < facts.n_layers or not 0 <= head < facts.n_heads:
        raise InputError(f"no head {layer}.{head}: {facts.n_layers} layers of {facts.n_heads} heads.")
    size = facts.d_head
    shared = head // (facts.n_heads // facts.n_kv_heads)
    place = re.compile(rf"(?:^|\.)(?:layers|h|blocks)\.{layer}\.")
    out: dict[str, Tensor] = {}
    for name, value in model.hf.named_parameters():
        if not place.search(name) or value.ndim == 0:
            continue
        last = name.rsplit(".", 2)[-2]
        mask = torch.zeros_like(value, dtype=torch.bool)
        if last in ("q_proj", "k_proj", "v_proj"):
            which = head if last == "q_proj" else shared
            mask[which * size : (which + 1) * size] = True
        elif last in ("o_proj", "out_proj") and value.ndim == 2:
            mask[:, head * size : (head + 1) * size] = True
        elif last == "c_attn":  # [d_model, 3 d_model], queries, keys and values side by side
            width = facts.n_heads * size
            for part in range(3):
                mask[..., part * width + head * size : part * width + (head + 1) * size] = True
        elif last == "c_proj" and ".attn." in name and value.ndim == 2:  # a Conv1D: [in, out]
            mask[head * size : (head + 1) * size] = True
        elif last == "query_key_value":  # [heads x 3 x d_head, d_model]
            mask[head * 3 * size : (head + 1) * 3 * size] = True
        elif last == "dense" and ".attention." in name and value.ndim == 2:
            mask[:, head * size : (head + 1) * size] = True
        else:
            continue
        out[name] = mask
    if not out:
        raise InputError(f"the head weights of {type(model.hf).__name__} are laid out in no way known here.")
    return out
