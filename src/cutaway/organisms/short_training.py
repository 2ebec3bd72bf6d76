"""The training loop of the models that a case trains on the spot: a warm-up, checkpoints on the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cutaway.core import write_json


class ShortRecipe(Protocol):
    """What both recipes say: `warmup` steps up to the optimisers' rates, then those to the end."""

    @property
    def steps(self) -> int: ...
    @property
    def warmup(self) -> int: ...


def train_short(
    out: Path,
    recipe: ShortRecipe,
    optimisers: Sequence[torch.optim.Optimizer],
    loss_at: Callable[[int], Tensor],
    save: Callable[[Path], None],
    wanted: Collection[int],
    *,
    clip: float | None = None,
    every: int = 100,
    told: Callable[[], str] = lambda: "",
    on: Callable[[str], None] = lambda message: None,
) -> Path:
    """Minimise `loss_at(step)` by all `optimisers` and `save` into `out`/step-000000 … at the `wanted` steps; `on` gets
    a line `every` so many steps, with what `told` adds.

    A folder that holds the last checkpoint is left as it is: these take minutes, and are trained whole or not at all.
    """
    if (out / f"step-{recipe.steps:06d}").is_dir():
        return out
    settings: Any = recipe
    write_json(out / "recipe.json", asdict(settings), indent=2)
    groups = [(group, group["lr"]) for optimiser in optimisers for group in optimiser.param_groups]
    for step in range(recipe.steps + 1):
        if step in wanted:
            save(out / f"step-{step:06d}")
        if step == recipe.steps:
            break
        for group, rate in groups:
            group["lr"] = rate * min(1.0, (step + 1) / recipe.warmup)
        loss = loss_at(step)
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if clip is not None:
            nn.utils.clip_grad_norm_([p for group, _ in groups for p in group["params"]], clip)
        for optimiser in optimisers:
            optimiser.step()
        if step % every == 0:
            on(f"step {step} of {recipe.steps}: training loss {loss.item():.3g}{told()}")
    return out
