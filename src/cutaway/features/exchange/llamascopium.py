"""OpenMOSS's llamascopium (Language-Model-SAEs): its `sae` type, with the encoder's and decoder's point alike or apart.

config.json               sae_type, hook_point_in, hook_point_out, d_model, expansion_factor, act_fn, top_k,
                          norm_activation, sparsity_include_decoder_norm, use_decoder_bias, use_glu_encoder, …
sae_weights.safetensors   W_E (d, F), b_E, W_D (F, d), b_D, activation_function.log_jumprelu_threshold (F),
                          dataset_average_activation_norm.<hook> (scalars)

h = (s_in x) W_E + b_E            s = sqrt(d) / the hook's average norm (norm_activation dataset-wise), 1 (inference),
                                  sqrt(d) / |x| (token-wise)
a = act(h |W_D|) / |W_D|          without |W_D| where sparsity_include_decoder_norm is false
y = (a W_D + b_D) / s_out         act: relu, topk, jumprelu h 1[h > exp(log threshold)]

Equal to what their package, 2.0.0b34, computes (benchmarks/format_parity.py). Thresholds are written as logarithms,
which gives what was read to a rounding of float32; all else bit for bit.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName, write_json
from cutaway.features.activations import Inference
from cutaway.features.exchange.names import from_hook, to_hook
from cutaway.features.files import read_object, read_tensors, write_tensors
from cutaway.features.sae import SAE

EXTRA = "llamascopium"
WEIGHTS = "sae_weights.safetensors"
_RULES: dict[str, Inference] = {"relu": "relu", "jumprelu": "jumprelu", "topk": "topk"}
_THRESHOLD = "activation_function.log_jumprelu_threshold"
_NORM = "dataset_average_activation_norm."


def is_one(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() and (folder / "config.json").is_file() and not (folder / "cfg.json").is_file()


def read(folder: Path) -> SAE:
    """Raises `InputError` naming llamascopium's file and what is wrong with it."""
    path = folder / "config.json"
    config = read_object(path)
    if config.get("sae_type") != "sae":
        raise InputError(f"{path}: of llamascopium's types sae is read here; {config.get('sae_type')!r} was found.")
    if config.get("use_glu_encoder"):
        raise InputError(f"{path}: llamascopium's gated linear encoder is not read here.")
    if (act := str(config.get("act_fn", "relu"))) not in _RULES:
        raise UnknownName(f"act_fn of llamascopium in {path} (batch-wise ones depend on the batch)", act, _RULES)
    tensors = read_tensors(folder / WEIGHTS)
    averages = {n.removeprefix(_NORM): float(tensors.pop(n)) for n in list(tensors) if n.startswith(_NORM)}
    needed = {"W_E", "b_E", "W_D", *(("b_D",) if config.get("use_decoder_bias", True) else ())}
    needed |= {_THRESHOLD} if act == "jumprelu" else set()
    if set(tensors) != needed:
        raise InputError(
            f"{folder / WEIGHTS}: this llamascopium config has {', '.join(sorted(needed))}; "
            f"{', '.join(sorted(tensors))} were found."
        )
    try:
        d, hook, out = int(config["d_model"]), str(config["hook_point_in"]), str(config["hook_point_out"])
        features = int(d * float(config["expansion_factor"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: llamascopium's config lacks {error} or holds a wrong one.") from error
    for name, shape in {"W_E": (d, features), "W_D": (features, d), "b_E": (features,), "b_D": (d,)}.items():
        if name in tensors and tuple(tensors[name].shape) != shape:
            raise InputError(
                f"{folder / WEIGHTS}: {name} of this llamascopium config is {list(shape)}; "
                f"{list(tensors[name].shape)} was found."
            )
    norm = str(config.get("norm_activation", "dataset-wise"))
    scales, sphere = _scales(norm, averages, hook, out, d, path), norm == "token-wise"
    return SAE(
        rule=_RULES[act], W_enc=tensors["W_E"].T, b_enc=tensors["b_E"], W_dec=tensors["W_D"],
        b_dec=tensors.get("b_D", torch.zeros(d, dtype=tensors["W_D"].dtype)),
        threshold=tensors[_THRESHOLD].double().exp().to(tensors["W_D"].dtype) if act == "jumprelu" else None,
        k=int(config.get("top_k", 50)) if act == "topk" else None,
        norms="gate" if config.get("sparsity_include_decoder_norm", True) else None,
        input_norm="sphere" if sphere else None, input_scale=scales[0], output_scale=scales[1],
        point=from_hook(hook), output_point=None if hook == out else (from_hook(out) or "?"),
        extra={EXTRA: config, "llamascopium_norms": averages}, folder=folder,
    )  # fmt: skip


def _scales(
    norm: str, averages: dict[str, float], hook: str, out: str, d: int, path: Path
) -> tuple[float, float]:  # fmt: skip
    """What is divided out of x, and multiplied into y."""
    if norm == "inference" or (norm == "token-wise" and hook == out):
        return 1.0, 1.0
    if norm != "dataset-wise":
        raise InputError(
            f"{path}: llamascopium's norm_activation {norm!r} is no function of one token at this point; inference, "
            "dataset-wise and (where it reads what it reconstructs) token-wise are read."
        )
    if missing := [name for name in (hook, out) if not averages.get(name, 0) > 0]:
        raise InputError(f"{path.parent / WEIGHTS}: llamascopium's {_NORM}{missing[0]} is missing or not positive.")
    return averages[hook] / math.sqrt(d), averages[out] / math.sqrt(d)


def write(sae: SAE, folder: str | Path) -> None:
    """Raises `InputError` for what llamascopium cannot hold: other rules, two widths, skips, thresholds below zero."""
    folder = Path(folder)
    config: dict[str, Any] | None = sae.extra.get(EXTRA)
    averages: dict[str, float] = dict(sae.extra.get("llamascopium_norms", {}))
    if config is None:
        if sae.rule == "gated" or sae.centred or sae.norms not in (None, "gate") or sae.scaled:
            sae = sae.plain()
        if sae.rule not in _RULES or sae.W_skip is not None or sae.d_in != sae.d_out or sae.input_norm == "layer_norm":
            raise InputError(
                f"llamascopium's sae has relu, jumprelu or topk, one width and no skip connection; this is {sae}."
            )
        if sae.threshold is not None and not bool((sae.threshold > 0).all()):
            raise InputError("llamascopium keeps the logarithm of thresholds: they must all be above zero.")
        config = _config(sae)
    held: dict[str, Tensor] = {"W_E": sae.W_enc.T, "b_E": sae.b_enc, "W_D": sae.W_dec}
    if config.get("use_decoder_bias", True):
        held["b_D"] = sae.b_dec
    if sae.threshold is not None:
        held[_THRESHOLD] = sae.threshold.double().log().to(sae.W_dec.dtype)
    hooks = [config["hook_point_in"], config["hook_point_out"]]
    for hook in averages or dict.fromkeys(hooks, 1.0):
        held[_NORM + hook] = torch.tensor(averages.get(hook, 1.0), dtype=sae.W_dec.dtype)
    (folder / "config.json").unlink(missing_ok=True)
    write_tensors(folder / WEIGHTS, held)
    write_json(folder / "config.json", config)


def _config(sae: SAE) -> dict[str, Any]:
    factor = sae.n_features / sae.d_in
    if int(sae.d_in * factor) < sae.n_features:  # theirs is int(d_model * expansion_factor)
        factor = math.nextafter(factor, math.inf)
    point = to_hook(sae.point) or sae.point
    return {
        "sae_type": "sae", "d_model": sae.d_in, "expansion_factor": factor, "use_decoder_bias": True,
        "act_fn": sae.rule, "norm_activation": "token-wise" if sae.input_norm == "sphere" else "inference",
        "sparsity_include_decoder_norm": sae.norms == "gate", "top_k": sae.k or 50, "use_triton_kernel": False,
        "sparsity_threshold_for_triton_spmm_kernel": 0.996, "jumprelu_threshold_window": 2.0,
        "hook_point_in": point, "hook_point_out": to_hook(sae.writes_to) or sae.writes_to, "use_glu_encoder": False,
    }  # fmt: skip
