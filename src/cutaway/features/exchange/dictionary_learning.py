"""dictionary_learning's folders: ae.pt (a state dict) and config.json, told apart by config["trainer"]["dict_class"].

    AutoEncoder             encoder.weight (F, d), encoder.bias, decoder.weight (d, F), bias:  ReLU(W (x - b) + b_enc)
    AutoEncoderNew          the same without taking the bias from x; decoder.bias
    GatedAutoEncoder        encoder.weight, decoder.weight, decoder_bias, r_mag, gate_bias, mag_bias
    JumpReluAutoEncoder     W_enc (d, F), W_dec (F, d), b_enc, b_dec, threshold (F):  x as it is
    AutoEncoderTopK         encoder.weight, encoder.bias, decoder.weight, b_dec, k, [threshold]:
                            TopK(W (x - b_dec) + b_enc)
    BatchTopKSAE            the same with threshold:  ReLU(h) 1[ReLU(h) > threshold]; -1 is unset, and lets all through
    MatryoshkaBatchTopKSAE  W_enc (d, F), W_dec (F, d), b_enc, b_dec, k, threshold, group_sizes: as BatchTopK

The equations are those of the published package, 0.1.0. Before it, gated and JumpReLU activations were multiplied by
|W_dec| (and divided by it when decoded); its trainers keep decoders at length 1, where that is the same, and so does
what is written here. ae.pt is read with `weights_only`: a pickle that would run code is refused.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName, atomic_path, write_json
from cutaway.features.activations import Inference
from cutaway.features.files import read_object
from cutaway.features.sae import SAE
from cutaway.features.transcoders import ModelFacts

EXTRA = "dictionary_learning"
WEIGHTS = "ae.pt"
_LINEAR = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "decoder.weight"}
_PLAIN = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
# dict_class: rule, our tensor -> theirs, other entries (optional in brackets), b_dec taken from x
_CLASSES: dict[str, tuple[Inference, dict[str, str], tuple[str, ...], bool]] = {
    "AutoEncoder": ("relu", {**_LINEAR, "b_dec": "bias"}, (), True),
    "AutoEncoderNew": ("relu", {**_LINEAR, "b_dec": "decoder.bias"}, (), False),
    "GatedAutoEncoder": (
        "gated",
        {
            "W_enc": "encoder.weight", "W_dec": "decoder.weight", "b_dec": "decoder_bias", "r_mag": "r_mag",
            "b_enc": "gate_bias", "b_mag": "mag_bias",
        },
        (),
        True,
    ),
    "JumpReluAutoEncoder": ("jumprelu", {**_PLAIN, "threshold": "threshold"}, (), False),
    "AutoEncoderTopK": ("topk", {**_LINEAR, "b_dec": "b_dec"}, ("k", "[threshold]"), True),
    "BatchTopKSAE": ("jumprelu", {**_LINEAR, "b_dec": "b_dec", "threshold": "threshold"}, ("k",), True),
    "MatryoshkaBatchTopKSAE": ("jumprelu", {**_PLAIN, "threshold": "threshold"}, ("k", "group_sizes"), True),
}  # fmt: skip
_WRITTEN: dict[str, str] = {"gated": "GatedAutoEncoder", "jumprelu": "JumpReluAutoEncoder", "topk": "AutoEncoderTopK"}


def is_one(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file()


def read(folder: Path) -> SAE:
    """Raises `InputError` naming dictionary_learning's file and what is wrong with it."""
    config = read_object(folder / "config.json")
    trainer: Mapping[str, Any] = config.get("trainer") or {}
    name = str(trainer.get("dict_class", ""))
    if name not in _CLASSES:
        raise UnknownName(f"dict_class of dictionary_learning in {folder / 'config.json'}", name, _CLASSES)
    rule, names, others, centred = _CLASSES[name]
    state = _state(folder / WEIGHTS)
    needed = {*names.values(), *(entry for entry in others if not entry.startswith("["))}
    allowed = needed | {entry.strip("[]") for entry in others}
    if needed - set(state) or set(state) - allowed:
        raise InputError(
            f"{folder / WEIGHTS}: {name} of dictionary_learning holds {', '.join(sorted(needed))}; "
            f"{', '.join(sorted(state))} were found."
        )
    tensors = {ours: _turned(ours, theirs, state[theirs]) for ours, theirs in names.items()}
    features = tensors["W_dec"].shape[0]
    rest = {key: state[key] for key in state if key not in names.values()}
    scalar = rule == "jumprelu" and tensors["threshold"].ndim == 0
    if scalar:
        tensors["threshold"] = tensors["threshold"].expand(features).clone()
    width = {int(trainer[key]) for key in ("activation_dim",) if trainer.get(key)}
    if width and width != {tensors["W_enc"].shape[1]}:
        raise InputError(
            f"{folder / WEIGHTS}: this dictionary_learning config has activation_dim {width.pop()}, and the weights "
            f"read {tensors['W_enc'].shape[1]}."
        )
    return SAE.from_tensors(
        tensors,
        rule=rule,
        k=int(rest["k"]) if rule == "topk" else None,
        centred=centred,
        point=_point(trainer),
        model=ModelFacts(name=str(trainer.get("lm_name") or "")),
        extra={
            EXTRA: {"config": config, "class": name, "scalar": scalar, "rest": _written(rest), "order": list(state)}
        },
        folder=folder,
    )


def write(sae: SAE, folder: str | Path) -> None:
    """Raises `InputError` for what dictionary_learning cannot hold: transcoders, normalised inputs, matching
    pursuit."""
    folder = Path(folder)
    held: Mapping[str, Any] | None = sae.extra.get(EXTRA)
    if held is None:
        if sae.output_point is not None or sae.input_norm or sae.rule == "matching_pursuit":
            raise InputError(f"dictionary_learning's SAEs hold no {sae.input_norm or sae.rule} of this kind: {sae}.")
        name = _WRITTEN.get(sae.rule, "AutoEncoder" if sae.centred else "AutoEncoderNew")
        sae = _shaped(sae, name)
        trainer = {
            "dict_class": name, "activation_dim": sae.d_in, "dict_size": sae.n_features, "lm_name": sae.model.name,
            "layer": _layer(sae.point), "submodule_name": sae.point.replace(".", "_layer_"),
        }  # fmt: skip
        held = {"config": {"trainer": trainer, "buffer": {}}, "class": name, "scalar": False, "rest": {}}
        if sae.rule == "topk":
            held["config"]["trainer"]["k"] = sae.k
            held["rest"] = {"k": {"dtype": "int32", "value": sae.k}, "threshold": {"dtype": "float32", "value": -1.0}}
    _, names, _, _ = _CLASSES[str(held["class"])]
    tensors = sae.tensors()
    if held["scalar"]:
        tensors["threshold"] = tensors["threshold"][0].clone()
    state = {theirs: _turned(ours, theirs, tensors[ours]).contiguous() for ours, theirs in names.items()}
    state |= {k: torch.tensor(v["value"], dtype=getattr(torch, v["dtype"])) for k, v in held["rest"].items()}
    state = {name: state[name] for name in held.get("order", state)}
    (folder / "config.json").unlink(missing_ok=True)
    with atomic_path(folder / WEIGHTS) as path:
        torch.save({name: value.detach().cpu() for name, value in state.items()}, path)
    write_json(folder / "config.json", held["config"], indent=4)


def _shaped(sae: SAE, name: str) -> SAE:
    """The same reconstructions in the equations of a class."""
    if name == "GatedAutoEncoder":
        if sae.norms is None and sae.centred:
            return sae
        raise InputError("a gate is written only as dictionary_learning itself saves it; convert sae.plain() instead.")
    if name in ("AutoEncoder", "AutoEncoderNew"):
        return sae
    if name == "JumpReluAutoEncoder":
        return sae.plain().unit()
    return (sae.plain() if sae.norms else sae).centred_form()


def _turned(ours: str, theirs: str, value: Tensor) -> Tensor:
    """(F, d) <-> theirs: Linear layers keep (out, in), parameters W_enc (d, F), W_dec (F, d)."""
    transposed = (ours == "W_dec" and theirs == "decoder.weight") or (ours == theirs == "W_enc")
    return value.T if transposed and value.ndim == 2 else value


def _state(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle's protocol: what matters is said below
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # torch's own words advise to read it all the same
            first = "its pickle holds more than tensors, or is none"
        first = first.rstrip(".")
        raise InputError(f"{path} is no plain state dict of dictionary_learning, and is not read: {first}.") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path} is no state dict of dictionary_learning: names and tensors were expected.")
    return {str(name): value for name, value in found.items()}


def _written(rest: Mapping[str, Tensor]) -> dict[str, Any]:
    return {k: {"dtype": str(v.dtype).removeprefix("torch."), "value": v.tolist()} for k, v in rest.items()}


def _point(trainer: Mapping[str, Any]) -> str:
    module, layer = str(trainer.get("submodule_name") or ""), trainer.get("layer")
    name = next((n for n in ("resid_post", "resid_pre", "resid_mid", "mlp_out", "attn_out") if n in module), "")
    return f"{name}.{int(layer)}" if name and isinstance(layer, int) else ""


def _layer(point: str) -> int | None:
    layer = point.rpartition(".")[2]
    return int(layer) if layer.isdigit() else None
