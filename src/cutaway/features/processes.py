"""Several processes that train together (torchrun): which of them this one is, and what they tell each other.

Alone, every function here is the identity, so that callers need not ask.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from cutaway.core import InputError

T = TypeVar("T")


def active() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def world() -> int:
    return dist.get_world_size() if active() else 1


def rank() -> int:
    return dist.get_rank() if active() else 0


def is_main() -> bool:
    """Whether this one writes, prints and keeps checkpoints; by torchrun's RANK where there is no group (yet)."""
    return rank() == 0 if active() else os.environ.get("RANK", "0") == "0"


@contextmanager
def launched() -> Iterator[bool]:
    """Within it the processes that torchrun started are one group (NCCL with CUDA, else gloo); alone, nothing is.

    Gives whether this is the one that writes: what it does behind the block, it does alone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield is_main()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield is_main()
        dist.barrier()  # one that is done may not hang up on another that still listens
    finally:
        dist.destroy_process_group()


def share(n: int) -> slice:
    """This process's part of n things in order: every world-th, so that all get as many; a remainder is left out."""
    return slice(rank(), n - n % world(), world())


def divides(n: int, what: str) -> None:
    """Raises `InputError` where n does not divide over the processes."""
    if n % world():
        raise InputError(f"{what} ({n}) does not divide over {world()} processes.")


def on_main(do: Callable[[], T]) -> T:
    """What the main process's `do()` gives, everywhere; where it raises, everyone raises the same."""
    if not active():
        return do()
    told: list[Any] = [None, None]
    if is_main():
        try:
            told[0] = do()
        except Exception as error:
            told[1] = error
    dist.broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    result: T = told[0]
    return result


def total(value: Tensor) -> Tensor:
    """The sum over processes; not differentiable."""
    out = value.detach().clone()
    if active():
        dist.all_reduce(out)
    return out


def least(value: Tensor) -> Tensor:
    out = value.detach().clone()
    if active():
        dist.all_reduce(out, dist.ReduceOp.MIN)
    return out


def gathered(value: Tensor, dim: int = 0) -> Tensor:
    """All processes' tensors, one after another along `dim`, where alone they may differ in length."""
    if not active():
        return value
    mine = value.detach().movedim(dim, 0).contiguous()
    sizes = [torch.zeros(1, dtype=torch.long, device=value.device) for _ in range(world())]
    dist.all_gather(sizes, torch.tensor([len(mine)], device=value.device))
    lengths = [int(size) for size in sizes]
    padded = mine.new_zeros(max(lengths), *mine.shape[1:])
    padded[: len(mine)] = mine
    parts = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(parts, padded)
    return torch.cat([part[:length] for part, length in zip(parts, lengths)]).movedim(0, dim)


class _Summed(torch.autograd.Function):
    """y = sum over processes of x, each of which goes on from the whole y: dL/dx = dL/dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return total(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class _Spread(torch.autograd.Function):
    """y = x, of which each process uses its own part: dL/dx = sum over processes of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return total(grads[0])


def summed(x: Tensor) -> Tensor:
    """The sum over processes, differentiable where each goes on with the same computation."""
    return _Summed.apply(x) if active() else x  # type: ignore[no-untyped-call]


def spread(x: Tensor) -> Tensor:
    """x, whose gradient is the sum of what each process's part of the computation gives."""
    return _Spread.apply(x) if active() else x  # type: ignore[no-untyped-call]
