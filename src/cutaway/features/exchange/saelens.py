"""SAELens's folders (6.x, and flat configs from before 6.0).

    cfg.json                  architecture, d_in, d_sae, dtype, apply_b_dec_to_input, normalize_activations,
                              reshape_activations, k, rescale_acts_by_decoder_norm, d_out, metadata {hook_name, …};
                              before 6.0 all flat, with activation_fn(_str) and hook_point
    sae_weights.safetensors   W_enc (d, F), W_dec (F, d), b_dec, b_enc | b_gate, r_mag, b_mag; threshold;
                              W_skip (d_out, d_in)
    sparsity.safetensors      optional: sparsity (F)

    standard          ReLU(x' W_enc + b_enc)                       x' = norm(x) - b_dec if apply_b_dec_to_input
    topk              TopK(x' W_enc + b_enc), times |W_dec| before if rescale_acts_by_decoder_norm, divided by it after
    jumprelu          ReLU(h) 1[h > threshold]
    gated             1[x' W_enc + b_gate > 0] ReLU(x' (W_enc exp(r_mag)) + b_mag)
    matching_pursuit  rows of W_dec, max_iterations (d_in if null), residual_threshold, stop_on_duplicate_support
    (jumprelu_, skip_) transcoder: the same with d_out; a skip adds norm(x) W_skip^T
    norm: constant_norm_rescale x sqrt(d) / |x|, layer_norm (x - mean) / (std + 1e-5), and back after decoding (not in
    transcoders); expected_average_only_in and covariance_whitening leave x as it is: they are folded before saving.

SAELens writes BatchTopK and Matryoshka as jumprelu. Its config is kept whole, so that writing gives it back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName, write_json
from cutaway.features.activations import Inference
from cutaway.features.exchange.names import from_hook, to_hook
from cutaway.features.files import read_object, read_tensors, write_tensors
from cutaway.features.sae import SAE, InputNorm
from cutaway.features.transcoders import ModelFacts

EXTRA = "saelens"
WEIGHTS = "sae_weights.safetensors"
_RULES: dict[str, Inference] = {
    "standard": "relu", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated", "matching_pursuit":
    "matching_pursuit", "transcoder": "relu", "skip_transcoder": "relu", "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu", "batchtopk": "jumprelu", "matryoshka_batchtopk": "jumprelu",
}  # fmt: skip
_NORMS: dict[str, InputNorm] = {
    "none": None, "expected_average_only_in": None, "covariance_whitening": None,
    "constant_norm_rescale": "sphere", "layer_norm": "layer_norm",
}  # fmt: skip
_HELD = {
    "relu": ("b_enc",),
    "topk": ("b_enc",),
    "jumprelu": ("b_enc", "threshold"),
    "gated": ("b_gate", "r_mag", "b_mag"),
}


def is_one(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file()


def read(folder: Path) -> SAE:
    """Raises `InputError` naming SAELens's file and what is wrong with it."""
    config = read_object(folder / "cfg.json")
    held = _modern(config, folder)
    architecture = str(held["architecture"])
    if architecture not in _RULES:
        raise UnknownName(f"architecture of SAELens in {folder / 'cfg.json'}", architecture, _RULES)
    rule, transcoder = _RULES[architecture], "transcoder" in architecture
    tensors = read_tensors(folder / WEIGHTS)
    if tensors.pop("scaling_factor", None) is not None or held.get("finetuning_scaling_factor"):
        raise InputError(f"{folder / WEIGHTS}: SAELens's finetuning scaling factor is not read here.")
    needed = {"W_dec", "b_dec", *(("W_enc", *_HELD[rule]) if rule in _HELD else ())}
    needed |= {"W_skip"} if "skip" in architecture else set()
    if needed != set(tensors):
        raise InputError(
            f"{folder / WEIGHTS}: {architecture} of SAELens holds {', '.join(sorted(needed))}; "
            f"{', '.join(sorted(tensors))} were found."
        )
    _shapes(folder, tensors, held, transcoder)
    metadata: Mapping[str, Any] = held.get("metadata") or {}
    hook, out = str(metadata.get("hook_name") or ""), str(metadata.get("hook_name_out") or "")
    extra: dict[str, Any] = {EXTRA: config}
    if (folder / "sparsity.safetensors").is_file():
        extra["saelens_sparsity"] = read_tensors(folder / "sparsity.safetensors")["sparsity"].float().tolist()
    gate = {"b_enc": tensors.pop("b_gate")} if rule == "gated" else {}
    if "W_enc" in tensors:
        tensors["W_enc"] = tensors["W_enc"].T
    return SAE.from_tensors(
        {**tensors, **gate},
        rule=rule,
        k=held.get("max_iterations") if rule == "matching_pursuit" else held.get("k") if rule == "topk" else None,
        centred=bool(held.get("apply_b_dec_to_input", True)) and not transcoder,
        norms="before" if held.get("rescale_acts_by_decoder_norm") and rule == "topk" else None,
        input_norm=_norm(held, folder),
        residual_threshold=float(held.get("residual_threshold", 1e-2)) if rule == "matching_pursuit" else 0.0,
        stop_on_duplicate=rule == "matching_pursuit" and bool(held.get("stop_on_duplicate_support", True)),
        point=from_hook(hook),
        output_point=(from_hook(out) or "?") if transcoder else None,
        model=ModelFacts(name=str(metadata.get("model_name") or "")),
        extra=extra,
        folder=folder,
    )


def write(sae: SAE, folder: str | Path) -> None:
    """Raises `InputError` for what SAELens cannot hold (TopK transcoders)."""
    folder = Path(folder)
    config = sae.extra.get(EXTRA)
    transcoder = sae.output_point is not None
    if config is None:
        if sae.norms in ("after", "gate") or (sae.norms and sae.rule != "topk") or (transcoder and sae.rule == "gated"):
            sae = sae.plain()
        if transcoder and sae.rule not in ("relu", "jumprelu"):
            raise InputError(f"SAELens has transcoders with ReLU and JumpReLU; this one's rule is {sae.rule}.")
        config = _config(sae, transcoder)
    tensors = sae.tensors()
    if "W_enc" in tensors:
        tensors["W_enc"] = tensors["W_enc"].T
    if sae.rule == "gated":
        tensors["b_gate"] = tensors.pop("b_enc")
    (folder / "cfg.json").unlink(missing_ok=True)
    files = {WEIGHTS: tensors}
    if "saelens_sparsity" in sae.extra:
        files["sparsity.safetensors"] = {"sparsity": torch.tensor(sae.extra["saelens_sparsity"])}
    for name, held in files.items():
        write_tensors(folder / name, held)
    write_json(folder / "cfg.json", config)


def _config(sae: SAE, transcoder: bool) -> dict[str, Any]:
    base = {"relu": "standard"}.get(sae.rule, sae.rule)
    if transcoder:
        kind = "skip_transcoder" if sae.W_skip is not None else "transcoder"
        base = kind if sae.rule == "relu" else f"jumprelu_{kind}"
    norms = {held: name for name, held in reversed(_NORMS.items())}
    metadata: dict[str, Any] = {
        "model_name": sae.model.name, "hook_name": to_hook(sae.point) or sae.point, "hook_head_index": None,
        "prepend_bos": True, "sae_lens_version": "6.54.0", "sae_lens_training_version": None,
    }  # fmt: skip
    if transcoder:
        metadata["hook_name_out"] = to_hook(str(sae.output_point)) or sae.output_point
    config: dict[str, Any] = {
        "architecture": base,
        "d_in": sae.d_in,
        "d_sae": sae.n_features,
        "dtype": str(sae.W_dec.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": sae.centred,
        "normalize_activations": norms[sae.input_norm],
        "reshape_activations": "hook_z" if sae.point.startswith("z.") else "none",
        "metadata": metadata,
    }
    if transcoder:
        config["d_out"] = sae.d_out
    if sae.rule == "topk":
        config |= {"k": sae.k, "rescale_acts_by_decoder_norm": sae.norms == "before"}
    if sae.rule == "matching_pursuit":
        config |= {
            "max_iterations": sae.k, "residual_threshold": sae.residual_threshold,
            "stop_on_duplicate_support": sae.stop_on_duplicate,
        }  # fmt: skip
    return config


def _modern(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A config in the fields of 6.x; before 6.0 it is flat and says the activation apart from the architecture."""
    if not config:
        raise InputError(f"{folder / 'cfg.json'} is missing or empty: SAELens's config belongs beside the weights.")
    if "metadata" in config:
        return dict(config)
    held = {("hook_name" if key == "hook_point" else key): value for key, value in config.items()}
    activation = str(held.get("activation_fn", held.get("activation_fn_str", "relu")))
    kwargs = held.get("activation_fn_kwargs") or {}
    held.setdefault("architecture", "standard")
    if activation == "topk":
        held["architecture"], held["k"] = "topk", kwargs.get("k")
    elif activation != "relu":
        raise InputError(f"{folder / 'cfg.json'}: the activation {activation!r} of an older SAELens is not read here.")
    norm = held.get("normalize_activations")
    if norm is None or isinstance(norm, bool):
        held["normalize_activations"] = "expected_average_only_in" if norm else "none"
    hook = str(held.get("hook_name", ""))
    layer = held.get("hook_point_layer", held.get("hook_layer"))
    # The oldest names leave the layer to be filled in.
    if layer is not None:
        hook = re.sub(r"\{layer\}", str(layer), hook)
    held["metadata"] = {"model_name": held.get("model_name", ""), "hook_name": hook}
    return held


def _norm(config: Mapping[str, Any], folder: Path) -> InputNorm:
    given = str(config.get("normalize_activations", "none"))
    if given not in _NORMS:
        raise UnknownName(f"normalize_activations of SAELens in {folder / 'cfg.json'}", given, _NORMS)
    return _NORMS[given]


def _shapes(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], transcoder: bool) -> None:
    try:
        d_in, features = int(config["d_in"]), int(config["d_sae"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / 'cfg.json'}: SAELens's config has d_in and d_sae; {error} is wrong.") from error
    d_out = int(config.get("d_out") or d_in) if transcoder else d_in
    shapes = {"W_enc": (d_in, features), "W_dec": (features, d_out), "b_dec": (d_out,), "W_skip": (d_out, d_in)}
    for name, value in tensors.items():
        expected = shapes.get(name, (features,))
        if tuple(value.shape) != expected:
            raise InputError(
                f"{folder / WEIGHTS}: {name} of a SAELens dictionary with d_in {d_in} and d_sae {features} is "
                f"{list(expected)}; {list(value.shape)} was found."
            )
