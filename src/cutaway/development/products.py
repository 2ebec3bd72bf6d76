"""Matrix products of large layers by the faster kernel, forward and backward (see model/kernels.py for when and why).

A chain of a large network spends its time in the three products of each layer: y = x W^T, and for the gradients
dx = g W and dW = g^T x. All three are of one form, A B^T, so that one differentiable function serves them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cutaway.core import onednn
from cutaway.model.kernels import WORTH


class _Product(torch.autograd.Function):
    """A B^T of A [n, k] and B [m, k]; differentiable as often as one likes, since its gradients are of its own form."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return onednn.linear(a, b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (g,), (a, b) = grads, ctx.saved_tensors
        need_a, need_b = ctx.needs_input_grad
        # the first factor is read row by row, the second is packed whatever its strides
        return (
            product(g.contiguous(), b.t()) if need_a else None,
            product(g.t().contiguous(), a.t()) if need_b else None,
        )


def product(a: Tensor, b: Tensor) -> Tensor:
    """A B^T of A [n, k], B [m, k]."""
    found: Tensor = _Product.apply(a, b)  # type: ignore[no-untyped-call]
    return found


class _ByOneDNN(TorchFunctionMode):
    """Inside, `nn.Linear` and GPT-2's Conv1D (an addmm) multiply by it where a product is large."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not kwargs and func is F.linear and len(args) in (2, 3):
            x, weight, bias = (*args, None)[:3]
            if _plain(x, weight) and x.shape[-1] == weight.shape[1]:
                y = product(x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], len(weight))
                return y if bias is None else y + bias
        if not kwargs and func is torch.addmm and len(args) == 3:
            bias, x, weight = args
            if _plain(x, weight) and x.ndim == 2 and x.shape[1] == weight.shape[0]:
                return product(x, weight.t()) + bias
        return func(*args, **kwargs)


def _plain(x: Tensor, weight: Tensor) -> bool:
    return (
        x.dtype is torch.float32 and weight.dtype is torch.float32 and x.is_cpu and weight.is_cpu
        and weight.ndim == 2 and x.ndim >= 2 and x.numel() * weight.numel() >= WORTH * x.shape[-1]
    )  # fmt: skip


def fast_products() -> AbstractContextManager[Any]:
    """Inside, large products of linear layers take the faster kernel, where this machine has it."""
    return _ByOneDNN() if onednn.available() else nullcontext()
