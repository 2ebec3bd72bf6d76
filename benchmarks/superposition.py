"""Training toy models of superposition: ours, beside the public notebooks' way and a plain loop over models.

The same networks, data distribution, batch, optimiser (Adam) and number of steps in one run:
    ours        all instances on one axis, gradients written out, shared draws (`cutaway.toys.superposition.train`)
    instances   all instances on one axis, einsum and autograd, a fresh draw for each: the public notebook's way
    loop        one torch.nn.Module at a time, autograd: what a reader writes first

    python benchmarks/superposition.py [--repeats 3] [--threads 1] [--json]

Prints the median seconds for 1,000 steps, and both ratios; the final loss of each says that the work was the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch

from cutaway.toys.superposition.data import Sparse
from cutaway.toys.superposition.networks import Networks, train

SIZES = [(5, 2, 10), (20, 5, 10), (80, 20, 10), (2, 1, 144)]  # n, m, instances
BATCH, RATE = 1024, 1e-3


class Plain(torch.nn.Module):
    """One toy network as a module."""

    def __init__(self, n: int, m: int, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.nn.Parameter(torch.randn(m, n, generator=generator) * (2 / (n + m)) ** 0.5)
        self.bias = torch.nn.Parameter(torch.zeros(n))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ self.weight.T @ self.weight + self.bias)


def ours(n: int, m: int, density: torch.Tensor, importance: torch.Tensor, steps: int) -> Networks:
    start = Networks.random(len(density), n, m, seed=0)
    data = Sparse(density[:, None].expand(-1, n))
    return train(start, data, importance[None], steps=steps, learning_rate=RATE, batch=BATCH)


def instances(n: int, m: int, density: torch.Tensor, importance: torch.Tensor, steps: int) -> Networks:
    start = Networks.random(len(density), n, m, seed=0)
    weight, bias = (torch.nn.Parameter(p.clone()) for p in (start.encoder, start.bias))
    optimiser = torch.optim.Adam([weight, bias], lr=RATE)
    for _ in range(steps):
        shape = (BATCH, len(density), n)
        x = torch.rand(shape) * (torch.rand(shape) <= density[None, :, None])
        h = torch.einsum("bin,imn->bim", x, weight)
        out = torch.relu(torch.einsum("bim,imn->bin", h, weight) + bias)
        loss = (importance * (x - out) ** 2).sum(dim=2).mean(dim=0).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return Networks(weight.detach(), bias.detach())


def loop(n: int, m: int, density: torch.Tensor, importance: torch.Tensor, steps: int) -> Networks:
    done = []
    for i, p in enumerate(density):
        model = Plain(n, m, i)
        optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
        for _ in range(steps):
            x = torch.rand(BATCH, n) * (torch.rand(BATCH, n) <= p)
            loss = (importance * (x - model(x)) ** 2).sum(dim=1).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        done.append((model.weight.detach(), model.bias.detach()))
    return Networks(torch.stack([w for w, _ in done]), torch.stack([b for _, b in done]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    rows = []
    for n, m, count in SIZES:
        density = torch.logspace(0, -2, count)
        importance = 0.9 ** torch.arange(n, dtype=torch.float32)
        seconds: dict[str, list[float]] = {"ours": [], "instances": [], "loop": []}
        loss = {}
        for repeat in range(asked.repeats + 1):
            for name, way in (("ours", ours), ("instances", instances), ("loop", loop)):
                steps = 3 if repeat == 0 else asked.steps  # the first round warms up
                began = time.perf_counter()
                nets = way(n, m, density, importance, steps)
                if repeat:
                    seconds[name].append((time.perf_counter() - began) * 1000 / steps)
                    test = Sparse(density[:, None].expand(-1, n))
                    loss[name] = float(nets.loss(test, importance[None]).mean())
        median = {name: statistics.median(each) for name, each in seconds.items()}
        rows.append(
            {
                "n": n,
                "m": m,
                "networks": count,
                "seconds_per_1000_steps": median,
                "instances/ours": statistics.median(a / b for a, b in zip(seconds["instances"], seconds["ours"])),
                "loop/ours": statistics.median(a / b for a, b in zip(seconds["loop"], seconds["ours"])),
                "mean_loss": loss,
            }
        )
    if asked.json:
        print(json.dumps({"threads": asked.threads, "repeats": asked.repeats, "rows": rows}))
        return
    print(f"seconds for 1,000 steps of batch {BATCH}, {asked.threads} thread, median of {asked.repeats}")
    heads = ("networks", "ours", "instances", "loop", "instances/ours", "loop/ours")
    print(f"{'n in m':>10}" + "".join(f"{head:>16}" for head in heads))
    for row in rows:
        s = row["seconds_per_1000_steps"]
        cells = [f"{row['networks']}", *(f"{s[name]:.2f}" for name in ("ours", "instances", "loop"))]
        cells += [f"{row[name]:.1f}x" for name in ("instances/ours", "loop/ours")]
        print(f"{row['n']:>4} in {row['m']:<3}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
