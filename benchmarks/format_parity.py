"""Files that SAELens itself writes, read here and there: the same activations and reconstructions.

    python benchmarks/format_parity.py --peer-python PEER/bin/python

PEER: an environment with SAELens (6.54 was run). It saves a random dictionary of each architecture with what it
computes from fixed inputs; we read the folder and compare; then we write it in SAELens's format and it reads that.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from cutaway.features import load
from cutaway.features.exchange import saelens

D, F, K, D_OUT = 24, 96, 8, 12
CASES = {
    "standard": {}, "standard-free": {"apply_b_dec_to_input": False},
    "standard-ln": {"normalize_activations": "layer_norm"},
    "topk": {"k": K}, "topk-rescaled": {"k": K, "rescale_acts_by_decoder_norm": True},
    "topk-sphere": {"k": K, "normalize_activations": "constant_norm_rescale"},
    "jumprelu": {"apply_b_dec_to_input": False}, "gated": {}, "matching_pursuit": {"max_iterations": K},
    "transcoder": {"apply_b_dec_to_input": False, "d_out": D_OUT},
    "skip_transcoder": {"apply_b_dec_to_input": False, "d_out": D_OUT},
    "jumprelu_transcoder": {"apply_b_dec_to_input": False, "d_out": D_OUT},
}  # fmt: skip

PEER = """
import sys, json, torch
from pathlib import Path
from safetensors.torch import load_file, save_file
from sae_lens import SAE
from sae_lens.registry import get_sae_class
root, cases, d, f = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
x = load_file(root / "x.safetensors")["x"]
def computed(sae):
    with torch.no_grad():
        a = sae.encode(x)
        a = a.to_dense() if a.is_sparse else a
        y = sae(x) if "transcoder" in sae.cfg.architecture() else sae.decode(sae.encode(x))
        return {"a": a.contiguous(), "y": y.contiguous()}
for name, more in cases.items():
    folder = root / name
    if (folder / "back").is_dir():
        save_file(computed(SAE.load_from_disk(str(folder / "back"))), folder / "back.safetensors")
        continue
    kind, config = get_sae_class(name.split("-")[0])
    torch.manual_seed(0)
    sae = kind(config(d_in=d, d_sae=f, **more))
    sae.cfg.metadata.hook_name = "blocks.1.hook_resid_post"
    sae.cfg.metadata.model_name = "tiny"
    for n, p in sae.named_parameters():
        p.data = torch.randn_like(p) * (0.3 if n == "r_mag" else 1)
        if n == "threshold": p.data = p.data.abs()
        if name == "matching_pursuit" and n == "W_dec": p.data /= p.data.norm(dim=1, keepdim=True)
    sae.save_model(str(folder))
    save_file(computed(sae), folder / "computed.safetensors")
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", required=True, help="the python of an environment with SAELens")
    peer = parser.parse_args().peer_python
    torch.manual_seed(1)
    worst = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        x = 3 * torch.randn(64, D) + 1
        save_file({"x": x}, root / "x.safetensors")
        _run(peer, root)
        print(f"{'architecture':22} {'activations':>12} {'output':>12} {'written, read there':>20}  tensors")
        rows = {}
        for name in CASES:
            folder = root / name
            theirs, sae = load_file(folder / "computed.safetensors"), load(folder)
            a = sae.encode(x)
            rows[name] = [_gap(a, theirs["a"]), _gap(sae.decode(a, x), theirs["y"])]
            saelens.write(sae, folder / "back")
            old, new = (load_file(f / saelens.WEIGHTS) for f in (folder, folder / "back"))
            same = old.keys() == new.keys() and all(torch.equal(old[n], new[n]) for n in old)
            rows[name].append(0.0 if same else float("inf"))
        _run(peer, root)
        for name, (a_gap, y_gap, tensors) in rows.items():
            theirs, back = (load_file(root / name / f) for f in ("computed.safetensors", "back.safetensors"))
            returned = max(_gap(back[n], theirs[n]) for n in theirs)
            worst = max(worst, a_gap, y_gap, returned, tensors)
            print(f"{name:22} {a_gap:12.2e} {y_gap:12.2e} {returned:20.2e}  {'equal' if tensors == 0 else 'DIFFER'}")
    print(f"\nlargest difference, over the largest absolute value: {worst:.2e} (64 inputs, d {D}, {F} features)")
    return 0 if worst < 1e-5 else 1


def _run(peer: str, root: Path) -> None:
    import json

    subprocess.run([peer, "-c", PEER, str(root), json.dumps(CASES), str(D), str(F)], check=True)


def _gap(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


if __name__ == "__main__":
    sys.exit(main())
