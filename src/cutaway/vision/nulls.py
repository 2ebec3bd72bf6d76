"""The re-randomised tower: the same network with weights that learned nothing."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from cutaway.evidence import rerandomise
from cutaway.model import load
from cutaway.vision.tower import BATCH, Tower


def rerandomised(tower: Tower, seed: int = 0, pictures: Tensor | None = None) -> Tower:
    """A copy in which every matrix is Gaussian with its own mean and variance, and every convolution's kernel as one
    matrix [out, in * height * width] is (drawn kernel by kernel, each would keep its mean, and with it which channel
    feeds which). Where `pictures` are given, batch norms take their running statistics from them: those of the trained
    network would not fit. The text side stays as it is.

    Costs the weights, and with pictures and batch norms one forward of them.
    """
    drawn = rerandomise(tower.model, seed=seed)
    with torch.no_grad():
        for name, module in drawn.hf.named_modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                trained = tower.model.hf.get_submodule(name).weight
                digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
                generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") % 2**63)
                noise = torch.randn(trained.shape, generator=generator)
                module.weight.copy_(trained.mean() + trained.std(correction=0) * noise)
        norms = [m for m in drawn.hf.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]
        if norms and pictures is not None:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the mean over batches
                norm.train()
            for part in torch.split(pictures, BATCH):
                drawn.run(tower.pixels(part))
            for norm in norms:
                norm.eval()
    model = load(drawn.hf)
    model.name = f"{tower.name} re-randomised (seed {seed})"
    return tower.with_model(model)
