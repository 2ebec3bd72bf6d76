"""Gemma Scope's files (the first): params.npz with W_enc (d, F), W_dec (F, d_out), b_enc, b_dec, threshold.

    a = ReLU(x W_enc + b_enc) 1[x W_enc + b_enc > threshold],   y = a W_dec + b_dec

The file says nothing else; the point is told from its path (…-pt-res/layer_20/width_16k/…) where that has one.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import torch

from cutaway.core import InputError, atomic_path
from cutaway.features.sae import SAE
from cutaway.features.transcoders import ModelFacts

EXTRA = "gemma_scope"
WEIGHTS = "params.npz"
_NAMES = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
_SITES = {"res": "resid_post", "mlp": "mlp_out_post", "att": "z"}


def is_one(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file()


def read(folder: Path) -> SAE:
    """Pickled arrays are refused. Raises `InputError` naming the file and what is wrong with it."""
    path = folder / WEIGHTS
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path} is no Gemma Scope archive of plain arrays: {error}.") from error
    if set(held) != set(_NAMES):
        raise InputError(f"{path}: Gemma Scope's file holds {', '.join(_NAMES)}; {', '.join(sorted(held))} were found.")
    if any(value.dtype.kind != "f" for value in held.values()):
        raise InputError(f"{path}: Gemma Scope's arrays are floating-point numbers.")
    d_in, features = held["W_enc"].shape if held["W_enc"].ndim == 2 else (0, 0)
    if held["W_dec"].ndim != 2 or held["W_dec"].shape[0] != features or held["threshold"].shape != (features,):
        raise InputError(
            f"{path}: Gemma Scope's W_enc is (d, F), W_dec (F, d_out), threshold (F); "
            f"{', '.join(f'{n} {list(v.shape)}' for n, v in held.items())} were found."
        )
    found = {name: torch.from_numpy(value) for name, value in held.items()}
    place = folder.resolve().as_posix()
    layer, site = re.search(r"layer_(\d+)", place), re.search(r"gemma-scope-[^/]*?-(res|mlp|att)\b", place)
    point = f"{_SITES[site[1]]}.{layer[1]}" if layer and site else ""
    model = re.search(r"gemma-scope-(\w+)-(pt|it)", place)
    name = f"google/gemma-2-{model[1]}{'-it' if model[2] == 'it' else ''}" if model else ""
    return SAE.from_tensors(
        {**found, "W_enc": found["W_enc"].T},
        rule="jumprelu",
        point=point,
        output_point="?" if found["W_dec"].shape[1] != d_in else None,
        model=ModelFacts(name=name),
        extra={EXTRA: {"order": list(held)}},
        folder=folder,
    )


def write(sae: SAE, folder: str | Path) -> None:
    """Raises `InputError` for what is no JumpReLU on inputs as they are."""
    if EXTRA not in sae.extra:
        sae = sae.plain()
    if sae.rule != "jumprelu" or sae.W_skip is not None:
        raise InputError(f"Gemma Scope's files hold JumpReLU without skip; this dictionary's rule is {sae.rule}.")
    tensors = {**sae.tensors(), "W_enc": sae.W_enc.T}
    order = sae.extra.get(EXTRA, {}).get("order", _NAMES)
    arrays = {name: tensors[name].detach().cpu().contiguous().numpy() for name in order}
    with atomic_path(Path(folder) / WEIGHTS) as path, path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
