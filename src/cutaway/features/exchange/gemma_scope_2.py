"""Gemma Scope 2: config.json and params.safetensors with w_enc (d, F), w_dec (F, d_out), b_enc, b_dec, threshold and,
of transcoders with an affine connection, affine_skip_connection (d, d_out).

    a = ReLU(x w_enc + b_enc) 1[x w_enc + b_enc > threshold],   y = a w_dec + b_dec (+ x affine_skip_connection)

The config names Hugging Face modules: hf_hook_point_in, hf_hook_point_out ("model.layers.9.output", …). Points that are
not known here are left empty; `check_fit` then asks for them. Cross-layer transcoders are refused, by name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from cutaway.core import InputError, write_json
from cutaway.features.files import read_object, read_tensors, write_tensors
from cutaway.features.sae import SAE
from cutaway.features.transcoders import ModelFacts

EXTRA = "gemma_scope_2"
WEIGHTS = "params.safetensors"
CONFIG = "config.json"
SKIP = "affine_skip_connection"
_NEEDED = {"w_enc", "w_dec", "b_enc", "b_dec", "threshold"}
_PARTS = {
    "output": "resid_post",
    "post_feedforward_layernorm.output": "mlp_out_post",
    "mlp.output": "mlp_out",
    "self_attn.o_proj.input": "z",
    "pre_feedforward_layernorm.output": "mlp_in",
    "mlp.input": "mlp_in",
}
_BACK = {point: part for part, point in reversed(_PARTS.items())}


def is_one(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()


def read(folder: Path) -> SAE:
    """Raises `InputError` naming the file and what is wrong with it."""
    config, tensors = read_object(folder / CONFIG), read_tensors(folder / WEIGHTS)
    if config.get("type") == "cross_layer_transcoder" or config.get("type") == "clt" or tensors_are_cross(tensors):
        raise InputError(f"{folder}: cross-layer transcoders of Gemma Scope 2 are not read here.")
    if config.get("architecture", "jump_relu") != "jump_relu":
        told = config["architecture"]
        raise InputError(f"{folder / CONFIG}: Gemma Scope 2 is of architecture jump_relu; {told!r} is not.")
    if not set(tensors) >= _NEEDED or set(tensors) - _NEEDED - {SKIP}:
        raise InputError(
            f"{folder / WEIGHTS}: Gemma Scope 2's file holds {', '.join(sorted(_NEEDED))} and perhaps {SKIP}; "
            f"{', '.join(sorted(tensors))} were found."
        )
    if bool(config.get("affine_connection")) != (SKIP in tensors):
        raise InputError(f"{folder}: affine_connection in {CONFIG} and {SKIP} in {WEIGHTS} belong together.")
    at, to = (point_of(str(config.get(f"hf_hook_point_{side}") or "")) for side in ("in", "out"))
    wide = tensors["w_dec"].shape[-1] != tensors["w_enc"].shape[0]
    skip = tensors.get(SKIP)
    return SAE.from_tensors(
        {
            "W_enc": tensors["w_enc"].T, "W_dec": tensors["w_dec"], "b_enc": tensors["b_enc"],
            "b_dec": tensors["b_dec"], "threshold": tensors["threshold"],
            **({} if skip is None else {"W_skip": skip.T}),
        },
        rule="jumprelu", point=at, output_point=(to or "?") if (to != at or wide) else None,
        model=ModelFacts(name=str(config.get("model_name") or "")), extra={EXTRA: config}, folder=folder,
    )  # fmt: skip


def tensors_are_cross(tensors: dict[str, Tensor]) -> bool:
    """A decoder of more than two dimensions writes to several layers."""
    return "w_dec" in tensors and tensors["w_dec"].ndim > 2


def write(sae: SAE, folder: str | Path) -> None:
    """Raises `InputError` for what is no JumpReLU on inputs as they are."""
    if EXTRA not in sae.extra:
        sae = sae.plain()
    if sae.rule != "jumprelu" or sae.threshold is None:
        raise InputError(f"Gemma Scope 2 holds JumpReLU; this dictionary's rule is {sae.rule}.")
    tensors = {"w_enc": sae.W_enc.T, "w_dec": sae.W_dec, "b_enc": sae.b_enc, "b_dec": sae.b_dec,
               "threshold": sae.threshold}  # fmt: skip
    if sae.W_skip is not None:
        tensors[SKIP] = sae.W_skip.T
    config: dict[str, Any] = sae.extra.get(EXTRA) or {
        "hf_hook_point_in": module_of(sae.point),
        "hf_hook_point_out": module_of(sae.writes_to),
        "width": sae.n_features,
        "model_name": sae.model.name,
        "architecture": "jump_relu",
        "l0": sae.training.get("settings", {}).get("l0"),
        "affine_connection": sae.W_skip is not None,
        "type": "transcoder" if sae.output_point is not None else "sae",
    }
    folder = Path(folder)
    write_tensors(folder / WEIGHTS, tensors)
    write_json(folder / CONFIG, config, indent=1)


def point_of(name: str) -> str:
    """model.layers.9.output -> resid_post.9; "" for what is not known."""
    match = re.fullmatch(r"(?:model\.)?(?:language_model\.)?(?:model\.)?layers\.(\d+)\.(.+)", name)
    part = None if match is None else _PARTS.get(match[2])
    return "" if match is None or part is None else f"{part}.{match[1]}"


def module_of(point: str) -> str:
    """resid_post.9 -> model.layers.9.output; the point itself where the format has no name for it."""
    name, _, layer = point.partition(".")
    return f"model.layers.{layer}.{_BACK[name]}" if name in _BACK else point
