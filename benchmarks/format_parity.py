"""Files that SAELens, dictionary_learning, sparsify, circuit-tracer and llamascopium themselves write, read here and
there: the same activations and reconstructions.

    python benchmarks/format_parity.py --peer-python PEER/bin/python

PEER: an environment with any of them. Each saves a random dictionary of every kind it has with what it computes from
fixed inputs; we read the folder and compare; then we write it in that package's format, and the package reads that.
Files of Gemma Scope, whose trainer is not public, are laid out as published and read by SAELens's loaders for them,
from the folder in place of a download. llamascopium needs a transformer-lens before 3.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from cutaway.features import circuit_tracer, load
from cutaway.features.exchange import dictionary_learning, gemma_scope, gemma_scope_2, llamascopium, saelens, sparsify

D, F, K, D_OUT = 24, 96, 8, 12

# Below, each peer's code has `made(name, more, folder)`, which writes a random dictionary, `read(folder)` and
# `computed(dictionary, x)`: dense activations and the output. Here it is run over the cases of that peer.
LOOP = """
root, cases, d, f = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
def result(dictionary):
    with torch.no_grad():
        a, y = computed(dictionary, x)
    return {"a": (a.to_dense() if a.is_sparse else a).contiguous(), "y": y.contiguous()}
x = load_file(root / "x.safetensors")["x"]
for name, more in cases.items():
    folder = root / name
    if (folder / "back").is_dir():
        save_file(result(read(folder / "back")), folder / "back.safetensors")
        continue
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    save_file(result(made(name, more, folder)), folder / "computed.safetensors")
"""
HEAD = """
import sys, json, torch
from pathlib import Path
from safetensors.torch import load_file, save_file
def drawn(module):
    for name, p in module.named_parameters():
        p.data = torch.randn_like(p) * (0.3 if name == "r_mag" else 1)
        if name.endswith("threshold"): p.data = p.data.abs()
"""

SAELENS = """
from sae_lens import SAE
from sae_lens.registry import get_sae_class
def computed(sae, x):
    a = sae.encode(x)
    return a, sae(x) if "transcoder" in sae.cfg.architecture() else sae.decode(a)
def made(name, more, folder):
    kind, config = get_sae_class(name.split("-")[0])
    sae = kind(config(d_in=d, d_sae=f, **more))
    sae.cfg.metadata.hook_name = "blocks.1.hook_resid_post"
    sae.cfg.metadata.model_name = "tiny"
    drawn(sae)
    if name == "matching_pursuit":
        sae.W_dec.data /= sae.W_dec.data.norm(dim=1, keepdim=True)
    sae.save_model(str(folder))
    return sae
def read(folder):
    return SAE.load_from_disk(str(folder))
"""

DICTIONARY_LEARNING = """
from dictionary_learning import dictionary
from dictionary_learning.trainers import batch_top_k, matryoshka_batch_top_k, top_k
from dictionary_learning.utils import load_dictionary
def computed(ae, x):
    a = ae.encode(x)
    return a, ae(x)
def made(name, more, folder):
    held = [getattr(m, name) for m in (dictionary, batch_top_k, matryoshka_batch_top_k, top_k) if hasattr(m, name)][0]
    ae = held(d, f, **more)
    drawn(ae)
    if name == "AutoEncoder":  # which is scaled so when it is read
        ae.decoder.weight.data /= ae.decoder.weight.data.norm(dim=0, keepdim=True)
    if name in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        ae.threshold.fill_(4.0)
    torch.save(ae.state_dict(), folder / "ae.pt")
    trainer = {"dict_class": name, "layer": 1, "submodule_name": "resid_post_layer_1", "activation_dim": d, **more}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer}))
    return ae
def read(folder):
    return load_dictionary(str(folder), "cpu")[0]
"""

SPARSIFY = """
from sparsify.config import SparseCoderConfig
from sparsify.sparse_coder import SparseCoder
def computed(sae, x):
    found = sae.encode(x)
    a = torch.zeros(len(x), f).scatter(1, found.top_indices, found.top_acts)
    return a, sae(x).sae_out
def made(name, more, folder):
    sae = SparseCoder(d, SparseCoderConfig(num_latents=f, **more), device="cpu")
    drawn(sae)
    sae.save_to_disk(folder)
    return sae
def read(folder):
    return SparseCoder.load_from_disk(folder)
"""

CIRCUIT_TRACER = """
from circuit_tracer.transcoder.activation_functions import JumpReLU
from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder, load_clt
from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder, TranscoderSet, load_relu_transcoder
HOOKS = {"feature_input_hook": "hook_resid_mid", "feature_output_hook": "hook_mlp_out"}
FLOAT = {"dtype": torch.float32, "device": torch.device("cpu")}
def computed(dictionary, x):
    a = dictionary.encode(x)
    if isinstance(dictionary, CrossLayerTranscoder):
        return a, dictionary(x)
    return a, torch.stack([one(part) for one, part in zip(dictionary, x)])
def made(name, more, folder):
    layers = len(x)
    if more["kind"] == "cross_layer_transcoder":
        held = CrossLayerTranscoder(layers, f, d, more["rule"], lazy_decoder=False, **HOOKS, **FLOAT)
    else:
        rule = {"relu": lambda: torch.relu, "jump_relu": lambda: JumpReLU(torch.zeros(f), 0.1)}[more["rule"]]
        skip = more.get("skip", False)
        each = {i: SingleLayerTranscoder(d, f, rule(), i, skip_connection=skip, **FLOAT) for i in range(layers)}
        held = TranscoderSet(each, **HOOKS)
    drawn(held)
    held.to_safetensors(str(folder))
    (folder / "config.yaml").write_text(json.dumps({"model_name": "tiny", "model_kind": more["kind"], **HOOKS}))
    return held
def read(folder):
    if (folder / "W_enc_0.safetensors").is_file():
        return load_clt(str(folder), lazy_decoder=False, **HOOKS, **FLOAT)
    whole = {"lazy_encoder": False, "lazy_decoder": False, **FLOAT}
    each = {i: load_relu_transcoder(str(folder / f"layer_{i}.safetensors"), i, **whole) for i in range(len(x))}
    return TranscoderSet(each, **HOOKS)
"""

LLAMASCOPIUM = """
from llamascopium import SAEConfig, SparseAutoEncoder, SparseDictionary
def computed(sae, x):
    hooks = (sae.cfg.hook_point_in, sae.cfg.hook_point_out)
    given, scales = sae.normalize_activations({hook: x for hook in hooks}, return_scale_factor=True)
    a = sae.encode(given[hooks[0]])
    return a, sae.denormalize_activations({hooks[1]: sae.decode(a)}, scales)[hooks[1]]
def made(name, more, folder):
    to = "blocks.1.hook_mlp_out" if more.pop("transcoder", False) else "blocks.1.hook_resid_mid"
    sae = SparseAutoEncoder(SAEConfig(
        sae_type="sae", d_model=d, expansion_factor=f / d, hook_point_in="blocks.1.hook_resid_mid", hook_point_out=to,
        device="cpu", dtype=torch.float32, **more,
    ))
    drawn(sae)
    sae.set_dataset_average_activation_norm({hook: 3.0 + i for i, hook in enumerate(sae.cfg.associated_hook_points)})
    sae.save_pretrained(folder)
    sae.cfg.save_hyperparameters(folder)
    return sae
def read(folder):
    return SparseDictionary.from_pretrained(str(folder))
"""

# SAELens asks the hub for files and shapes: here the repository is the folder above, and nothing is fetched.
GEMMA_SCOPE = """
import numpy as np
from safetensors import safe_open
from sae_lens.loading import pretrained_sae_loaders as loaders
from sae_lens.registry import get_sae_class
def downloaded(repo_id, filename, subfolder="", **_):
    return str(Path(repo_id) / subfolder / filename)
def shapes(repo_id, filename):
    with safe_open(Path(repo_id) / filename, "pt") as file:
        return {key: list(file.get_slice(key).get_shape()) for key in file.keys()}
loaders.hf_hub_download, loaders.get_safetensors_tensor_shapes = downloaded, shapes
def computed(sae, x):
    a = sae.encode(x)
    return a, sae(x) if "transcoder" in sae.cfg.architecture() else sae.decode(a)
def made(name, more, folder):
    w = {"W_enc": torch.randn(d, f), "W_dec": torch.randn(f, d), "b_enc": torch.randn(f), "b_dec": torch.randn(d),
         "threshold": torch.randn(f).abs()}
    if more["version"] == 1:
        np.savez(folder / "params.npz", **{key: value.numpy() for key, value in w.items()})
    else:
        w = {key.lower(): value for key, value in w.items()}
        config = {"architecture": "jump_relu", "model_name": "google/gemma-3-270m", "width": f, **more["config"]}
        if config.get("affine_connection"):
            w["affine_skip_connection"] = torch.randn(d, d)
        save_file(w, folder / "params.safetensors")
        (folder / "config.json").write_text(json.dumps(config))
    return read(folder)
def read(folder):
    one = (folder / "params.npz").is_file()
    load = loaders.gemma_2_sae_huggingface_loader if one else loaders.gemma_3_sae_huggingface_loader
    over = {"d_in": d, "d_sae": f}
    # The layer and the kind are told from the folder's name, the point from the repository's.
    repository = folder.parents[1] if folder.name == "back" else folder.parent
    config, state, _ = load(str(repository), str(folder.relative_to(repository)), "cpu", cfg_overrides=over)
    kind, settings = get_sae_class(config["architecture"])
    sae = kind(settings.from_dict(loaders.handle_config_defaulting(config)))
    if "W_skip" in state:  # stored as x @ W; 6.54 takes it as it is and multiplies by its transpose
        state["W_skip"] = state["W_skip"].T.contiguous()
    sae.load_state_dict(state)
    return sae
"""

# name -> code, what is imported to see whether it is there, our writer, the files of tensors, cases with their settings
PEERS: dict[str, tuple[str, str, Any, str, dict[str, dict[str, Any]]]] = {
    "SAELens": (SAELENS, "sae_lens", saelens, saelens.WEIGHTS, {
        "standard": {}, "standard-free": {"apply_b_dec_to_input": False},
        "standard-ln": {"normalize_activations": "layer_norm"},
        "topk": {"k": K}, "topk-rescaled": {"k": K, "rescale_acts_by_decoder_norm": True},
        "topk-sphere": {"k": K, "normalize_activations": "constant_norm_rescale"},
        "jumprelu": {"apply_b_dec_to_input": False}, "gated": {}, "matching_pursuit": {"max_iterations": K},
        "transcoder": {"apply_b_dec_to_input": False, "d_out": D_OUT},
        "skip_transcoder": {"apply_b_dec_to_input": False, "d_out": D_OUT},
        "jumprelu_transcoder": {"apply_b_dec_to_input": False, "d_out": D_OUT},
    }),
    "dictionary_learning": (
        DICTIONARY_LEARNING, "dictionary_learning", dictionary_learning, dictionary_learning.WEIGHTS, {
            "AutoEncoder": {}, "AutoEncoderNew": {}, "GatedAutoEncoder": {}, "JumpReluAutoEncoder": {},
            "AutoEncoderTopK": {"k": K}, "BatchTopKSAE": {"k": K},
            "MatryoshkaBatchTopKSAE": {"k": K, "group_sizes": [F // 4, F // 4, F // 2]},
        },
    ),
    "sparsify": (SPARSIFY, "sparsify", sparsify, "sae.safetensors", {
        "sae": {"k": K}, "transcoder": {"k": K, "transcode": True},
        "skip transcoder": {"k": K, "transcode": True, "skip_connection": True},
    }),
    "circuit-tracer": (CIRCUIT_TRACER, "circuit_tracer", circuit_tracer, "*.safetensors", {
        "PLT, relu": {"kind": "transcoder_set", "rule": "relu"},
        "PLT, jumprelu": {"kind": "transcoder_set", "rule": "jump_relu"},
        "PLT, relu, skip": {"kind": "transcoder_set", "rule": "relu", "skip": True},
        "CLT, relu": {"kind": "cross_layer_transcoder", "rule": "relu"},
        "CLT, jumprelu": {"kind": "cross_layer_transcoder", "rule": "jump_relu"},
    }),
    "llamascopium": (LLAMASCOPIUM, "llamascopium", llamascopium, llamascopium.WEIGHTS, {
        "relu": {}, "relu, inference": {"norm_activation": "inference"}, "jumprelu": {"act_fn": "jumprelu"},
        "topk": {"act_fn": "topk", "top_k": K}, "topk, token-wise": {
            "act_fn": "topk", "top_k": K, "norm_activation": "token-wise"},
        "jumprelu, no norms": {"act_fn": "jumprelu", "sparsity_include_decoder_norm": False},
        "topk, no bias": {"act_fn": "topk", "top_k": K, "use_decoder_bias": False},
        "transcoder": {"act_fn": "jumprelu", "transcoder": True},
    }),
    "Gemma Scope": (GEMMA_SCOPE, "sae_lens", gemma_scope, gemma_scope.WEIGHTS, {
        "gemma-scope-2b-pt-res/layer_1-width_16k": {"version": 1},
    }),
    "Gemma Scope 2": (GEMMA_SCOPE, "sae_lens", gemma_scope_2, gemma_scope_2.WEIGHTS, {
        "resid_post/layer_1_resid_post": {"version": 2, "config": {"hf_hook_point_in": "model.layers.1.output"}},
        "transcoder/layer_1_transcoder": {"version": 2, "config": {
            "hf_hook_point_in": "model.layers.1.pre_feedforward_layernorm.output",
            "hf_hook_point_out": "model.layers.1.post_feedforward_layernorm.output"}},
        "transcoder/layer_1_transcoder_affine": {"version": 2, "config": {
            "hf_hook_point_in": "model.layers.1.pre_feedforward_layernorm.output",
            "hf_hook_point_out": "model.layers.1.post_feedforward_layernorm.output", "affine_connection": True}},
    }),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="the python of an environment with peers")
    python = parser.parse_args().peer_python
    worst, there = 0.0, 0
    for peer, (_, module, *_rest) in PEERS.items():
        if subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode:
            print(f"{peer} is not installed there\n")
            continue
        there += 1
        worst = max(worst, compared(peer, python))
    print(f"largest difference, over the largest absolute value: {worst:.2e} (64 inputs, d {D}, {F} features)")
    return 0 if there and worst < 1e-5 else 1


def compared(peer: str, python: str) -> float:
    """Prints a line a case; the largest difference, infinite where tensors that we wrote back differ."""
    code, _, format_, weights, cases = PEERS[peer]
    torch.manual_seed(1)
    worst = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        x = 3 * torch.randn(64, D) + 1
        if peer == "circuit-tracer":
            x = x.view(4, 16, D)  # layers, tokens
        save_file({"x": x}, root / "x.safetensors")

        def asked() -> None:
            given = [str(root), json.dumps(cases), str(D), str(F)]
            subprocess.run([python, "-c", HEAD + code + LOOP, *given], check=True)

        asked()
        rows = {}
        for name in cases:
            folder = root / name
            theirs, sae = load_file(folder / "computed.safetensors"), load(folder)
            rows[name] = [_gap(value, theirs[n]) for n, value in ours(sae, x).items()]
            format_.write(sae, folder / "back")
            old, new = (_tensors(held, weights) for held in (folder, folder / "back"))
            # llamascopium keeps thresholds as logarithms, which rounds; all else is equal.
            same = old.keys() == new.keys()
            rows[name].append(max(_gap(new[n], old[n]) for n in old) if same else float("inf"))
        asked()
        print(f"{peer:26} {'activations':>12} {'output':>12} {'written, read there':>20}  tensors")
        for name, (a_gap, y_gap, tensors) in rows.items():
            theirs, back = (load_file(root / name / held) for held in ("computed.safetensors", "back.safetensors"))
            returned = max(_gap(back[n], theirs[n]) for n in theirs)
            worst = max(worst, a_gap, y_gap, returned, tensors)
            told = "equal" if tensors == 0 else f"{tensors:.2e}"
            print(f"{name.rpartition('/')[2]:26} {a_gap:12.2e} {y_gap:12.2e} {returned:20.2e}  {told}")
        print()
    return worst


def ours(dictionary: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What we compute: of a set, whose layers come first in x, with ours behind the tokens."""
    if x.ndim == 3:
        return {name: value.transpose(0, 1) for name, value in _read(dictionary, x.transpose(0, 1)).items()}
    return _read(dictionary, x)


def _read(dictionary: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    a = dictionary.encode(x)
    return {"a": a, "y": dictionary.decode(a, x)}


def _tensors(folder: Path, pattern: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob(pattern)):
        if path.name in ("computed.safetensors", "back.safetensors"):
            continue
        held = _read_file(path)
        found |= {f"{path.name}: {name}": value for name, value in held.items()}
    return found


def _read_file(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".npz":
        with np.load(path) as held:
            return {name: torch.from_numpy(held[name]) for name in held.files}
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)


def _gap(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    if torch.equal(ours, theirs):
        return 0.0
    return float((ours - theirs).abs().max() / theirs.abs().max()) if ours.shape == theirs.shape else float("inf")


if __name__ == "__main__":
    sys.exit(main())
