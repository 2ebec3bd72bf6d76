"""The re-randomised tower: the same network with weights that learned nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cutaway.evidence import rerandomise
from cutaway.model import Model, load
from cutaway.vision.tower import BATCH, Tower

_MATCHED_ON = 128  # pictures


def rerandomised(tower: Tower, seed: int = 0, pictures: Tensor | None = None) -> Tower:
    """A copy in which every matrix is Gaussian with its own mean and variance (`evidence.rerandomise`). The text side
    stays as it is.

    Random weights under trained biases leave most ReLUs silent, and a silent network is a null that nothing can match.
    So where `pictures` are given, batch norms take their running statistics from them, and in a network without norms
    each unit's weights and bias are scaled and shifted until its inputs to the ReLU have the mean and spread over
    pictures that the trained unit's have, layer by layer: as many units fire, as often.

    Costs the weights, and with pictures one forward of 128 for each layer.
    """
    drawn = rerandomise(tower.model, seed=seed)
    with torch.no_grad():
        if pictures is not None:
            norms = [m for m in drawn.hf.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]
            if norms:
                _estimate(norms, drawn, tower, pictures)
            elif not any("norm" in type(m).__name__.lower() for m in drawn.hf.modules()):
                _match(tower, drawn, pictures[:_MATCHED_ON])
    model = load(drawn.hf)
    model.name = f"{tower.name} re-randomised (seed {seed})"
    return tower.with_model(model)


def _estimate(norms: list[Any], drawn: Model, tower: Tower, pictures: Tensor) -> None:
    """Running statistics of batch norms, from pictures."""
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over batches
        norm.train()
    for part in torch.split(pictures, BATCH):
        drawn.run(tower.pixels(part))
    for norm in norms:
        norm.eval()


def _match(tower: Tower, drawn: Model, pictures: Tensor) -> None:
    """Each unit's mean and spread over pictures (and places), as the trained unit's, layer by layer."""
    layers = [n for n, m in drawn.hf.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and m.bias is not None]
    pixels = tower.pixels(pictures)
    wanted = tower.model.run(pixels, [f"path.{name}" for name in layers])
    for name in layers:
        target, x = (run[f"path.{name}"].float() for run in (wanted, drawn.run(pixels, [f"path.{name}"])))
        axes = tuple(a for a in range(target.ndim) if a != (1 if target.ndim == 4 else target.ndim - 1))
        gain = target.std(axes) / x.std(axes).clamp(min=1e-6)
        layer: Any = drawn.hf.get_submodule(name)
        layer.weight.mul_(gain.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        layer.bias.copy_(gain * (layer.bias - x.mean(axes)) + target.mean(axes))
