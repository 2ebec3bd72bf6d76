"""What other packages call a point, as ours, and back. TransformerLens's legacy names; Hugging Face's modules."""

from __future__ import annotations

import re

_HOOKS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "attn.hook_z": "z",
    "mlp.hook_in": "mlp_in",
    "mlp.hook_post": "mlp_act",
    "mlp.hook_out": "mlp_out",
    "hook_mlp_out": "mlp_out_post",
    "ln2.hook_normalized": "mlp_normalized",
}
_BACK = {point: hook for hook, point in _HOOKS.items()} | {"mlp_out": "hook_mlp_out", "mlp_out_post": "hook_mlp_out"}
_PARTS = {None: "resid_post", "mlp": "mlp_out", "attn": "attn_out", "self_attn": "attn_out", "attention": "attn_out"}


def from_hook(hook: str) -> str:
    """blocks.2.hook_resid_post -> resid_post.2; "" where it is none that is known.

    hook_mlp_out is what the MLP adds to the stream: `mlp_out`, on families with a norm behind it `mlp_out_post`, which
    only the model knows (fit.placed asks it).
    """
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook)
    if match is None or match[2] not in _HOOKS:
        return ""
    point = _HOOKS[match[2]]
    return f"{'mlp_out' if point == 'mlp_out_post' else point}.{match[1]}"


def to_hook(point: str) -> str | None:
    """resid_post.2 -> blocks.2.hook_resid_post; None where TransformerLens has no such name."""
    name, _, layer = point.partition(".")
    return f"blocks.{layer}.{_BACK[name]}" if name in _BACK and layer.isdigit() else None


def from_module(name: str) -> str:
    """A module whose output is meant, of any family: layers.3 -> resid_post.3, h.2.mlp -> mlp_out.2; else ""."""
    match = re.fullmatch(r"(?:.*\.)?(?:layers|h|blocks)\.(\d+)(?:\.(\w+))?", name)
    if match is None or match[2] not in _PARTS:
        return ""
    return f"{_PARTS[match[2]]}.{match[1]}"
