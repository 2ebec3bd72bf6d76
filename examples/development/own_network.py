"""A network of one's own through its training: loss, learning coefficient, curvature, and where they change.

    python examples/development/own_network.py OUT

Trains a small network on two interleaved moons, keeps checkpoints, and writes a timeline to OUT. A minute of one core.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cutaway.development import (
    Data,
    Setting,
    cross_entropy,
    find_checkpoints,
    llc_measure,
    loss_measure,
    timeline,
    trace_measure,
    weight_norm,
)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))


def moons(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    angle = math.pi * torch.rand(n, generator=torch.Generator().manual_seed(0))
    label = torch.arange(n) % 2
    x = torch.stack([angle.cos() + label, (1 - 2 * label) * angle.sin() + 0.3 * label], 1)
    return x + 0.1 * torch.randn(n, 2, generator=torch.Generator().manual_seed(1)), label


def train(folder: Path, data: tuple[torch.Tensor, torch.Tensor], steps: int = 1000) -> None:
    module = network()
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2)
    kept = {round(1.4**i) for i in range(21)} | {0}
    for step in range(steps + 1):
        if step in kept:
            place = folder / f"step-{step:06d}"
            place.mkdir(parents=True, exist_ok=True)
            save_file(module.state_dict(), place / "model.safetensors")
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(data[0]), data[1]).backward()
        optimiser.step()


def main(out: Path) -> None:
    x, y = moons(200)
    train(out / "training", (x, y))

    def opened(checkpoint):
        module = network()
        module.load_state_dict(load_file(Path(checkpoint.source) / "model.safetensors"))
        return module

    data = Data((x, y), cross_entropy, "200 points of two moons")
    setting = Setting(n_beta=200 / math.log(200), localisation=10.0, eps=1e-3, chains=8, draws=300, burn_in=100)
    line = timeline(
        find_checkpoints(out / "training", opened),
        [loss_measure(data), llc_measure(data, setting), weight_norm(), trace_measure(data)],
        out / "timeline",
        on=lambda message: print(message, file=sys.stderr),
    )
    print(line.with_changepoints(["loss", "llc"], most=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
