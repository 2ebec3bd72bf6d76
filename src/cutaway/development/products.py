"""Matrix products of large layers by the faster kernel, forward and backward (see model/kernels.py for when and why).

A chain of a large network spends its time in the three products of each layer: y = x W^T, and for the gradients
dx = g W and dW = g^T x. All three are of one form, A B^T, so that one differentiable function serves them. The last is
as large as the weights: memory for it, taken and given back at every step, costs as much as the product, so that it can
be written where it is wanted instead (`into`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cutaway.core import onednn
from cutaway.model.kernels import WORTH

_ROWS = 256  # of a gradient at a time: they are copied to their place while they lie in the cache


class _Product(torch.autograd.Function):
    """A B^T of A [n, k] and B [m, k]; differentiable as often as one likes, since its gradients are of its own form.

    `into` [m, k], if given, is where the gradient in B is written; it is for one backward pass.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, into: Tensor | None) -> Tensor:
        a = a.contiguous()  # packing what is neither a matrix nor the transpose of one takes a thousand times as long
        ctx.save_for_backward(a, b)
        ctx.into = into
        if 8 * len(a) <= len(b) and b.is_contiguous():  # the kernel packs its second factor: let that be the small one
            return onednn.linear(b, a).t().contiguous()
        return onednn.linear(a, b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (g,), (a, b) = grads, ctx.saved_tensors
        need_a, need_b = ctx.needs_input_grad[:2]
        # the first factor is read row by row, the second is packed whatever its strides
        da = product(g.contiguous(), b.t()) if need_a else None
        if not need_b:
            return da, None, None
        rows, columns = g.t().contiguous(), a.t()
        if ctx.into is None or torch.is_grad_enabled():  # grad: the gradient will be differentiated
            return da, product(rows, columns), None
        for at in range(0, len(rows), _ROWS):
            ctx.into[at : at + _ROWS] = onednn.linear(rows[at : at + _ROWS], columns)
        return da, ctx.into, None


def product(a: Tensor, b: Tensor, into: Tensor | None = None) -> Tensor:
    """A B^T of A [n, k], B [m, k]."""
    found: Tensor = _Product.apply(a, b, into)  # type: ignore[no-untyped-call]
    return found


class _ByOneDNN(TorchFunctionMode):
    """Inside, `nn.Linear` and GPT-2's Conv1D (an addmm) multiply by it where a product is large."""

    def __init__(self, into: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.into = dict(into)

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not kwargs and func is F.linear and len(args) in (2, 3):
            x, weight, bias = (*args, None)[:3]
            if _plain(x, weight) and x.shape[-1] == weight.shape[1]:
                rows = x.reshape(-1, x.shape[-1])
                y = product(rows, weight, self._place(weight)).view(*x.shape[:-1], len(weight))
                return y if bias is None else y + bias
        if not kwargs and func is torch.addmm and len(args) == 3:
            bias, x, weight = args
            if _plain(x, weight) and x.ndim == 2 and x.shape[1] == weight.shape[0]:
                return product(x, weight.t()) + bias
        return func(*args, **kwargs)

    def _place(self, weight: Tensor) -> Tensor | None:
        """Where this weight's gradient is wanted, once: a second use of the weight adds to the first's."""
        place = self.into.get(weight.data_ptr())
        if place is None or place.numel() != weight.numel() or not weight.is_contiguous():
            return None
        del self.into[weight.data_ptr()]
        return place.view(weight.shape)


def _plain(x: Tensor, weight: Tensor) -> bool:
    return (
        x.dtype is torch.float32 and weight.dtype is torch.float32 and x.is_cpu and weight.is_cpu
        and weight.ndim == 2 and x.ndim >= 2 and x.numel() * weight.numel() >= WORTH * x.shape[-1]
        and (weight.is_contiguous() or weight.t().is_contiguous())
    )  # fmt: skip


def fast_products(into: Mapping[int, Tensor] | None = None) -> AbstractContextManager[Any]:
    """Inside, large products of linear layers take the faster kernel, where this machine has it.

    into: address of a weight's first number -> a contiguous tensor as large, where the weight's gradient may be written
    (by the next backward pass; it is the gradient that autograd gives, or part of it, unless it gives another tensor).
    """
    return _ByOneDNN(into or {}) if onednn.available() else nullcontext()
