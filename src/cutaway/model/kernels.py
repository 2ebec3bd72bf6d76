"""The same arithmetic by faster kernels, for as long as a forward lasts: x86 processors, float32.

torch multiplies float32 matrices by the slower of its two libraries on AMD processors (core/onednn.py). GPT-2's
GELU is written in eight passes over memory; torch has the same function in one. Nothing is copied or converted: modules
of exactly known types compute y = x W^T + b by the other kernel, and where x has a gradient its g W, for weights that
have none. Results differ by rounding (1e-6 of the largest).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from cutaway.core import onednn

Swap = tuple[dict[str, Any], Callable[..., Tensor]]
"""A module's own attributes, and what becomes its `forward` among them."""

# Multiply-adds of a product below which oneDNN's set-up (8 microseconds) costs more than it saves. A forward that has
# none above it is equal to Hugging Face's own to the bit.
WORTH = 2_000_000


class Kernels:
    """The modules below `root` that have a faster kernel. Holds no tensor: weights are looked at when they are used.

    `on = False` leaves every forward to torch's own choice, for one that is equal to Hugging Face's to the bit.
    """

    def __init__(self, root: nn.Module) -> None:
        self.on = True
        self.activations: list[Swap] = []
        self.products: list[tuple[int, Swap]] = []  # with the number of the weight's entries
        if any(getattr(m, "_compiled_call_impl", None) is not None or hasattr(m, "_orig_mod") for m in root.modules()):
            return  # compiled: its graph is its own
        for module in root.modules():
            own = vars(module)
            if "forward" in own:  # another library's
                continue
            if (forward := _activation(module)) is not None:
                self.activations.append((own, forward))
            elif (product := _product_of(module)) is not None and onednn.available():
                self.products.append((module.weight.numel(), (own, product)))  # type: ignore[operator]

    def chosen(self, tokens: int) -> list[Swap]:
        """The products worth it in a forward of so many tokens, and activations with them."""
        if not self.on or torch.is_autocast_enabled("cpu") or _transformed():
            return []
        products = [swap for size, swap in self.products if tokens * size >= WORTH]
        return products + self.activations if products else []

    @contextmanager
    def during(self, tokens: int) -> Iterator[None]:
        """Inside, the modules use them, as far as a forward of `tokens` is worth it."""
        put = []
        try:
            for own, forward in self.chosen(tokens):
                if "forward" not in own:  # a run within a run has them already
                    own["forward"] = forward
                    put.append(own)
            yield
        finally:
            for own in put:
                own.pop("forward", None)  # another thread's run may have been first


def _activation(module: nn.Module) -> Callable[..., Tensor] | None:
    kind = type(module)
    # 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
    if kind.__module__ == "transformers.activations" and kind.__name__ in ("NewGELUActivation", "FastGELUActivation"):
        return partial(F.gelu, approximate="tanh")
    return None


def _product_of(module: nn.Module) -> Callable[..., Tensor] | None:
    """y = x W^T + b, W [out, in], by the other kernel; GPT-2's Conv1D holds W^T."""
    kind = type(module)
    transposed = kind.__name__ == "Conv1D" and kind.__module__ == "transformers.pytorch_utils"
    if kind is not nn.Linear and not transposed:
        return None
    weight = module.weight
    if type(weight) is not nn.Parameter or weight.dtype is not torch.float32 or not weight.is_cpu:
        return None
    return partial(_conv1d if transposed else _linear, module)


def _linear(module: Any, input: Tensor) -> Tensor:
    return _by_onednn(module, input, module.weight, False)


def _conv1d(module: Any, x: Tensor) -> Tensor:
    return _by_onednn(module, x, module.weight, True)


def _by_onednn(module: Any, x: Tensor, weight: Tensor, transposed: bool) -> Tensor:
    plain = (
        type(weight) is nn.Parameter and weight.dtype is torch.float32 and x.dtype is torch.float32 and x.is_cpu
        and weight.is_cpu and x.ndim > 1 and x.numel() * weight.numel() >= WORTH * x.shape[-1]
        and weight.is_contiguous()
    )  # fmt: skip
    bias = module.bias
    derived = plain and torch.is_grad_enabled()
    if derived and (weight.requires_grad or (bias is not None and bias.requires_grad)):
        plain = False
    if not plain:
        found: Tensor = type(module).forward(module, x)
        return found
    weight = weight.t() if transposed else weight
    if derived and x.requires_grad:
        found = _Derivable.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return found
    return onednn.linear(x, weight, bias)


class _Derivable(torch.autograd.Function):
    """y = x W^T + b with a gradient in x alone. That is g W, such a product again: so there is one of every order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return onednn.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _Derivable.apply(g, weight.t(), None), None, None  # type: ignore[no-untyped-call]


def _transformed() -> bool:
    """Whether a forward derivative or a function transform is under way, which the kernel has no rule for."""
    level = getattr(forward_ad, "_current_level", 0)
    return level >= 0 or bool(getattr(torch._C, "_are_functorch_transforms_active", lambda: False)())
