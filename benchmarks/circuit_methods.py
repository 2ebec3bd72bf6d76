"""Circuit discovery on compiled programs, ours beside auto-circuit's: who finds the edges that matter, and how fast.

    python benchmarks/circuit_methods.py
    python benchmarks/circuit_methods.py --auto-circuit AC/bin/python

Six compiled programs; items of the longest length, read at the last position (auto-circuit pads nothing and reads one
position). True is an edge whose resampling alone changes the output distribution of some item (KL > 1e-6). AUROC over
the full ranking. Both get the same items and weights: `eap`, `mask-ig` (m = 5), ACDC by KL at the same number of
thresholds (ours are shares of the KL with every edge out; theirs .00001 to .3), subnetwork probing with 120 steps.
auto-circuit needs TransformerLens 2.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAMS = ("hist", "double_hist", "frac_prevs", "sort", "reverse", "shift")
METHODS = ("eap", "mask-ig", "acdc", "subnetwork-probing")

PEER = r"""
import json, math, sys, time, warnings
warnings.filterwarnings("ignore")
import torch
torch.set_num_threads(1)
torch.optim.adam = torch.optim  # where it looks for Adam; this torch keeps no module of that name
from transformer_lens import HookedTransformer, HookedTransformerConfig
from auto_circuit.data import PromptDataLoader, PromptDataset
from auto_circuit.prune_algos.ACDC import acdc_prune_scores
from auto_circuit.prune_algos.mask_gradient import mask_gradient_prune_scores
from auto_circuit.prune_algos.subnetwork_probing import subnetwork_probing_prune_scores
from auto_circuit.utils.graph_utils import patchable_model
case = sys.argv[1]
data = torch.load(case + "/data.pt", weights_only=True)
c, state = data["config"], data["state"]
h, d, k = c["heads"], c["d_model"], c["d_head"]
cfg = HookedTransformerConfig(
    n_layers=c["layers"], d_model=d, n_ctx=c["positions"], d_head=k, n_heads=h, d_mlp=c["d_mlp"], d_vocab=c["vocab"],
    act_fn="relu", normalization_type=None, use_attn_scale=False, device="cpu", seed=0,
    attention_dir="causal" if c["causal"] else "bidirectional",
    use_attn_result=True, use_split_qkv_input=True, use_hook_mlp_in=True,
)
net = HookedTransformer(cfg)
new = {"embed.W_E": state["model.embed_tokens.weight"], "pos_embed.W_pos": state["model.embed_positions.weight"],
       "unembed.W_U": state["lm_head.weight"].T, "unembed.b_U": state["lm_head.bias"]}
for i in range(c["layers"]):
    a, b = f"model.layers.{i}.", f"blocks.{i}."
    for ours, theirs in (("q", "Q"), ("k", "K"), ("v", "V")):
        new[b + f"attn.W_{theirs}"] = state[a + f"self_attn.{ours}_proj.weight"].reshape(h, k, d).transpose(1, 2)
        new[b + f"attn.b_{theirs}"] = torch.zeros(h, k)
    new[b + "attn.b_Q"] = state[a + "self_attn.q_proj.bias"].reshape(h, k)
    new[b + "attn.W_O"] = state[a + "self_attn.o_proj.weight"].T.reshape(h, k, d)
    new[b + "attn.b_O"] = torch.zeros(d)
    new[b + "mlp.W_in"], new[b + "mlp.b_in"] = state[a + "mlp.up_proj.weight"].T, state[a + "mlp.up_proj.bias"]
    new[b + "mlp.W_out"], new[b + "mlp.b_out"] = state[a + "mlp.down_proj.weight"].T, torch.zeros(d)
net.load_state_dict({key: x.contiguous() for key, x in new.items()}, strict=False)
net.cfg.use_attn_result, net.cfg.use_split_qkv_input, net.cfg.use_hook_mlp_in = True, True, True
net.eval()
for p in net.parameters():
    p.requires_grad = False
clean, other, answers, wrong = data["clean"], data["other"], data["answers"], data["wrong"]
with torch.no_grad():
    apart = float((net(clean)[:, -1] - data["logits"]).abs().max() / data["logits"].abs().max())
assert apart < 1e-4, apart
circuit = patchable_model(net, factorized=True, slice_output="last_seq", separate_qkv=True, device=torch.device("cpu"))
loader = PromptDataLoader(PromptDataset(list(clean), list(other), [a[None] for a in answers], [w[None] for w in wrong]),
                          seq_len=clean.shape[1], diverge_idx=0, batch_size=len(clean))
out = {}
for method in data["methods"]:
    begun = time.process_time()
    if method == "eap":
        found = mask_gradient_prune_scores(circuit, loader, None, "logit", "avg_diff", mask_val=0.0)
    elif method == "mask-ig":
        found = mask_gradient_prune_scores(circuit, loader, None, "logit", "avg_diff", integrated_grad_samples=5)
    elif method == "acdc":
        found = acdc_prune_scores(circuit, loader, None, tao_exps=[-5, -4, -3, -2, -1], tao_bases=[1])
        tries = acdc_prune_scores(circuit, loader, None, tao_exps=[-1], tao_bases=[3])
        found = {name: torch.minimum(score, tries[name]) for name, score in found.items()}
        found = {name: torch.nan_to_num(score, posinf=1.0) for name, score in found.items()}
    else:
        found = subnetwork_probing_prune_scores(circuit, loader, None, epochs=120, tree_optimisation=True)
    out[method] = {"seconds": time.process_time() - begun, "scores": {n: s.tolist() for n, s in found.items()}}
    for p in circuit.parameters():
        p.grad = None
json.dump(out, open(case + "/peer.json", "w"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--auto-circuit", metavar="PYTHON", help="a Python with auto-circuit and TransformerLens 2")
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS))
    parser.add_argument("--items", type=int, default=16)
    parser.add_argument("--limit", type=float, default=300, help="seconds for the peer on one program")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [row for name in options.programs for row in _program(name, options)]
    if options.json:
        print(json.dumps({"schema": "cutaway.benchmark.circuit-methods/1", "rows": rows}))
        return
    print(f"{'program':12} {'method':20} {'edges':>5} {'true':>4}  {'AUROC':>6} {'peer':>6}  {'CPU s':>7} {'peer':>7}")
    for row in rows:
        peer = row.get("peer")
        theirs = f"{peer['auroc']:6.2f}" if isinstance(peer, dict) else f"{'-':>6}"
        spent = f"{peer['seconds']:7.2f}" if isinstance(peer, dict) else f"{row.get('peer') or '-':>7}"
        print(
            f"{row['program']:12} {row['method']:20} {row['edges']:5} {row['true']:4}  {row['auroc']:6.2f} {theirs}  "
            f"{row['seconds']:7.2f} {spent}"
        )


def _program(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    import torch

    from cutaway.circuits import METHODS as OURS
    from cutaway.circuits import against_truth, exact, opened
    from cutaway.circuits.methods import Settings
    from cutaway.tasks import Task
    from cutaway.toys.rasp import compile_program, program

    compiled = compile_program(program(name))
    pairs = compiled.program.pairs(options.items, seed=0)
    clean, other = (compiled.ids([pair[side] for pair in pairs]) for side in (0, 1))
    model = compiled.load()
    logits = model.run(clean).logits[:, -1]
    best = logits.topk(2).indices
    task = Task.from_tokens(clean, other, best[:, 0], best[:, 1])
    wires = opened(model)
    graph = wires.graph()
    kl = exact(wires, graph, task.with_metric("kl", reference=logits)).nan_to_num(0).abs().amax(0)
    true = (kl > 1e-6) & graph.exists
    found: list[dict[str, Any]] = []
    for method in METHODS:
        begun = time.process_time()
        scores = OURS[method].score(wires, graph, task, Settings("resample", 5, 0)).double().mean(0)
        seconds = time.process_time() - begun
        area = against_truth(_tied(scores), graph.exists, true)[0].value
        row = {"program": name, "method": method, "edges": graph.n_edges, "true": int(true.sum())}
        found.append({**row, "auroc": area, "seconds": round(seconds, 3)})
    if options.auto_circuit:
        with tempfile.TemporaryDirectory() as folder:
            config = compiled.model.config
            sizes = {
                "heads": config.num_attention_heads, "d_model": config.hidden_size, "d_head": config.head_dim,
                "layers": config.num_hidden_layers, "positions": config.max_position_embeddings,
                "d_mlp": config.intermediate_size, "vocab": config.vocab_size, "causal": config.causal,
            }  # fmt: skip
            given = {"clean": clean, "other": other, "logits": logits, "answers": best[:, 0], "wrong": best[:, 1]}
            given |= {"config": sizes, "state": compiled.model.state_dict(), "methods": list(METHODS)}
            torch.save(given, Path(folder) / "data.pt")
            try:
                command = [options.auto_circuit, "-c", PEER, folder]
                done = subprocess.run(command, capture_output=True, text=True, timeout=options.limit, check=False)
            except subprocess.TimeoutExpired:
                return [{**row, "peer": f"> {options.limit:g}"} for row in found]
            if done.returncode:
                raise SystemExit(f"auto-circuit failed on {name}:\n{done.stderr[-3000:]}")
            theirs = json.loads((Path(folder) / "peer.json").read_text())
            for row in found:
                one = theirs[row["method"]]
                scores = torch.zeros(graph.exists.shape, dtype=torch.float64)
                for module, values in one["scores"].items():
                    table = torch.tensor(values, dtype=torch.float64)
                    for head, line in enumerate(table.reshape(-1, table.shape[-1])):
                        scores[: len(line), graph.destination(_name(module, head))] = line
                area = against_truth(_tied(scores), graph.exists, true)[0].value
                row["peer"] = {"auroc": area, "seconds": round(one["seconds"], 3)}
    return found


def _tied(scores: Any) -> Any:
    """Scores below float32's precision of the largest are equal: no order of theirs means anything."""
    return scores.where(scores.abs() >= 1e-7 * scores.abs().max(), 0.0)


def _name(module: str, head: int) -> str:
    """blocks.3.hook_q_input -> a3.h5<q>; blocks.3.hook_mlp_in -> m3; the rest -> logits."""
    parts = module.split(".")
    kind = parts[-1].split("_")[1]
    if kind == "resid":
        return "logits"
    return f"m{parts[1]}" if kind == "mlp" else f"a{parts[1]}.h{head}<{kind}>"


if __name__ == "__main__":
    sys.exit(main())
