"""Building an attribution graph: our time beside circuit-tracer's on the same model and dictionary, and the same edges.

    python benchmarks/trace_parity.py CASE                                # ours alone
    python benchmarks/trace_parity.py CASE --peer-python PEER/bin/python  # and circuit-tracer 0.5

CASE is a folder with `model` (Hugging Face GPT-2), `clt` (circuit-tracer's format), `ids.pt`; it is made if absent: a
random GPT-2 of 6 layers, d 256, a random ReLU CLT of 4,096 features a layer from resid_mid to the MLP outputs, 32
random tokens, about 16 active features a position and layer. Repeats alternate between the contestants, so that what
else the machine does falls on both; figures are medians, the ratio is of each repeat's own pair. Ours includes
influence and total effects of every node, which circuit-tracer computes later. Edges are compared outside position 0,
where circuit-tracer zeroes features and errors: the error's norm over the norm, and the largest difference over the
largest edge.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

PEER = r"""
import json, sys, time, warnings
warnings.filterwarnings("ignore")
from types import SimpleNamespace
import torch
from safetensors.torch import load_file
from transformer_lens import HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import GPT2LMHeadModel
from circuit_tracer.attribution.attribute import attribute
from circuit_tracer.replacement_model.replacement_model_transformerlens import TransformerLensReplacementModel
from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder
case, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
hf = GPT2LMHeadModel.from_pretrained(case + "/model", attn_implementation="eager").eval()
c, ids = hf.config, torch.load(case + "/ids.pt", weights_only=True)
L, d, V = c.n_layer, c.n_embd, c.vocab_size
enc = [load_file(f"{case}/clt/W_enc_{i}.safetensors") for i in range(L)]
dec = [load_file(f"{case}/clt/W_dec_{i}.safetensors") for i in range(L)]
clt = CrossLayerTranscoder(L, enc[0]["W_enc_0"].shape[0], d, activation_function="relu", lazy_decoder=False,
                           feature_input_hook="hook_resid_mid", feature_output_hook="hook_mlp_out",
                           device=torch.device("cpu"), dtype=torch.float32)
with torch.no_grad():
    for i in range(L):
        clt.W_enc[i].copy_(enc[i][f"W_enc_{i}"])
        clt.b_enc[i].copy_(enc[i][f"b_enc_{i}"])
        clt.b_dec[i].copy_(enc[i][f"b_dec_{i}"])
        clt.W_dec[i].copy_(dec[i][f"W_dec_{i}"])
cfg = HookedTransformerConfig(n_layers=L, d_model=d, n_ctx=c.n_positions, d_head=d // c.n_head, n_heads=c.n_head,
                              d_mlp=4 * d, d_vocab=V, act_fn="gelu_new", normalization_type="LN", device="cpu", seed=0)
m = TransformerLensReplacementModel.from_config(cfg, clt)
m.tokenizer = SimpleNamespace(all_special_ids=list(range(V)), decode=str, bos_token_id=0, eos_token_id=0,
                              pad_token_id=0, padding_side="right", vocab_size=V)
state = m.state_dict()
for name, value in {**convert_gpt2_weights(hf, cfg), "unembed.b_U": torch.zeros(V)}.items():
    for place in (name, name.replace("mlp.", "mlp.old_mlp."), name.replace("unembed.", "unembed.old_unembed.")):
        if place in state:
            state[place] = value
            break
m.load_state_dict(state)
with torch.no_grad():
    apart = float((m(ids[None]) - hf(ids[None]).logits).abs().max())
print(json.dumps({"logits_apart": apart}), flush=True)
for line in sys.stdin:
    begun = time.perf_counter()
    graph = attribute(ids, m, batch_size=256, max_feature_nodes=None, verbose=False)
    took = time.perf_counter() - begun
    if line.strip() == "save":
        graph.to_pt(case + "/graph.pt")
    print(json.dumps({"seconds": took, "active": len(graph.active_features)}), flush=True)
"""


def make_case(case: Path, layers: int = 6, d: int = 256, features: int = 4096, tokens: int = 32) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    import cutaway as cw
    from cutaway.features import Layer, Transcoders, write_circuit_tracer

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=layers, n_embd=d, n_head=d // 32, vocab_size=1000, n_positions=max(64, tokens), bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    hf = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in hf.parameters():
            if parameter.ndim == 2:
                parameter.mul_(2)
    g = torch.Generator().manual_seed(1)
    encoders = [torch.nn.functional.normalize(torch.randn(features, d, generator=g), dim=-1) for _ in range(layers)]
    ids = torch.randint(1, 1000, (tokens,), generator=g)
    run = cw.load(hf).run(ids[None], read=["resid_mid.*"])
    made = []
    for layer, encoder in enumerate(encoders):
        pre = run[f"resid_mid.{layer}"][0] @ encoder.T
        made.append(
            Layer(
                W_enc=encoder,
                b_enc=torch.full((features,), -float(pre[1:].topk(16, dim=1).values[:, -1].median())),
                W_dec=0.05 * torch.randn(features, layers - layer, d, generator=g),
                b_dec=0.01 * torch.randn(d, generator=g),
            )
        )
    case.mkdir(parents=True, exist_ok=True)
    hf.save_pretrained(case / "model")
    dictionary = Transcoders(kind="clt", rule="relu", layers=tuple(made), input_name="resid_mid", output_name="mlp_out")
    write_circuit_tracer(dictionary, case / "clt")
    torch.save(ids, case / "ids.pt")


def compare(graph, peer_file: Path) -> dict[str, float]:
    """Our edges against the peer's, sources at position 0 left out."""
    import numpy as np

    from cutaway.graphs import nodes as kinds
    from cutaway.graphs.circuit_tracer import read_pt, to_graph

    peer = to_graph(read_pt(peer_file))
    row_of = {name: row for row, name in enumerate(graph.nodes.ids())}
    names = peer.nodes.ids()
    common = [name for name in names if name in row_of]
    ours = np.array([row_of[name] for name in common])
    theirs = np.flatnonzero(np.isin(names, common))
    a, b = (e[rows][:, rows].toarray() for e, rows in ((graph.edges, ours), (peer.edges, theirs)))
    at_zero = (peer.nodes.position[theirs] == 0) & np.isin(peer.nodes.kind[theirs], (kinds.FEATURE, kinds.ERROR))
    inside, zero = a[:, ~at_zero] - b[:, ~at_zero], a[:, at_zero]
    return {
        "nodes_theirs": len(names),
        "nodes_in_common": len(common),
        "nodes_ours": len(row_of),
        "relative_error": float(np.linalg.norm(inside) / np.linalg.norm(b[:, ~at_zero])),
        "largest_difference_over_largest_edge": float(np.abs(inside).max() / np.abs(b).max()),
        "norm_of_our_edges_from_position_0": float(np.linalg.norm(zero)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    parser.add_argument("--peer-python", help="python of an environment with circuit-tracer 0.5")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    import torch

    import cutaway as cw
    from cutaway.features import load
    from cutaway.graphs.trace import graph_of

    if not (args.case / "clt" / "config.yaml").is_file():
        make_case(args.case)
    torch.set_num_threads(args.threads)
    model, dictionary = cw.load(str(args.case / "model")), load(args.case / "clt")
    ids = torch.load(args.case / "ids.pt", weights_only=True)

    def ours() -> tuple[float, float]:
        begun, cpu = time.perf_counter(), time.process_time()
        nonlocal graph
        graph = graph_of(model, ids, dictionary, max_features=None)
        return time.perf_counter() - begun, time.process_time() - cpu

    graph = None
    ours()
    peer = None
    if args.peer_python:
        command = [args.peer_python, "-c", PEER, str(args.case), str(args.threads)]
        peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        answer(peer)
    mine, theirs = [], []
    for repeat in range(args.repeats):
        mine.append(ours())
        if peer:
            peer.stdin.write("save\n" if repeat == 0 else "again\n")
            peer.stdin.flush()
            theirs.append(answer(peer)["seconds"])
    load = os.getloadavg()[0]
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, load {load:.1f}, {args.threads} threads",
        "active_features": graph.n_active,
        "edges": int(graph.edges.nnz),
        "ours_seconds": statistics.median(wall for wall, _ in mine),
        "ours_best_seconds": min(wall for wall, _ in mine),
        "ours_cpu_seconds": statistics.median(cpu for _, cpu in mine),
        "ours_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "accounting": dict(graph.accounting),
    }
    if peer:
        peer.stdin.close()
        report |= {
            "theirs_seconds": statistics.median(theirs),
            "theirs_best_seconds": min(theirs),
            "times_faster": statistics.median(t / wall for t, (wall, _) in zip(theirs, mine)),
        }
    if (args.case / "graph.pt").is_file():
        report["edges_compared"] = compare(graph, args.case / "graph.pt")
    print(json.dumps(report, indent=2))


def answer(peer: subprocess.Popen) -> dict:
    """The next line of JSON that the peer prints; it may print other things before."""
    for line in peer.stdout:
        if line.startswith("{"):
            return json.loads(line)
    sys.exit("circuit-tracer's process ended")


if __name__ == "__main__":
    main()
