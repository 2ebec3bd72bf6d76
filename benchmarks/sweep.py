"""Activation patching over heads and positions: our planner beside a plain batched loop and the peers.

    python benchmarks/sweep.py
    python benchmarks/sweep.py --markdown --transformer-lens TL/bin/python --nnsight NN/bin/python \\
        --pyvene PV/bin/python

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

`arithmetic` counts operations: one whole forward a cell with every position unembedded, and the
least that we know an exact way for (where in a cell's first block later positions keep their queries, keys and values,
and in the last block nothing but keys and values is owed of all but the metric's position). "torch's kernels" is ours
without the faster matrix product (`model.kernels.on = False`), asked for the residual stream alone.

A contestant that takes longer than --limit seconds for an answer is ended, and the table says so.

Peers' own helpers are used: TransformerLens' `patching.get_act_patch_attn_head_out_by_pos` and
`get_act_patch_resid_pre` on a `TransformerBridge` of the Hugging Face weights as they are, nnsight's `trace`,
pyvene's interchange (`VanillaIntervention`, which runs the source prompts again for every cell). The plain loop is
Hugging Face's SDPA forward with a hook that patches many positions of one head (or one layer's stream) in one batch,
`--loop-batch` cells at a time, every position unembedded.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

from contestant import Contestant, table
from random_gpt2 import saved
from sweep_contestants import LOOP, NNSIGHT, OURS, PYVENE, TRANSFORMER_LENS

OURS_NAME, PLAIN_KERNELS = "cutaway", "cutaway, torch's kernels"


def make_case(folder: Path, args: argparse.Namespace) -> None:
    import torch

    saved(folder / "model", n_layer=args.layers)
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
    ours = taken[OURS_NAME]
    return {
        name: round(statistics.median(b / a for a, b in zip(ours, s)), 2) for name, s in taken.items() if s and ours
    }


def sample(shape: list[int], count: int) -> list[list[int]]:
    """Cells drawn evenly over a grid, in a fixed order."""
    import torch

    total = math.prod(shape)
    chosen = torch.randperm(total, generator=torch.Generator().manual_seed(2))[:count]
    return [[int(i) for i in torch.unravel_index(n, shape)] for n in chosen.sort().values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transformer-lens", help="python of an environment with transformer-lens 4")
    parser.add_argument("--nnsight", help="python of an environment with nnsight 0.8")
    parser.add_argument("--pyvene", help="python of an environment with pyvene 0.1")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--pairs", nargs="+", default=["all", "one"], choices=["all", "one"], help="tokens that differ")
    parser.add_argument("--cells", type=int, default=8, help="sampled of each sweep for those that are scaled")
    parser.add_argument("--loop-batch", type=int, default=4, help="cells in one batch of the plain loop")
    parser.add_argument("--repeats", type=int, default=2, help="of the residual sweep; heads once")
    parser.add_argument("--kinds", nargs="+", default=["residual", "heads"], choices=["residual", "heads"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=600, help="seconds that a contestant may take for one answer")
    parser.add_argument("--markdown", action="store_true", help="print tables in place of JSON")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        make_case(Path(folder), args)
        common = (folder, str(args.threads))
        peers = {
            "TransformerLens": (args.transformer_lens, TRANSFORMER_LENS, ()),
            "nnsight": (args.nnsight, NNSIGHT, ()),
            "pyvene": (args.pyvene, PYVENE, ()),
        }
        own = {
            OURS_NAME: (sys.executable, OURS, ("ours",)),
            PLAIN_KERNELS: (sys.executable, OURS, ("torch",)),
            "plain loop": (sys.executable, LOOP, (str(args.loop_batch),)),
        }
        contestants = {
            name: Contestant(python, code, *common, *more, limit=args.limit)
            for name, (python, code, more) in {**own, **peers}.items()
            if python
        }
        report = measure(contestants, args)
        print(markdown(report) if args.markdown else json.dumps(report, indent=2))
        for contestant in contestants.values():
            contestant.end()


def measure(contestants: dict[str, Contestant], args: argparse.Namespace) -> dict:
    shapes = {"heads": [args.layers, 12, args.tokens], "residual": [args.layers, args.tokens]}
    report: dict = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the start, "
        f"{args.threads} threads",
        "shape": f"{args.layers} layers, d 768, {args.prompts} prompts of {args.tokens} tokens",
        "sweeps": {},
    }
    for kind in args.kinds:
        for pairs in args.pairs:
            name = f"{kind}, {'every token differs' if pairs == 'all' else 'one token differs'}"
            row = compare(contestants, kind, pairs, shapes[kind], args)
            row["arithmetic"] = arithmetic(kind, pairs, args)
            report["sweeps"][name] = row
            print(json.dumps({name: row}), file=sys.stderr, flush=True)
    return report


def compare(
    contestants: dict[str, Contestant], kind: str, pairs: str, shape: list[int], args: argparse.Namespace
) -> dict:
    cells = sample(shape, args.cells)
    total = math.prod(shape)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    cpu: dict[str, list[float]] = {name: [] for name in contestants}
    values: dict[str, list[float]] = {}
    asked = [name for name in contestants if not (name == PLAIN_KERNELS and kind == "heads")]
    for name in asked:
        if name not in (OURS_NAME, PLAIN_KERNELS):
            contestants[name].try_ask(kind=kind, pairs=pairs, cells=cells[:1])  # warm
    for _ in range(args.repeats if kind == "residual" else 1):
        for name in asked:
            found = contestants[name].try_ask(kind=kind, pairs=pairs, cells=cells)
            if found is None:
                continue
            share = 1.0 if name in (OURS_NAME, PLAIN_KERNELS) else total / len(cells)
            seconds[name].append(found["seconds"] * share)
            cpu[name].append(found["cpu"] * share)
            values[name] = found["values"]
    ours = values.get(OURS_NAME, [])
    largest = max((abs(v) for v in ours), default=1.0)
    return {
        "cells": total,
        "timed": {name: total if name in (OURS_NAME, PLAIN_KERNELS) else len(cells) for name in asked},
        "seconds_whole_sweep": {name: round(statistics.median(s), 2) for name, s in seconds.items() if s},
        "times_ours": times(seconds),
        "cpu_seconds_times_ours": times(cpu),
        "apart": {
            name: max((abs(a - b) for a, b in zip(ours, v)), default=0.0) / largest for name, v in values.items()
        },
        "out": {name: contestants[name].out for name in asked if contestants[name].out},
    }


def arithmetic(kind: str, pairs: str, args: argparse.Namespace) -> dict:
    """Multiply-adds (in 10^9) of the whole sweep: products with weights, d = 768, V = 50,257; attention's own left out.

    A block costs 12 d^2 a token: queries, keys, values and output d^2 each, the MLP 8 d^2.
    """
    layers, tokens, d, vocabulary = args.layers, args.tokens, 768, 50_257
    differs = 0 if pairs == "all" else tokens - 5  # the first position in which the prompts differ
    whole = floor = 0.0
    for layer in range(layers):
        for position in range(tokens):
            many = 12 if kind == "heads" else 1
            whole += many * (layers * tokens * 12 * d * d + tokens * d * vocabulary)
            first = layer + (kind == "heads")  # the first block that a patched z enters is the next
            if position < differs or (kind == "residual" and layer == 0 and pairs == "one" and position > differs):
                continue  # what is patched is there already
            if kind == "heads" and layer == layers - 1 and position < tokens - 1:
                continue  # nothing reads it
            later = tokens - 1 - position
            blocks = 0.0
            if kind == "heads":
                blocks += 9 * d * d  # the output projection and the MLP, at the position alone
            for block in range(first, layers):
                if block == layers - 1:  # keys and values of what changed, and the last position
                    changed = 1 if block == first else later + 1
                    blocks += (2 * changed + (10 if block > first or not later else 9)) * d * d
                elif block == first:
                    blocks += (12 + 9 * later) * d * d
                else:
                    blocks += 12 * (later + 1) * d * d
            floor += many * (blocks + 2 * d)
    prompts = args.prompts / 1e9
    return {
        "one_forward_a_cell": round(whole * prompts, 1),
        "least_known": round(floor * prompts, 1),
        "most_that_arithmetic_gives": round(whole / floor, 2),
    }


def markdown(report: dict) -> str:
    """The tables of docs/performance.md."""
    sweeps = report["sweeps"]
    every = list(next(iter(sweeps.values()))["timed"])
    rows = [["sweep", "cells", *every]]
    for name, row in sweeps.items():
        shown = []
        for who in every:
            took, ratio = row["seconds_whole_sweep"].get(who), row["times_ours"].get(who)
            if took is None or ratio is None:
                shown.append(row["out"].get(who, "–"))
            else:
                shown.append(f"**{took:.1f}**" if who == OURS_NAME else f"{took:.0f} ({ratio:.1f} times)")
        rows.append([name, f"{row['cells']:,}", *shown])
    work = [["sweep", "one forward a cell, 10⁹ multiply-adds", "the least known", "the most that arithmetic gives"]]
    for name, row in sweeps.items():
        counted = row["arithmetic"]
        work.append(
            [
                name,
                f"{counted['one_forward_a_cell']:,.0f}",
                f"{counted['least_known']:,.0f}",
                f"{counted['most_that_arithmetic_gives']:.1f} times",
            ]
        )
    apart = max(value for row in sweeps.values() for value in row["apart"].values())
    return (
        f"{report['shape']}; {report['machine']}; seconds for the whole sweep\n\n{table(rows)}\n\n"
        f"The sampled cells' values agree to {apart:.1e} of the largest.\n\n{table(work)}"
    )


if __name__ == "__main__":
    main()
