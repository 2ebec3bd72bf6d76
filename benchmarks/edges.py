"""Edge scores at GPT-2-small's shape: EAP, EAP-IG and integrated gradients of the masks, ours beside auto-circuit
(PyPI) and EAP-IG's repository.

    python benchmarks/edges.py
    python benchmarks/edges.py --auto-circuit AC/bin/python --eap-ig FOLDER --cases 12:2 6:2 --repeats 1

Random weights (seed 0), random pairs of prompts, metric logit(answer) - logit(wrong) at the last token, resample
ablation, queries, keys and values apart: 32,491 edges at 12 layers. `mask-ig` is what auto-circuit calls mask gradient
with integrated samples, at the same points (m + 1 of them); it has no EAP-IG. `eap-ig` is EAP-IG on inputs at points
of its authors' code, k/m for k = 0 … m - 1. A case is LAYERS:ITEMS.

Each contestant runs in a process of its own that loads the model, notes its resident memory (freed pages given back),
makes one run of two items to warm up, then the one that counts. Seconds are of the processor (all threads, so that
other work on the machine does not count), of the second run alone. `MB` is the kernel's peak of resident memory after
the model was loaded, warm-up and a contestant's own structures among it, less what was noted; `MB with the model` is
that peak whole. `apart` is the largest difference of two scores over the largest score: above 1e-4 the exit status is
1. A process that is not done after --limit seconds by the clock is ended and shown as "> limit".

auto-circuit 1.0 needs TransformerLens 2 (`HookedTransformer` left TransformerLens in 4). --eap-ig is the folder of a
clone of hannamw/EAP-IG (it is not on PyPI, where the package of that name prices assets), run by the same Python. Its
code names the device "cuda" in places: the copy that runs reads "cpu" there, and takes token ids in place of text.
Needs Linux (/proc).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

SAME = 1e-4  # of the largest score

COMMON = r"""
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import torch
case, threads, method, steps = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
torch.set_num_threads(threads)
data = torch.load(case + "/data.pt", weights_only=True)
clean, other, answers, wrong = data["clean"], data["other"], data["answers"], data["wrong"]

def memory(field):
    (line,) = (line for line in open("/proc/self/status") if line.startswith(field))
    return int(line.split()[1]) * 1024

# Bytes resident once the model is loaded. Freed pages go back first, and the kernel's peak begins anew.
def loaded():
    import ctypes, gc
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return memory("VmRSS")

def timed(work, base):
    work(min(2, len(clean)))  # warms up
    begun = time.process_time()
    scores = work(len(clean))
    seconds = time.process_time() - begun
    most = memory("VmHWM")
    torch.save(scores, case + "/" + NAME + "-" + method + ".pt")
    print(json.dumps({"seconds": seconds, "bytes": most - base, "whole": most}), flush=True)
"""

OURS = (
    COMMON
    + r"""
NAME = "ours"
import cutaway as cw
from cutaway.circuits import METHODS, opened
from cutaway.circuits.methods import Settings
from cutaway.tasks import Task
from cutaway.circuits.attribution import eap_ig
model = cw.load(case + "/model")
base = loaded()
def task(rows):
    return Task.from_tokens(clean[:rows], other[:rows], answers[:rows], wrong[:rows])
wires = opened(model)
graph = wires.graph()
def work(rows):
    if method == "eap-ig":
        found = eap_ig(wires, task(rows), steps=steps, points="left").mean(0)
    else:
        found = METHODS[method].score(wires, graph, task(rows), Settings("resample", steps, 0)).mean(0)
    return {name: found[:, d] for d, name in enumerate(graph.destinations)}
timed(work, base)
"""
)

LENS = r"""
from transformers import GPT2LMHeadModel
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
hf = GPT2LMHeadModel.from_pretrained(case + "/model")
c = hf.config
cfg = HookedTransformerConfig(
    n_layers=c.n_layer, d_model=c.n_embd, n_ctx=c.n_positions, d_head=c.n_embd // c.n_head, n_heads=c.n_head,
    d_mlp=4 * c.n_embd, d_vocab=c.vocab_size, act_fn="gelu_new", normalization_type="LN", eps=c.layer_norm_epsilon,
    device="cpu", use_attn_result=True, use_split_qkv_input=True, use_hook_mlp_in=True,
    original_architecture="GPT2LMHeadModel",
)
net = HookedTransformer(cfg)
net.load_state_dict(convert_gpt2_weights(hf, cfg), strict=False)
net.cfg.use_attn_result, net.cfg.use_split_qkv_input, net.cfg.use_hook_mlp_in = True, True, True
net.eval()
for p in net.parameters():
    p.requires_grad = False
del hf
"""

AUTO_CIRCUIT = (
    COMMON
    + LENS
    + r"""
NAME = "auto-circuit"
from auto_circuit.data import PromptDataLoader, PromptDataset
from auto_circuit.prune_algos.mask_gradient import mask_gradient_prune_scores
from auto_circuit.utils.graph_utils import patchable_model
base = loaded()
circuit = patchable_model(net, factorized=True, slice_output="last_seq", separate_qkv=True, device=torch.device("cpu"))
def loader(rows):
    right, others = [a[None] for a in answers[:rows]], [w[None] for w in wrong[:rows]]
    data = PromptDataset(list(clean[:rows]), list(other[:rows]), right, others)
    return PromptDataLoader(data, seq_len=clean.shape[1], diverge_idx=0, batch_size=min(rows, int(sys.argv[5])))
def work(rows):
    how = {"mask_val": 0.0} if method == "eap" else {"integrated_grad_samples": steps}
    batches = loader(rows)
    for p in circuit.parameters():
        p.grad = None
    found = mask_gradient_prune_scores(circuit, batches, None, "logit", "avg_diff", **how)
    scale = len(batches) * (1 if method == "eap" else steps + 1)
    return {name: score / scale for name, score in found.items()}
timed(work, base)
"""
)


EAP_IG = (
    COMMON
    + LENS
    + r"""
NAME = "EAP-IG"
import functools, pathlib, shutil, sys
package = pathlib.Path(case) / "eap-ig"
shutil.copytree(pathlib.Path(sys.argv[6]) / "src" / "eap", package / "eap", dirs_exist_ok=True)
for file in (package / "eap").glob("*.py"):
    file.write_text(file.read_text().replace("'cuda'", "'cpu'").replace('"cuda"', '"cpu"'))
sys.path.insert(0, str(package))
from eap import attribute as module
from eap.graph import Graph
module.tokenize_plus = lambda model, x, *_: (x, torch.ones_like(x), torch.full((len(x),), x.shape[1]), x.shape[1])
net.cfg.ungroup_grouped_query_attention = True
base = loaded()
for p in net.parameters():
    p.requires_grad = True
def metric(logits, clean_logits, lengths, label):
    last = logits[torch.arange(len(logits)), lengths - 1]
    right, false = label
    return -(last.gather(1, right[:, None]) - last.gather(1, false[:, None])).sum()
def work(rows):
    graph = Graph.from_model(net)
    size = min(rows, int(sys.argv[5]))
    batches = [
        (clean[i : i + size], other[i : i + size], (answers[i : i + size], wrong[i : i + size]))
        for i in range(0, rows, size)
    ]
    how = {"method": "EAP"} if method == "eap" else {"method": "EAP-IG-inputs", "ig_steps": steps}
    module.attribute(net, graph, batches, metric, quiet=True, **how)
    return graph
keep = torch.save
def as_named(graph, place):
    found = {}
    for name, edge in graph.edges.items():
        source, _, destination = name.partition("->")
        found.setdefault(destination, {})[source] = float(edge.score)
    keep(found, place)
torch.save = as_named
timed(work, base)
"""
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--auto-circuit", metavar="PYTHON", help="a Python with auto-circuit and TransformerLens 2")
    parser.add_argument("--eap-ig", metavar="FOLDER", help="a clone of hannamw/EAP-IG; run by --auto-circuit's Python")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which a run is ended")
    parser.add_argument("--methods", nargs="+", default=["eap", "mask-ig", "eap-ig"])
    parser.add_argument("--cases", nargs="+", default=["12:16"], metavar="LAYERS:ITEMS")
    parser.add_argument("--length", type=int, default=15)
    parser.add_argument("--batch", type=int, default=16, help="the peer's batch")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=50257)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    print(f"{options.length} tokens, {options.threads} threads, medians of {options.repeats}", file=sys.stderr)
    for case in options.cases:
        layers, items = (int(x) for x in case.split(":"))
        with tempfile.TemporaryDirectory() as folder:
            _make(Path(folder), layers, items, options)
            for method in options.methods:
                rows.append({"layers": layers, "items": items, **_method(folder, method, options)})
                if not options.json:
                    print(rows[-1], flush=True)
    where = {"machine": platform.processor() or platform.machine(), "threads": options.threads}
    if options.json:
        print(json.dumps({"schema": "cutaway.benchmark.edges/2", **where, **vars(options), "rows": rows}))
    apart = [float(str(value)) for row in rows for key, value in row.items() if key.startswith("apart")]
    raise SystemExit(int(max(apart, default=0.0) > SAME))


def _make(folder: Path, layers: int, items: int, options: argparse.Namespace) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=layers, n_embd=options.width, n_head=options.heads, vocab_size=options.vocabulary,
        n_positions=128, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    model.save_pretrained(folder / "model")
    shape = (items, options.length)
    clean, other = (torch.randint(1, options.vocabulary, shape) for _ in range(2))
    answers, wrong = (torch.randint(1, options.vocabulary, (items,)) for _ in range(2))
    wrong = torch.where(wrong == answers, (wrong + 1) % options.vocabulary, wrong)
    torch.save({"clean": clean, "other": other, "answers": answers, "wrong": wrong}, folder / "data.pt")


def _method(folder: str, method: str, options: argparse.Namespace) -> dict[str, object]:
    import statistics

    contestants = {"ours": (sys.executable, OURS)}
    if options.auto_circuit and method != "eap-ig":
        contestants["auto-circuit"] = (options.auto_circuit, AUTO_CIRCUIT)
    if options.auto_circuit and options.eap_ig and method != "mask-ig":
        contestants["EAP-IG"] = (options.auto_circuit, EAP_IG)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for _ in range(options.repeats):
        for name, (python, script) in contestants.items():
            arguments = [folder, options.threads, method, options.steps, options.batch, options.eap_ig or ""]
            environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
            try:
                done = subprocess.run(
                    [python, "-c", script, *map(str, arguments)], capture_output=True, text=True, env=environment,
                    check=False, timeout=options.limit,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                continue
            if done.returncode:
                raise SystemExit(f"{name} failed on {method}:\n{done.stderr[-2000:]}")
            runs[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
    row: dict[str, object] = {"method": method}
    for name, made in runs.items():
        if not made:
            row[f"{name} seconds"] = f"> {options.limit:g}"
            continue
        row[f"{name} seconds"] = round(statistics.median(run["seconds"] for run in made), 3)
        row[f"{name} MB"] = round(statistics.median(run["bytes"] for run in made) / 1e6)
        row[f"{name} MB with the model"] = round(statistics.median(run["whole"] for run in made) / 1e6)
    for name in list(contestants)[1:]:
        pairs = list(zip(runs[name], runs["ours"]))
        if pairs:
            row[f"times the speed of {name}"] = round(
                statistics.median(a["seconds"] / b["seconds"] for a, b in pairs), 2
            )
            row[f"of its memory, {name}"] = round(
                statistics.median(b["bytes"] / max(1, a["bytes"]) for a, b in pairs), 3
            )
            row[f"apart from {name}"] = _apart(folder, method, name)
    return row


def _apart(folder: str, method: str, peer: str) -> float:
    """The largest difference of scores over the largest score. auto-circuit keeps a tensor a module: [head, source];
    EAP-IG's are by name."""
    import torch

    ours = torch.load(f"{folder}/ours-{method}.pt", weights_only=True)
    theirs = torch.load(f"{folder}/{peer}-{method}.pt", weights_only=True)
    worst = most = 0.0
    if peer == "EAP-IG":
        sources = ["input"]
        layers = len({name for name in ours if name.startswith("m")})
        heads = len({name for name in ours if name.startswith("a0.") and name.endswith("<q>")})
        for layer in range(layers):
            sources += [f"a{layer}.h{head}" for head in range(heads)] + [f"m{layer}"]
        for destination, row in theirs.items():
            for source, value in row.items():
                mine = float(ours[destination][sources.index(source)])
                worst, most = max(worst, abs(mine - value)), max(most, abs(value))
        return worst / most
    for name, score in theirs.items():
        for head, row in enumerate(score.reshape(-1, score.shape[-1])):
            mine = ours[_name(name, head)][: len(row)].to(row)
            worst, most = max(worst, float((mine - row).abs().max())), max(most, float(row.abs().max()))
    return worst / most


def _name(module: str, head: int) -> str:
    """blocks.3.hook_q_input -> a3.h5<q>; blocks.3.hook_mlp_in -> m3; the rest -> logits."""
    parts = module.split(".")
    kind = parts[-1].split("_")[1]
    if kind == "resid":  # the stream leaving the last block
        return "logits"
    return f"m{parts[1]}" if kind == "mlp" else f"a{parts[1]}.h{head}<{kind}>"


if __name__ == "__main__":
    main()
