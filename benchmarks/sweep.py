"""Activation patching over heads and positions: our planner beside a plain batched loop, TransformerLens and nnsight.

    python benchmarks/sweep.py
    python benchmarks/sweep.py --transformer-lens TL/bin/python --nnsight NN/bin/python

GPT-2-small's shape with random weights (seed 0), 16 pairs of random prompts of 16 tokens: once pairs that differ in
every token (the worst case for us: no cell can be left out for changing nothing), and once in the fifth token from
the end alone, as the prompts of patching tasks do (the second subject of IOI). The counterfactual's run is patched with
clean activations: each head's output at each position (2,304 cells of 16 prompts) and the residual stream entering each
block at each position (192 cells); the metric is the logit difference at the last token.

Ours makes every cell, from the first forward on (planning, its comparison with plain runs and the clean run included).
Of the others a sample of cells is timed, the same for all, drawn evenly from layers and positions, and scaled to the
whole sweep: each of their cells costs one forward whatever it patches. Contestants take turns in each repeat, each in a
process of its own; figures are medians, ratios are of each repeat's own pair. `cpu_seconds_times_ours` compares time on
the processor, which other work beside disturbs less (with --threads 1). `apart` is the largest difference of the
sampled cells' values between contestants, over the largest value.

Peers' own helpers are used: TransformerLens' `patching.get_act_patch_attn_head_out_by_pos` and
`get_act_patch_resid_pre` on a `TransformerBridge` of the Hugging Face weights as they are, nnsight's
`trace`. The plain loop is Hugging Face's SDPA forward with a hook that patches many positions of one head (or one
layer's stream) in one batch, `--loop-batch` cells at a time, every position unembedded.
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

from contestant import Contestant

COMMON = r"""
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import torch
from transformers import GPT2LMHeadModel
case, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
torch.set_grad_enabled(False)
def load(name):
    global clean, corrupted, answers, wrong, rows
    data = torch.load(f"{case}/{name}.pt", weights_only=True)
    clean, corrupted, answers, wrong = data["clean"], data["corrupted"], data["answers"], data["wrong"]
    rows = torch.arange(len(clean))
def metric(logits):
    return (logits[rows, -1, answers] - logits[rows, -1, wrong]).mean()
def serve(heads, residual, prepare=lambda: None):
    print(json.dumps({"ready": True}), flush=True)
    loaded = None
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["pairs"] != loaded:
            loaded = asked["pairs"]
            load(loaded)
            prepare()
        begun, cpu = time.perf_counter(), time.process_time()
        values = (heads if asked["kind"] == "heads" else residual)(asked["cells"])
        took = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
        print(json.dumps({**took, "values": values}), flush=True)
"""

TRANSFORMER_LENS = (
    COMMON
    + r"""
import pandas as pd
from transformer_lens import patching
from transformer_lens.model_bridge.sources.transformers import boot
hf = GPT2LMHeadModel.from_pretrained(case + "/model", attn_implementation="eager").eval()
model = boot(case + "/model", hf_model=hf)
model.eval()
def prepare():
    global cache
    _, cache = model.run_with_cache(clean)
def cells(kind, names, asked):
    df = pd.DataFrame(asked, columns=names)
    return kind(model, corrupted, cache, metric, index_df=df, index_axis_names=None).flatten().tolist()
serve(lambda asked: cells(patching.get_act_patch_attn_head_out_by_pos, ["layer", "pos", "head"],
                          [[l, p, h] for l, h, p in asked]),
      lambda asked: cells(patching.get_act_patch_resid_pre, ["layer", "pos"], asked), prepare)
"""
)

NNSIGHT = (
    COMMON
    + r"""
from nnsight import NNsight
hf = GPT2LMHeadModel.from_pretrained(case + "/model").eval()
model = NNsight(hf)
held = {}
def keep(name):
    def hook(module, args):
        held[name] = args[0].detach().clone()
    return hook
def prepare():
    handles = [block.attn.c_proj.register_forward_pre_hook(keep(("z", i))) for i, block in enumerate(hf.transformer.h)]
    handles += [block.register_forward_pre_hook(keep(("resid", i))) for i, block in enumerate(hf.transformer.h)]
    hf(clean)
    for handle in handles:
        handle.remove()
d = hf.config.n_embd // hf.config.n_head
def heads(asked):
    values = []
    for layer, head, position in asked:
        with model.trace(corrupted):
            block = model.transformer.h[layer]
            part = slice(head * d, (head + 1) * d)
            block.attn.c_proj.input[:, position, part] = held["z", layer][:, position, part]
            logits = model.lm_head.output.save()
        values.append(float(metric(logits)))
    return values
def residual(asked):
    values = []
    for layer, position in asked:
        with model.trace(corrupted):
            model.transformer.h[layer].input[:, position] = held["resid", layer][:, position]
            logits = model.lm_head.output.save()
        values.append(float(metric(logits)))
    return values
serve(heads, residual, prepare)
"""
)

LOOP = (
    COMMON
    + r"""
batch = int(sys.argv[3])
hf = GPT2LMHeadModel.from_pretrained(case + "/model").eval()
d = hf.config.n_embd // hf.config.n_head
def clean_input(module):
    held = []
    handle = module.register_forward_pre_hook(lambda m, args: held.append(args[0].clone()))
    hf(clean, use_cache=False)
    handle.remove()
    return held[0]
def sweep(asked, module_of, part):
    n = len(clean)
    values = [0.0] * len(asked)
    layers = {}
    for number, cell in enumerate(asked):
        layers.setdefault(cell[0], []).append((number, cell))
    for layer, cells in layers.items():
        module = module_of(layer)
        source = clean_input(module)
        for at in range(0, len(cells), batch):
            some = cells[at : at + batch]
            def patch(m, args):
                x = args[0].clone()
                for i, (_, cell) in enumerate(some):
                    place = part(cell)
                    x[i * n : (i + 1) * n][(slice(None), *place)] = source[(slice(None), *place)]
                return (x, *args[1:])
            handle = module.register_forward_pre_hook(patch)
            logits = hf(corrupted.repeat(len(some), 1), use_cache=False).logits
            handle.remove()
            for i, (number, _) in enumerate(some):
                values[number] = float(metric(logits[i * n : (i + 1) * n]))
    return values
serve(lambda asked: sweep(asked, lambda l: hf.transformer.h[l].attn.c_proj,
                          lambda c: (c[2], slice(c[1] * d, (c[1] + 1) * d))),
      lambda asked: sweep(asked, lambda l: hf.transformer.h[l], lambda c: (c[1],)))
"""
)

OURS = (
    COMMON
    + r"""
import cutaway as cw
model = cw.load(case + "/model")
def run(at, each):
    pairs = cw.pairs(model, clean, corrupted, answers, wrong)
    swept = cw.sweep(model, pairs, at=at, each=each, how="denoise", null=None, progress=False)
    print(swept.plan, file=sys.stderr)
    return swept.values.mean(-1)
def heads(asked):
    values = run("z.*", ("head", "position"))
    return [float(values[tuple(cell)]) for cell in asked]
def residual(asked):
    values = run("resid_pre.*", ("position",))
    return [float(values[tuple(cell)]) for cell in asked]
serve(heads, residual)
"""
)


def make_case(folder: Path, args: argparse.Namespace) -> None:
    import torch
    from tokenizers import Tokenizer, models
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    # TransformerLens wants a tokenizer; nobody uses it.
    words = {"<s>": 0, **{f"w{i}": i for i in range(1, 50_257)}}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<s>")),
        bos_token="<s>", eos_token="<s>", pad_token="<s>", unk_token="<s>",
    )  # fmt: skip
    tokenizer.save_pretrained(folder / "model")
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(n_layer=args.layers)).save_pretrained(folder / "model")
    g = torch.Generator().manual_seed(1)
    clean, other = torch.randint(100, 50_000, (2, args.prompts, args.tokens), generator=g)
    answers, wrong = torch.randint(100, 50_000, (2, args.prompts), generator=g)
    one = clean.clone()
    one[:, -5] = other[:, -5]
    for name, corrupted in (("all", other), ("one", one)):
        pairs = {"clean": clean, "corrupted": corrupted, "answers": answers, "wrong": wrong}
        torch.save(pairs, folder / f"{name}.pt")


def times(taken: dict[str, list[float]]) -> dict[str, float]:
    """How many times ours, by the median of each repeat's own pair."""
    ours = taken["cutaway"]
    return {name: round(statistics.median(b / a for a, b in zip(ours, s)), 2) for name, s in taken.items()}


def sample(shape: list[int], count: int) -> list[list[int]]:
    """Cells drawn evenly over a grid, in a fixed order."""
    import torch

    total = 1
    for size in shape:
        total *= size
    chosen = torch.randperm(total, generator=torch.Generator().manual_seed(2))[:count]
    return [[int(i) for i in torch.unravel_index(n, shape)] for n in chosen.sort().values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transformer-lens", help="python of an environment with transformer-lens 4")
    parser.add_argument("--nnsight", help="python of an environment with nnsight 0.8")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--pairs", nargs="+", default=["all", "one"], choices=["all", "one"], help="tokens that differ")
    parser.add_argument("--cells", type=int, default=8, help="sampled of each sweep for those that are scaled")
    parser.add_argument("--loop-batch", type=int, default=4, help="cells in one batch of the plain loop")
    parser.add_argument("--repeats", type=int, default=2, help="of the residual sweep; heads once")
    parser.add_argument("--kinds", nargs="+", default=["residual", "heads"], choices=["residual", "heads"])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        make_case(Path(folder), args)
        common = (folder, str(args.threads))
        contestants = {
            "cutaway": Contestant(sys.executable, OURS, *common),
            "plain loop": Contestant(sys.executable, LOOP, *common, str(args.loop_batch)),
        }
        if args.transformer_lens:
            contestants["TransformerLens"] = Contestant(args.transformer_lens, TRANSFORMER_LENS, *common)
        if args.nnsight:
            contestants["nnsight"] = Contestant(args.nnsight, NNSIGHT, *common)
        print(json.dumps(measure(contestants, args), indent=2))
        for contestant in contestants.values():
            contestant.end()


def measure(contestants: dict[str, Contestant], args: argparse.Namespace) -> dict:
    shapes = {"heads": [args.layers, 12, args.tokens], "residual": [args.layers, args.tokens]}
    report: dict = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the start, "
        f"{args.threads} threads",
        "shape": f"{args.layers} layers, d 768, {args.prompts} prompts of {args.tokens} tokens",
    }
    for kind in args.kinds:
        for pairs in args.pairs:
            name = f"{kind}, {'every token differs' if pairs == 'all' else 'one token differs'}"
            report[name] = compare(contestants, kind, pairs, shapes[kind], args)
            print(json.dumps({name: report[name]}), file=sys.stderr, flush=True)
    return report


def compare(
    contestants: dict[str, Contestant], kind: str, pairs: str, shape: list[int], args: argparse.Namespace
) -> dict:
    cells = sample(shape, args.cells)
    total = 1
    for size in shape:
        total *= size
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    cpu: dict[str, list[float]] = {name: [] for name in contestants}
    values: dict[str, list[float]] = {}
    for name, contestant in contestants.items():
        if name != "cutaway":
            contestant.ask(kind=kind, pairs=pairs, cells=cells[:1])  # warm
    for _ in range(args.repeats if kind == "residual" else 1):
        for name, contestant in contestants.items():
            found = contestant.ask(kind=kind, pairs=pairs, cells=cells)
            share = 1.0 if name == "cutaway" else total / len(cells)
            seconds[name].append(found["seconds"] * share)
            cpu[name].append(found["cpu"] * share)
            values[name] = found["values"]
    ours = values["cutaway"]
    largest = max(abs(v) for v in ours)
    return {
        "cells": total,
        "timed": {name: total if name == "cutaway" else len(cells) for name in contestants},
        "seconds_whole_sweep": {name: round(statistics.median(s), 2) for name, s in seconds.items()},
        "times_ours": times(seconds),
        "cpu_seconds_times_ours": times(cpu),
        "apart": {name: max(abs(a - b) for a, b in zip(ours, v)) / largest for name, v in values.items()},
    }


if __name__ == "__main__":
    main()
