"""The cost of looking: time and memory of one forward in which something is read, beside the plain forward and peers.

    python benchmarks/reading.py
    python benchmarks/reading.py --markdown --transformer-lens TL/bin/python --nnsight NN/bin/python \\
        --pyvene PV/bin/python

GPT-2's architecture with random weights, one prompt of random tokens: 4 layers of d 128 with 16 tokens (almost all
overhead), 12 layers of d 768 with 64 tokens, and with 1,024. What is read, at every layer: nothing, the residual stream
after each block, heads' outputs (z), neurons, all three; attention patterns at every layer, and at one; and of long
texts the residual stream reduced to its last position.

`ms`: median over repeats in which the contestants take turns, each in a process of its own; `times_hf`: median of
each repeat's own pair with Hugging Face's plain SDPA forward (all logits computed in both, no gradients),
`cpu_times_hf` the same of time on the processor, which other work beside disturbs less (with --threads 1).
`peak_mib`: the most bytes of tensors alive at once during one call beyond those before it, counted with the same
counter in every process (torch's dispatch mode), so it does not depend on the allocator; logits included. With the
three peers it takes about a quarter of an hour on one quiet thread, more than half of it for the longest size.

Peers read what has the same name in them: TransformerLens' `run_with_cache(names_filter=…)` and, as `everything`,
without a filter; nnsight's `.save()` in one trace; pyvene's collect interventions on block outputs and neurons
(collecting at a module's input, where z is, raises in it). "torch's kernels" is ours without the faster matrix product
(`model.kernels.on = False`): what looking costs where both sides compute alike. A contestant that takes longer than
--limit seconds for an answer is ended.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

from contestant import Contestant, table
from random_gpt2 import saved

HUGGING_FACE = "Hugging Face"
COMMON = r"""
import json, sys, time, warnings, weakref
warnings.filterwarnings("ignore")
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import GPT2LMHeadModel
case, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
torch.set_grad_enabled(False)
ids = torch.load(case + "/ids.pt", weights_only=True)
class Count(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.known = set()
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor):
                s = x.untyped_storage()  # a view of a weight is no memory of the run's
                if s._cdata not in self.known and s._cdata not in given and s.nbytes():
                    self.known.add(s._cdata)
                    self.live += s.nbytes()
                    self.peak = max(self.peak, self.live)
                    weakref.finalize(s, self.free, s._cdata, s.nbytes())
        return out
    def free(self, key, size):
        self.known.discard(key)
        self.live -= size
def serve(jobs):
    print(json.dumps({"jobs": list(jobs)}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        job = jobs[asked["job"]]
        if asked["memory"]:  # after the timing, so that what is made once is there
            with Count() as count:
                held = job()
            answer = {"peak_mib": count.peak / 2**20}
            del held
        else:
            if asked["warm"]:
                job()
            begun, cpu = time.perf_counter(), time.process_time()
            for _ in range(asked["times"]):
                job()
            answer = {"seconds": (time.perf_counter() - begun) / asked["times"],
                      "cpu": (time.process_time() - cpu) / asked["times"]}
        print(json.dumps(answer), flush=True)
"""

HF = (
    COMMON
    + r"""
model = GPT2LMHeadModel.from_pretrained(case + "/model").eval()
serve({"nothing": lambda: model(ids, use_cache=False)})
"""
)

OURS = (
    COMMON
    + r"""
import cutaway as cw
model = cw.load(case + "/model")
model.kernels.on = sys.argv[3] == "ours"
middle = model.facts.n_layers // 2
serve({
    "nothing": lambda: model.run(ids),
    "residual": lambda: model.run(ids, read=["resid_post.*"]),
    "heads": lambda: model.run(ids, read=["z.*"]),
    "neurons": lambda: model.run(ids, read=["mlp_act.*"]),
    "residual, heads, neurons": lambda: model.run(ids, read=["resid_post.*", "z.*", "mlp_act.*"]),
    "patterns": lambda: model.run(ids, read=["attn_probs.*"]),
    "patterns, one layer": lambda: model.run(ids, read=[f"attn_probs.{middle}"]),
    "residual, no logits": lambda: model.run(ids, read=["resid_post.*"], logits=False),
    "residual at the last token, no logits": lambda: model.run(
        ids, read={"resid_post.*": cw.reduce(position=-1)}, logits=False),
})
"""
)

TRANSFORMER_LENS = (
    COMMON
    + r"""
from transformer_lens.model_bridge.sources.transformers import boot
hf = GPT2LMHeadModel.from_pretrained(case + "/model", attn_implementation="eager").eval()
model = boot(case + "/model", hf_model=hf).eval()
middle = model.cfg.n_layers // 2
def read(*endings):
    return lambda: model.run_with_cache(ids, names_filter=lambda name: name.endswith(endings))
z, neurons = "attn.hook_z", "mlp.hook_post"
_, cache = model.run_with_cache(ids)
assert f"blocks.0.{z}" in cache and f"blocks.0.{neurons}" in cache
serve({
    "nothing": lambda: model(ids),
    "residual": read("hook_resid_post"),
    "heads": read(z),
    "neurons": read(neurons),
    "residual, heads, neurons": read("hook_resid_post", z, neurons),
    "patterns": read("hook_pattern"),
    "patterns, one layer": read(f"blocks.{middle}.attn.hook_pattern"),
    "everything": lambda: model.run_with_cache(ids),
})
"""
)

NNSIGHT = (
    COMMON
    + r"""
from nnsight import NNsight
hf = GPT2LMHeadModel.from_pretrained(case + "/model").eval()
model = NNsight(hf)
def reader(*of):
    def read():
        kept = []
        with model.trace(ids):
            for block in model.transformer.h:
                for part in of:
                    if part == "heads":
                        kept.append(block.attn.c_proj.input.save())
                    elif part == "neurons":
                        kept.append(block.mlp.c_proj.input.save())
                    else:
                        kept.append(block.output.save())
        return kept
    assert len(read()) == len(of) * hf.config.n_layer
    return read
def nothing():
    with model.trace(ids):
        kept = model.lm_head.output.save()
    return kept
serve({"nothing": nothing, "residual": reader("residual"), "heads": reader("heads"), "neurons": reader("neurons"),
       "residual, heads, neurons": reader("heads", "neurons", "residual")})
"""
)

PYVENE = (
    COMMON
    + r"""
import pyvene as pv
hf = GPT2LMHeadModel.from_pretrained(case + "/model").eval()
def reader(component):
    config = pv.IntervenableConfig([
        {"layer": i, "component": component, "intervention_type": pv.CollectIntervention}
        for i in range(hf.config.n_layer)])
    model = pv.IntervenableModel(config, model=hf)
    places = {"base": list(range(ids.shape[1]))}
    return lambda: model({"input_ids": ids}, unit_locations=places)
serve({"residual": reader("block_output"), "neurons": reader("mlp_activation")})
"""
)

SIZES = {
    "4 layers, d 128, 16 tokens": (4, 128, 4, 16, 2_000),
    "12 layers, d 768, 64 tokens": (12, 768, 12, 64, 50_257),
    "12 layers, d 768, 1,024 tokens": (12, 768, 12, 1_024, 50_257),
}


def make_case(folder: Path, layers: int, d: int, heads: int, tokens: int, vocabulary: int) -> None:
    import torch

    saved(folder / "model", vocabulary, n_layer=layers, n_embd=d, n_head=heads)
    ids = torch.randint(1, vocabulary, (1, tokens), generator=torch.Generator().manual_seed(1))
    torch.save(ids, folder / "ids.pt")


def measure(contestants: dict[str, Contestant], repeats: int, times: int) -> list[dict]:
    plain = contestants[HUGGING_FACE]
    rows = []
    for job in dict.fromkeys(job for contestant in contestants.values() for job in contestant.ready["jobs"]):
        who = {name: c for name, c in contestants.items() if job in c.ready["jobs"] and c is not plain}
        taken: dict[str, list[dict]] = {name: [] for name in who}
        base = []
        for turn in range(repeats):
            ask = {"times": times, "memory": False, "warm": turn == 0 or times > 1}
            base.append(plain.ask(job="nothing", **ask))
            for name, contestant in who.items():
                if (found := contestant.try_ask(job=job, **ask)) is not None:
                    taken[name].append(found)
        for name, contestant in who.items():
            rows.append({"read": job, "who": name, **row(contestant, job, taken[name], base)})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        if job == "nothing":
            peak = round(plain.ask(job=job, times=1, memory=True)["peak_mib"], 2)
            ms = round(1e3 * statistics.median(b["seconds"] for b in base), 3)
            rows.append({"read": job, "who": HUGGING_FACE, "ms": ms, "times_hf": 1.0, "peak_mib": peak})
    return rows


def row(contestant: Contestant, job: str, taken: list[dict], base: list[dict]) -> dict:
    """Time beside the plain forward's, and memory; {"out": why} for one that was ended."""
    memory = contestant.try_ask(job=job, times=1, memory=True)
    if memory is None or len(taken) < len(base):
        return {"out": contestant.out}
    return {
        "ms": round(1e3 * statistics.median(t["seconds"] for t in taken), 3),
        "times_hf": ratio(taken, base, "seconds"),
        "cpu_times_hf": ratio(taken, base, "cpu"),
        "peak_mib": round(memory["peak_mib"], 2),
    }


def ratio(mine: list[dict], base: list[dict], what: str) -> float:
    """The median of each repeat's own ratio."""
    return round(statistics.median(m[what] / b[what] for m, b in zip(mine, base)), 3)


def markdown(report: dict) -> str:
    """The tables of docs/performance.md: for each size time over Hugging Face's, and the peak in MiB."""
    parts = [report["machine"]]
    for size, rows in report["sizes"].items():
        who = list(dict.fromkeys(row["who"] for row in rows if row["who"] != HUGGING_FACE))
        found = {(row["read"], row["who"]): row for row in rows}
        plain = found["nothing", HUGGING_FACE]
        for title, key, form in (("time", "times_hf", "{:.2f}"), ("peak MiB", "peak_mib", "{:.1f}")):
            lines = [[f"read at every layer ({title})", *who]]
            for read in dict.fromkeys(row["read"] for row in rows):
                line = [found.get((read, name), {"out": "–"}) for name in who]
                lines.append([read, *(form.format(r[key]) if key in r else r["out"] for r in line)])
            parts.append(f"{size}: the plain forward takes {plain['ms']:.4g} ms, {plain['peak_mib']:.1f} MiB")
            parts.append(table(lines))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transformer-lens", help="python of an environment with transformer-lens 4")
    parser.add_argument("--nnsight", help="python of an environment with nnsight 0.8")
    parser.add_argument("--pyvene", help="python of an environment with pyvene 0.1")
    parser.add_argument("--sizes", nargs="+", type=int, default=[0, 1, 2], choices=[0, 1, 2])
    parser.add_argument("--repeats", nargs=3, type=int, default=[9, 5, 2], help="of each size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=120, help="seconds that a contestant may take for one answer")
    parser.add_argument("--markdown", action="store_true", help="print tables in place of JSON")
    args = parser.parse_args()
    report: dict = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the start",
        "sizes": {},
    }
    for number in args.sizes:
        name, size = list(SIZES.items())[number]
        with tempfile.TemporaryDirectory() as folder:
            make_case(Path(folder), *size)
            threads = 1 if size[1] < 256 else args.threads
            contestants = {
                who: Contestant(python, code, folder, str(threads), *more, limit=args.limit)
                for who, (python, code, *more) in players(args).items()
                if python
            }
            named = f"{name}, {threads} thread{'s' if threads > 1 else ''}"
            report["sizes"][named] = measure(contestants, args.repeats[number], (100, 4, 1)[number])
            for contestant in contestants.values():
                contestant.end()
    print(markdown(report) if args.markdown else json.dumps(report, indent=2))


def players(args: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    return {
        HUGGING_FACE: (sys.executable, HF),
        "cutaway": (sys.executable, OURS, "ours"),
        "cutaway, torch's kernels": (sys.executable, OURS, "torch"),
        "TransformerLens": (args.transformer_lens, TRANSFORMER_LENS),
        "nnsight": (args.nnsight, NNSIGHT),
        "pyvene": (args.pyvene, PYVENE),
    }


if __name__ == "__main__":
    main()
