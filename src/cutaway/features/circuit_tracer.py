"""circuit-tracer's dictionary folders (0.5): read and written without loss.

    config.yaml   model_name, model_kind (transcoder_set | cross_layer_transcoder), feature_input_hook,
                  feature_output_hook, scan, [transcoders: paths, one a layer], [activation, k]
    PLT           layer_{i}.safetensors: W_enc (F, d), W_dec (F, d), b_enc, b_dec, [activation_function.threshold],
                  [W_skip]
    CLT           W_enc_{i}.safetensors: W_enc_{i} (F, d), b_enc_{i}, b_dec_{i}, [threshold_{i}]
                  W_dec_{i}.safetensors: W_dec_{i} (F, layers - i, d)

Hook names are TransformerLens's. `read` keeps the whole config and each tensor's precision, so `write` gives both back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]
from torch import Tensor

from cutaway.core import InputError, UnknownName, write_text
from cutaway.features.activations import Inference
from cutaway.features.files import read_tensors, write_tensors
from cutaway.features.settings import Kind
from cutaway.features.transcoders import Layer, ModelFacts, Transcoders

EXTRA = "circuit_tracer"
KINDS: dict[str, Kind] = {"transcoder_set": "plt", "cross_layer_transcoder": "clt"}

# Hook names as our points, without the layer. On families with a norm behind the MLP, `hook_mlp_out` lies behind it:
# `fit.placed` asks the model.
HOOKS = {
    "hook_resid_mid": "resid_mid",
    "hook_mlp_in": "resid_mid",
    "mlp.hook_in": "mlp_in",
    "ln2.hook_normalized": "mlp_normalized",
    "hook_mlp_out": "mlp_out",
    "mlp.hook_out": "mlp_out",
}
_NAMES = {
    "resid_mid": "hook_resid_mid",
    "mlp_in": "mlp.hook_in",
    "mlp_normalized": "ln2.hook_normalized",
    "mlp_out": "mlp.hook_out",
    "mlp_out_post": "hook_mlp_out",
}


def is_one(folder: Path) -> bool:
    return (folder / "config.yaml").is_file()


def read(folder: Path) -> Transcoders:
    """Raises `InputError` where config.yaml or a layer's file is missing, broken or of another kind."""
    config = _config(folder)
    kind = KINDS.get(str(config.get("model_kind")))
    if kind is None:
        raise UnknownName("model_kind in config.yaml", str(config.get("model_kind")), KINDS)
    layers, ks = _read_clt(folder) if kind == "clt" else _read_plt(folder, config)
    k = _k(config, ks)
    rule: Inference = "topk" if k else ("relu" if layers[0].threshold is None else "jumprelu")
    if any((held.threshold is None) != (layers[0].threshold is None) for held in layers):
        raise InputError(f"{folder}: some layers have a JumpReLU threshold and some have none.")
    return Transcoders(
        kind=kind,
        rule=rule,
        layers=tuple(layers),
        k=k,
        model=ModelFacts(
            name=str(config.get("model_name", "")), n_layers=len(layers), d_model=layers[0].b_dec.shape[0]
        ),
        input_name=_point(config, "feature_input_hook"),
        output_name=_point(config, "feature_output_hook"),
        extra={EXTRA: config},
        folder=folder,
    )


def write(dictionary: Transcoders, folder: str | Path) -> None:
    """Raises `InputError` for what circuit-tracer cannot hold: TopK (it would be read as ReLU), a CLT with skip."""
    folder = Path(folder)
    held_config = dict(dictionary.extra.get(EXTRA, {}))
    if dictionary.rule == "topk" and "k" not in held_config:
        raise InputError("circuit-tracer knows ReLU and JumpReLU; it would read a TopK dictionary as ReLU.")
    if dictionary.kind == "clt" and any(held.W_skip is not None for held in dictionary.layers):
        raise InputError("circuit-tracer's CLT folders hold no skip connection.")
    for name in (dictionary.input_name, dictionary.output_name):
        if not held_config and name not in _NAMES:
            raise UnknownName("hook of circuit-tracer for the point", name, _NAMES)
    config = held_config or {
        "model_name": dictionary.model.name,
        "model_kind": next(name for name, kind in KINDS.items() if kind == dictionary.kind),
        "feature_input_hook": _NAMES[dictionary.input_name],
        "feature_output_hook": _NAMES[dictionary.output_name],
        "scan": f"{dictionary.model.name or 'model'}-{dictionary.kind}",
    }
    (folder / "config.yaml").unlink(missing_ok=True)
    for i, layer in enumerate(dictionary.layers):
        for name, tensors in (_clt_files if dictionary.kind == "clt" else _plt_files)(i, layer).items():
            write_tensors(folder / name, tensors)
    config.pop("transcoders", None)
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))


def _plt_files(i: int, layer: Layer) -> dict[str, dict[str, Tensor]]:
    tensors = {"W_enc": layer.W_enc, "W_dec": layer.W_dec[:, 0], "b_enc": layer.b_enc, "b_dec": layer.b_dec}
    if layer.threshold is not None:
        tensors["activation_function.threshold"] = layer.threshold
    if layer.W_skip is not None:
        tensors["W_skip"] = layer.W_skip
    return {f"layer_{i}.safetensors": tensors}


def _clt_files(i: int, layer: Layer) -> dict[str, dict[str, Tensor]]:
    tensors = {f"W_enc_{i}": layer.W_enc, f"b_enc_{i}": layer.b_enc, f"b_dec_{i}": layer.b_dec}
    if layer.threshold is not None:
        tensors[f"threshold_{i}"] = layer.threshold
    return {f"W_enc_{i}.safetensors": tensors, f"W_dec_{i}.safetensors": {f"W_dec_{i}": layer.W_dec}}


def _read_plt(folder: Path, config: Mapping[str, Any]) -> tuple[list[Layer], list[int | None]]:
    if "transcoders" in config:
        named = [str(path) for path in config["transcoders"]]
        remote = [path for path in named if "://" in path]
        if remote:
            raise InputError(
                f"{folder / 'config.yaml'} names files on a hub ({remote[0]}, …): fetch them into the folder first."
            )
        paths = [folder / path for path in named]
    else:
        paths = _numbered(folder, r"layer_(\d+)\.safetensors")
    layers, ks = [], []
    for path in paths:
        held = read_tensors(path)
        _known(path, held, {"W_enc", "W_dec", "b_enc", "b_dec"}, {"activation_function.threshold", "W_skip", "k"})
        W_enc, W_dec = held["W_enc"], held["W_dec"]
        if W_enc.ndim != 2 or W_dec.ndim != 2:
            raise InputError(
                f"{path}: W_enc and W_dec are matrices (F, d); shapes {list(W_enc.shape)}, {list(W_dec.shape)}."
            )
        threshold = held.get("activation_function.threshold")
        layers.append(
            Layer(
                W_enc=W_enc,
                b_enc=held["b_enc"],
                W_dec=W_dec[:, None],
                b_dec=held["b_dec"],
                threshold=_per_feature(threshold, W_enc.shape[0]),
                W_skip=held.get("W_skip"),
            )
        )
        ks.append(int(held["k"]) if "k" in held else None)
    return layers, ks


def _read_clt(folder: Path) -> tuple[list[Layer], list[int | None]]:
    layers: list[Layer] = []
    for i, path in enumerate(_numbered(folder, r"W_enc_(\d+)\.safetensors")):
        held = read_tensors(path)
        _known(path, held, {f"W_enc_{i}", f"b_enc_{i}", f"b_dec_{i}"}, {f"threshold_{i}"})
        decoder = read_tensors(folder / f"W_dec_{i}.safetensors")
        _known(folder / f"W_dec_{i}.safetensors", decoder, {f"W_dec_{i}"}, set())
        W_enc = held[f"W_enc_{i}"]
        layers.append(
            Layer(
                W_enc=W_enc,
                b_enc=held[f"b_enc_{i}"],
                W_dec=decoder[f"W_dec_{i}"],
                b_dec=held[f"b_dec_{i}"],
                threshold=_per_feature(held.get(f"threshold_{i}"), W_enc.shape[0]),
            )
        )
    return layers, []


def _numbered(folder: Path, pattern: str) -> list[Path]:
    """The files of layers 0, 1, … without a gap."""
    found = {int(m[1]): p for p in folder.iterdir() if (m := re.fullmatch(pattern, p.name))}
    shape = pattern.replace(r"(\d+)", "{i}").replace("\\", "")
    if not found:
        raise InputError(f"{folder} holds no {shape}: the dictionary is not whole.")
    missing = sorted(set(range(max(found) + 1)) - set(found))
    if missing:
        raise InputError(f"{folder} lacks {shape} of layers {missing}: every layer needs its transcoder.")
    return [found[i] for i in range(len(found))]


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{folder / 'config.yaml'} is no YAML: {error}.") from error
    if not isinstance(found, dict):
        raise InputError(f"{folder / 'config.yaml'} holds no fields.")
    return found


def _point(config: Mapping[str, Any], field: str) -> str:
    hook = str(config.get(field, "hook_resid_mid" if field == "feature_input_hook" else "hook_mlp_out"))
    if hook not in HOOKS:
        raise UnknownName(f"{field} that is known here", hook, HOOKS)
    return HOOKS[hook]


def _k(config: Mapping[str, Any], ks: list[int | None]) -> int | None:
    found = {k for k in (*ks, config.get("k")) if k is not None}
    if len(found) > 1:
        raise InputError(f"the layers have different k ({sorted(found)}); one dictionary has one k here.")
    return int(found.pop()) if found else None


def _per_feature(threshold: Tensor | None, features: int) -> Tensor | None:
    if threshold is None:
        return None
    return threshold.reshape(-1).expand(features).clone() if threshold.numel() == 1 else threshold.reshape(-1)


def _known(path: Path, held: Mapping[str, Tensor], needed: set[str], allowed: set[str]) -> None:
    if needed - set(held) or set(held) - needed - allowed:
        raise InputError(
            f"{path} should hold {', '.join(sorted(needed))} and may hold {', '.join(sorted(allowed)) or 'no more'}; "
            f"it holds {', '.join(sorted(held))}."
        )
