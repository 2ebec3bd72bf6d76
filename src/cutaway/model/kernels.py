"""The same arithmetic by faster kernels, for as long as a forward lasts: x86 processors, float32, no autograd.

torch hands float32 matrix products to MKL, which on AMD processors leaves half of their vector units idle (85 to 100
GFLOP/s on one core of an EPYC 9005, against 200 to 220 by oneDNN, which torch has too and uses for bfloat16). GPT-2's
GELU is written in eight passes over memory; torch has the same function in one. Nothing is copied or converted: modules
of exactly known types compute y = x W^T + b by the other kernel. Results differ by rounding (1e-6 of the largest).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Multiply-adds of a product below which oneDNN's set-up (8 microseconds) costs more than it saves.
WORTH = 2_000_000


class Kernels:
    """The modules below `root` that have a faster kernel. Holds no tensor: weights are looked at when they are used.

    `on = False` leaves every forward to torch's own choice, for one that is equal to Hugging Face's to the bit.
    """

    def __init__(self, root: nn.Module) -> None:
        self.swaps: list[tuple[dict[str, Any], Callable[..., Tensor]]] = []
        self.largest = 0  # weight of a product, in entries
        self.on = True
        if not _available():
            return
        for module in root.modules():
            if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
                self.swaps = []  # compiled: its graph is its own
                return
            if (forward := _faster(module)) is not None and "forward" not in vars(module):
                self.swaps.append((vars(module), forward))
                self.largest = max(self.largest, _size(module))

    @contextmanager
    def during(self, tokens: int) -> Iterator[None]:
        """Inside, the modules use them: if `tokens` are enough for it, and autograd is off."""
        enough = self.on and self.swaps and tokens * self.largest >= WORTH
        if not enough or torch.is_grad_enabled() or _autocast():
            yield
            return
        put = []
        try:
            for own, forward in self.swaps:
                if "forward" not in own:  # a run within a run has them already
                    own["forward"] = forward
                    put.append(own)
            yield
        finally:
            for own in put:
                del own["forward"]


def _faster(module: nn.Module) -> Callable[..., Tensor] | None:
    kind = type(module)
    if kind is nn.Linear:
        return partial(_linear, module, False)
    if kind.__module__.startswith("transformers."):
        if kind.__name__ == "Conv1D":
            return partial(_linear, module, True)
        # 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
        if kind.__name__ in ("NewGELUActivation", "FastGELUActivation"):
            return partial(F.gelu, approximate="tanh")
    return None


def _linear(module: Any, transposed: bool, x: Tensor) -> Tensor:
    """y = x W^T + b, W [out, in]; GPT-2's Conv1D holds W^T."""
    weight, bias = module.weight, module.bias
    plain = (
        type(weight) is nn.Parameter and weight.dtype is torch.float32 and x.dtype is torch.float32 and x.is_cpu
        and weight.is_cpu and x.ndim > 1 and x.numel() * weight.numel() >= WORTH * x.shape[-1]
        and weight.is_contiguous() and not torch.is_grad_enabled()
    )  # fmt: skip
    if not plain:
        found: Tensor = type(module).forward(module, x)
        return found
    return _product(x, weight.t() if transposed else weight, bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _size(module: nn.Module) -> int:
    weight = getattr(module, "weight", None)
    plain = isinstance(weight, Tensor) and weight.is_cpu and weight.dtype is torch.float32
    return weight.numel() if plain else 0  # type: ignore[union-attr]


def _autocast() -> bool:
    return bool(torch.is_autocast_enabled("cpu"))


@cache
def _available() -> bool:
    """Whether this torch has the kernel, and it does what it is to do."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    x, weight, bias = torch.eye(3), torch.arange(6.0).reshape(2, 3), torch.tensor([1.0, -1.0])
    try:
        with torch.no_grad():
            return torch.equal(_product(x, weight, bias), weight.T + bias)
    except (AttributeError, RuntimeError, TypeError):
        return False
