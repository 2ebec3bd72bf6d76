"""Data parallel: each process takes a share of every batch, and the step is that of one process on the whole batch.

Gradients are averaged; the n k largest of BatchTopK are those of the whole batch (one threshold over all processes);
which features fired, and the running threshold, are agreed on. Exact for losses that are means over tokens: BatchTopK,
Matryoshka, TopK, and ReLU with a fixed weight. Penalties of the batch's own L0 (jumprelu quadratic, `adapt`) and
resampling are refused.

    torchrun --nproc-per-node 2 script.py        # in it: torch.distributed.init_process_group("gloo"); fit_rows(…)
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from cutaway.core import InputError
from cutaway.features import activations as rules
from cutaway.features.activations import Chosen
from cutaway.features.architectures.base import Architecture, At
from cutaway.features.architectures.batchtopk import BatchTopK, Matryoshka
from cutaway.features.learner import Forward, Learner
from cutaway.features.settings import DictionarySettings

EXACT = ("batchtopk", "matryoshka", "topk", "relu")


def active() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def share(batch: Tensor) -> Tensor:
    """This process's part of the indices of a batch. Raises `InputError` where it does not divide."""
    world = dist.get_world_size()
    if len(batch) % world:
        raise InputError(f"a batch of {len(batch)} does not divide over {world} processes.")
    return batch[dist.get_rank() :: world]


def checked(settings: DictionarySettings) -> None:
    """Raises `InputError` for what is no mean over tokens."""
    if settings.activation not in EXACT or settings.adapt or settings.resample:
        raise InputError(
            f"{settings.name}: over several processes {', '.join(EXACT)} are trained, without adapt and resample; "
            "their losses are means over tokens, so that shares of a batch add up."
        )


class _Global(BatchTopK):
    """The n k largest of all processes' tokens."""

    def choose(self, at: At, x: Tensor) -> tuple[Chosen, Tensor]:
        W_enc, b_enc = at.weight("W_enc"), at.weight("b_enc")
        pre = rules.dense_pre(x, W_enc, b_enc, bf16=at.bf16)
        world = dist.get_world_size()
        # No process can hold more of the whole batch's largest than all of them: n k world of its own.
        most = min(at.k * world, pre.shape[1])
        guess = float(at.learner.threshold[at.layer]) if most < pre.shape[1] else 0.0
        own = rules.batch_topk(pre, x, W_enc, b_enc, most, guess)
        keep = own.pre.detach() >= _threshold(own.pre.detach(), at.k * x.shape[0] * world)
        kept = own.active.kept(keep)
        return Chosen(kept, own.pre[keep.nonzero()[:, 0]]), pre

    def count(self, at: At, chosen: Chosen, values: Tensor) -> None:
        lowest = torch.tensor([chosen.lowest], dtype=torch.float64)
        dist.all_reduce(lowest, dist.ReduceOp.MIN)
        if torch.isfinite(lowest).all():
            threshold = at.learner.threshold
            old, new = threshold[at.layer], float(lowest)
            threshold[at.layer] = new if old == 0 else 0.98 * old + 0.02 * new


class _GlobalMatryoshka(_Global):
    def bounds(self, features: int, groups: tuple[float, ...]) -> tuple[int, ...]:
        return Matryoshka().bounds(features, groups)


def _threshold(values: Tensor, wanted: int) -> float:
    """The `wanted`-th largest of all processes' values."""
    sizes = [torch.zeros(1, dtype=torch.long) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(values)]))
    width = max(int(size) for size in sizes)
    padded = torch.full((width,), -torch.inf, dtype=values.dtype)
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    every = torch.cat(parts)
    every = every[torch.isfinite(every)]
    return float(every.topk(wanted).values[-1]) if len(every) > wanted else -torch.inf


class ParallelLearner(Learner):
    """A learner whose step is that of the whole batch."""

    def __init__(self, settings: DictionarySettings, *args: Any, **more: Any) -> None:
        checked(settings)
        super().__init__(settings, *args, **more)
        ours: dict[str, Architecture] = {"batchtopk": _Global(), "matryoshka": _GlobalMatryoshka()}
        self.architecture = ours.get(settings.activation, self.architecture)

    def update(self, loss: Tensor, lr: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        loss.backward()  # type: ignore[no-untyped-call]
        world = dist.get_world_size()
        for p in self.parameters.values():
            if p.requires_grad:
                if p.grad is None:
                    p.grad = torch.zeros_like(p)
                dist.all_reduce(p.grad)
                p.grad /= world
        if self.settings.decoder == "unit":
            self._along_the_sphere()
        self.optimiser.step()
        if self.settings.decoder == "unit":
            self._to_the_sphere()
        self.optimiser.zero_grad(set_to_none=True)

    @torch.no_grad()
    def count(self, forward: Forward) -> None:
        before = self.since_fired.clone()
        super().count(forward)
        fired = (self.since_fired == 0).to(torch.int32)
        dist.all_reduce(fired, dist.ReduceOp.MAX)
        tokens = forward.chosen[0].active.n_tokens * dist.get_world_size()
        self.since_fired = torch.where(fired > 0, torch.zeros_like(before), before + tokens)
