"""Weights for files of other packages, and the law that writing gives back what was read."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file, save_file

from cutaway.features import load
from cutaway.features.exchange import FORMS

D, F, K = 8, 20, 4


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


X = normal(3, 7, D, seed=9)
BASE = {"W_enc": normal(D, F), "W_dec": normal(F, D), "b_enc": normal(F), "b_dec": normal(D, seed=2)}


def top(h, k=K):
    """ReLU of the k largest."""
    cut = h.topk(k, dim=-1).values[..., -1:]
    return h.relu() * (h >= cut)


def again(tmp_path, form, weights, config):
    """reader -> writer gives the same tensors, bit for bit, and the same config."""
    FORMS[form].write(load(tmp_path / "a"), tmp_path / "b")
    if weights.endswith("safetensors"):
        old, new = (load_file(tmp_path / name / weights) for name in "ab")
    else:
        old, new = (torch.load(tmp_path / name / weights, weights_only=True) for name in "ab")
    assert list(old) == list(new)
    for name, value in old.items():
        assert new[name].dtype == value.dtype
        assert torch.equal(new[name], value)
    assert json.loads((tmp_path / "b" / config).read_text()) == json.loads((tmp_path / "a" / config).read_text())


def write_saelens(folder, architecture, config, tensors):
    folder.mkdir(parents=True, exist_ok=True)
    held = {
        "architecture": architecture, "d_in": D, "d_sae": F, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
        "metadata": {"model_name": "tiny", "hook_name": "blocks.1.hook_resid_post", "sae_lens_version": "6.54.0"},
        **config,
    }  # fmt: skip
    if "transcoder" in architecture:
        held["metadata"] |= {"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"}
    (folder / "cfg.json").write_text(json.dumps(held))
    save_file({n: v.contiguous() for n, v in tensors.items()}, folder / "sae_weights.safetensors")
