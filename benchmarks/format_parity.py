"""Files that SAELens, dictionary_learning, sparsify and circuit-tracer themselves write, read here and there: the same
activations and reconstructions.

    python benchmarks/format_parity.py --peer-python PEER/bin/python

PEER: an environment with any of them. Each saves a random dictionary of every kind it has with what it computes from
fixed inputs; we read the folder and compare; then we write it in that package's format, and the package reads that.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from cutaway.features import circuit_tracer, load
from cutaway.features.exchange import dictionary_learning, saelens, sparsify

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
    folder.mkdir()
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
            same = old.keys() == new.keys() and all(torch.equal(old[n], new[n]) for n in old)
            rows[name].append(0.0 if same else float("inf"))
        asked()
        print(f"{peer:22} {'activations':>12} {'output':>12} {'written, read there':>20}  tensors")
        for name, (a_gap, y_gap, tensors) in rows.items():
            theirs, back = (load_file(root / name / held) for held in ("computed.safetensors", "back.safetensors"))
            returned = max(_gap(back[n], theirs[n]) for n in theirs)
            worst = max(worst, a_gap, y_gap, returned, tensors)
            print(f"{name:22} {a_gap:12.2e} {y_gap:12.2e} {returned:20.2e}  {'equal' if tensors == 0 else 'DIFFER'}")
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
        held = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
        found |= {f"{path.name}: {name}": value for name, value in held.items()}
    return found


def _gap(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


if __name__ == "__main__":
    sys.exit(main())
