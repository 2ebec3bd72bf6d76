"""Training modular addition until it groks: full batch, weight decay 1, checkpoints close together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cutaway.core import atomic_path
from cutaway.organisms.grokking.module import ModularAddition
from cutaway.organisms.short_training import train_short


@dataclass(frozen=True)
class GrokkingRecipe:
    """The paper's settings with a smaller modulus and network, so that one core takes two minutes; `share` of the pairs
    trains."""

    p: int = 53
    d_model: int = 64
    heads: int = 4
    d_mlp: int = 256
    share: float = 0.45
    rate: float = 1e-3
    weight_decay: float = 1.0
    steps: int = 6000
    warmup: int = 10
    every: int = 50
    seed: int = 0


def split(p: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the training pairs and of the others, in [0, p^2)."""
    order = torch.randperm(p * p, generator=torch.Generator().manual_seed(seed + 1000))
    cut = round(share * p * p)
    return order[:cut].sort().values, order[cut:].sort().values


def train_modular_addition(
    out: str | Path, recipe: GrokkingRecipe | None = None, on: Callable[[str], None] = lambda message: None
) -> Path:
    """Train into `out`/step-000000 …; a folder that holds the last checkpoint is left as it is.

    Cost: `steps` full-batch steps (about 15 ms each on one core for the default).
    """
    from safetensors.torch import save_file

    recipe = recipe or GrokkingRecipe()
    module = ModularAddition(recipe.p, recipe.d_model, recipe.heads, recipe.d_mlp, seed=recipe.seed)
    tokens = module.pairs()
    answers = (tokens[:, 0] + tokens[:, 1]) % recipe.p
    inside, outside = split(recipe.p, recipe.share, recipe.seed)

    def save(folder: Path) -> None:
        with atomic_path(folder / "model.safetensors") as temporary:
            save_file({name: value.contiguous() for name, value in module.state_dict().items()}, temporary)

    def told() -> str:
        with torch.no_grad():
            right = (module(tokens[outside]).argmax(-1) == answers[outside]).float().mean()
        return f", accuracy on the other pairs {float(right):.3f}"

    # Close together at first, where memorisation takes a few dozen steps.
    early = np.unique(np.round(np.geomspace(1, recipe.every, 8)).astype(int)).tolist()
    adamw = torch.optim.AdamW(
        module.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
    )
    return train_short(
        Path(out), recipe, [adamw],
        lambda step: torch.nn.functional.cross_entropy(module(tokens[inside]), answers[inside]),
        save, {0, *early, *range(0, recipe.steps + 1, recipe.every), recipe.steps}, every=500, told=told, on=on,
    )  # fmt: skip
