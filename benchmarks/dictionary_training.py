"""Tokens per second of dictionary training: our sparse path, our own dense path, and SAELens on the same data.

    python benchmarks/dictionary_training.py                                # ours: sparse (bf16 and fp32), dense
    python benchmarks/dictionary_training.py --peer-python PEER/bin/python  # and SAELens, in its own environment

Each timed step is forward, backward and Adam on one batch of the same random activations: no model pass, no buffer, no
logging on either side. Repeats alternate between the contestants, so that what else the machine does falls on all; the
figures are medians of the repeats, and ratios are of each repeat's own pair. The floor is the encoder's product alone,
in float32, which no exact dense encoder can beat.
Defaults: d 512, F 8192, k 32, batch 2048 (reference: SAELens 6.54 makes 2,590 tokens/s on two quiet cores). SAELens
trains a TopK SAE, so ours is one layer of TopK transcoder with the input for target: the same products.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

PEER = r"""
import inspect, json, sys, time, torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.saes.sae import TrainStepInput
a = json.loads(sys.argv[1])
torch.set_num_threads(a["threads"])
torch.manual_seed(0)
sae = TopKTrainingSAE(TopKTrainingSAEConfig(
    d_in=a["d"], d_sae=a["features"], k=a["k"], device="cpu", dtype="float32", use_sparse_activations=a["sparse"],
    rescale_acts_by_decoder_norm=not a["sparse"],  # with both, 6.54 fails on the CPU
))
more = {"is_logging_step": False} if "is_logging_step" in inspect.signature(TrainStepInput).parameters else {}
adam = torch.optim.Adam(sae.parameters(), lr=1e-3)
x = torch.randn(a["batch"], a["d"], generator=torch.Generator().manual_seed(1))
def step(i):
    out = sae.training_forward_pass(
        TrainStepInput(sae_in=x, coefficients={}, dead_neuron_mask=None, n_training_steps=i, **more)
    )
    out.loss.backward()
    adam.step()
    adam.zero_grad()
step(0)
print("ready", flush=True)
for line in sys.stdin:
    begun = time.perf_counter()
    for i in range(int(line)):
        step(i + 1)
    print(time.perf_counter() - begun, flush=True)
"""


def ours(args: argparse.Namespace, *, bf16: bool):
    """A function that makes n steps of our trainer's learner and returns the seconds."""
    import torch

    from cutaway.features.learner import Learner
    from cutaway.features.normalise import Normalisation
    from cutaway.features.settings import DictionarySettings

    x = torch.randn(1, args.batch, args.d, generator=torch.Generator().manual_seed(1))
    settings = DictionarySettings(kind="plt", features=args.features, l0=args.k, activation=args.rule)
    learner = Learner(settings, 1, args.d, args.d, Normalisation.of(x, x), bf16=bf16)

    def steps(n: int) -> float:
        begun = time.perf_counter()
        for _ in range(n):
            learner.step(x, x, 1e-3)
        return time.perf_counter() - begun

    return steps


def dense(args: argparse.Namespace):
    """The same step with dense products and autograd, as most trainers do it."""
    import torch

    g = torch.Generator().manual_seed(1)
    x = torch.randn(args.batch, args.d, generator=g)
    W = torch.nn.Parameter(torch.randn(args.features, args.d, generator=g) / args.d**0.5)
    D = torch.nn.Parameter(0.1 * torch.randn(args.features, args.d, generator=g) / args.d**0.5)
    b, c = (torch.nn.Parameter(torch.zeros(n)) for n in (args.features, args.d))
    adam = torch.optim.Adam((W, D, b, c), lr=1e-3, fused=True)

    def steps(n: int) -> float:
        begun = time.perf_counter()
        for _ in range(n):
            h = x @ W.T + b
            top = h.topk(args.k, dim=1)
            a = torch.zeros_like(h).scatter(1, top.indices, top.values.relu())
            (a @ D + c - x).square().sum(-1).mean().backward()
            adam.step()
            adam.zero_grad(set_to_none=True)
        return time.perf_counter() - begun

    return steps


def floor(args: argparse.Namespace):
    """The encoder's product alone, in float32."""
    import torch

    x, W = torch.randn(args.batch, args.d), torch.randn(args.features, args.d)
    out = torch.empty(args.batch, args.features)

    def steps(n: int) -> float:
        begun = time.perf_counter()
        for _ in range(n):
            torch.mm(x, W.T, out=out)
        return time.perf_counter() - begun

    return steps


class Peer:
    """SAELens in a process of its own, which waits between its turns."""

    def __init__(self, python: str, args: argparse.Namespace, *, sparse: bool) -> None:
        what = {"sparse": sparse, **{k: getattr(args, k) for k in ("threads", "d", "features", "k", "batch")}}
        environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
        self.process = subprocess.Popen(
            [python, "-c", PEER, json.dumps(what)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        if self.process.stdout is None or "ready" not in self.process.stdout.readline():
            raise SystemExit(f"{python} could not run SAELens: is sae-lens installed there?")

    def __call__(self, n: int) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--features", type=int, default=8192)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--rule", choices=("topk", "batchtopk"), default="topk")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="Steps a repeat.")
    parser.add_argument("--peer-python", help="A Python with sae-lens installed.")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    import torch

    torch.set_num_threads(args.threads)
    contestants = {"ours, bf16 candidates": ours(args, bf16=True), "ours, float32": ours(args, bf16=False),
                   "ours, dense": dense(args), "floor: float32 encoder": floor(args)}  # fmt: skip
    if args.peer_python:
        contestants["SAELens"] = Peer(args.peer_python, args, sparse=False)
        contestants["SAELens, sparse activations"] = Peer(args.peer_python, args, sparse=True)
    for run in contestants.values():
        run(2)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for repeat in range(args.repeats):
        for name, run in contestants.items():
            seconds[name].append(run(args.steps))
        print(f"repeat {repeat + 1}/{args.repeats}", file=sys.stderr)

    tokens = args.steps * args.batch
    first = next(iter(contestants))
    rows = []
    for name, taken in seconds.items():
        ratios = [other / mine for other, mine in zip(taken, seconds[first])]
        rows.append(
            {
                "what": name,
                "tokens_per_second": round(tokens / statistics.median(taken)),
                "slowest": round(tokens / max(taken)),
                "fastest": round(tokens / min(taken)),
                "times_slower_than_first": round(statistics.median(ratios), 2),
            }
        )
    about = {k: getattr(args, k) for k in ("d", "features", "k", "batch", "rule", "threads", "repeats", "steps")}
    about |= {"torch": torch.__version__, "processor": platform.processor() or platform.machine()}
    if args.json:
        print(json.dumps({"schema": "cutaway.benchmark/1", "settings": about, "rows": rows}))
        return
    print(", ".join(f"{k} {v}" for k, v in about.items()))
    print(f"{'':28} tokens/s   (slowest-fastest)      {first} is faster by")
    for row in rows:
        span = f"({row['slowest']:,}-{row['fastest']:,})"
        print(f"{row['what']:28} {row['tokens_per_second']:>8,}   {span:22} {row['times_slower_than_first']:.2f}x")


if __name__ == "__main__":
    main()
