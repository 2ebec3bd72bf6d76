"""EleutherAI sparsify's folders: one a hook point, named after the module whose output is reconstructed.

cfg.json          d_in, k, num_latents (0: d_in x expansion_factor), activation, transcode, skip_connection, …
sae.safetensors   encoder.weight (F, d), encoder.bias, W_dec (F, d), b_dec, [W_skip (d, d)]

a = TopK(ReLU(W (x - b_dec) + b));  x as it is where `transcode`, which reads the module's input
y = W_dec^T a + b_dec  (+ W_skip x)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cutaway.core import InputError, write_json
from cutaway.features.exchange.names import from_module
from cutaway.features.files import read_object, read_tensors, write_tensors
from cutaway.features.sae import SAE

EXTRA = "sparsify"
WEIGHTS = "sae.safetensors"
_NAMES = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "W_dec", "b_dec": "b_dec", "W_skip": "W_skip"}


def is_one(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() and (folder / "cfg.json").is_file()


def read(folder: Path) -> SAE:
    """Raises `InputError` naming sparsify's file and what is wrong with it."""
    config = read_object(folder / "cfg.json")
    activation = config.get("activation", "topk")
    if activation != "topk":
        raise InputError(f"{folder / 'cfg.json'}: sparsify's {activation!r} is not read here; topk is.")
    held = read_tensors(folder / WEIGHTS)
    needed = {n for n in _NAMES.values() if n != "W_skip"} | ({"W_skip"} if config.get("skip_connection") else set())
    if set(held) != needed:
        raise InputError(
            f"{folder / WEIGHTS}: sparsify's file holds {', '.join(sorted(needed))}; "
            f"{', '.join(sorted(held))} were found."
        )
    d_in, k = config.get("d_in"), config.get("k")
    if not isinstance(d_in, int) or not isinstance(k, int):
        raise InputError(f"{folder / 'cfg.json'}: sparsify's config has d_in and k; {d_in} and {k} were found.")
    features = config.get("num_latents") or d_in * int(config.get("expansion_factor") or 0)
    shape = tuple(held["encoder.weight"].shape)
    if shape != (features or shape[0], d_in) or tuple(held["W_dec"].shape) != shape:
        raise InputError(
            f"{folder / WEIGHTS}: encoder.weight and W_dec of this sparsify config are [{features or 'F'}, {d_in}]; "
            f"{list(shape)} and {list(held['W_dec'].shape)} were found."
        )
    output = from_module(folder.name)
    transcode = bool(config.get("transcode"))
    return SAE.from_tensors(
        {ours: held[theirs] for ours, theirs in _NAMES.items() if theirs in held},
        rule="topk",
        k=k,
        centred=not transcode,
        point=output.replace("mlp_out", "mlp_in") if transcode else output,
        output_point=(output or "?") if transcode else None,
        extra={EXTRA: config},
        folder=folder,
    )


def write(sae: SAE, folder: str | Path) -> None:
    """Raises `InputError` for what is not TopK, which is all that sparsify computes."""
    folder = Path(folder)
    transcode = sae.output_point is not None
    config: dict[str, Any] | None = sae.extra.get(EXTRA)
    if config is None:
        if sae.rule != "topk" or sae.input_norm:
            raise InputError(f"sparsify knows TopK on inputs as they are; this dictionary's rule is {sae.rule}.")
        if sae.norms is not None:
            sae = sae.plain()
        sae = sae.plain() if transcode and sae.centred else sae if transcode else sae.centred_form()
        if sae.d_in != sae.d_out:
            raise InputError(f"sparsify's dictionaries have one width; this one reads {sae.d_in}, writes {sae.d_out}.")
        config = {
            "activation": "topk", "expansion_factor": 0, "normalize_decoder": False, "num_latents": sae.n_features,
            "k": sae.k, "multi_topk": False, "skip_connection": sae.W_skip is not None, "transcode": transcode,
            "d_in": sae.d_in,
        }  # fmt: skip
    (folder / "cfg.json").unlink(missing_ok=True)
    write_tensors(folder / WEIGHTS, {_NAMES[name]: value for name, value in sae.tensors().items()})
    write_json(folder / "cfg.json", config)
