"""The faster of torch's two libraries for matrix products on x86 processors.

torch hands float32 to MKL, which on AMD processors leaves half of their vector units idle (85 to 100 GFLOP/s on one
core of an EPYC 9005, against 200 to 220 by oneDNN, which torch has too and uses for bfloat16). Results differ by
rounding (1e-6 of the largest). No gradient passes here: whoever needs one says what it is.
"""

from __future__ import annotations

import platform
from functools import cache

import torch
from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., k], weight [m, k], bias [m] -> x W^T + b [..., m], without a gradient; of one dtype, on the CPU.
    Only where it is `available`. x is read row by row; weight is packed, whatever its strides."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


@cache
def available() -> bool:
    """Whether this torch has the kernel, and it does what it is to do."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    x, weight, bias = torch.eye(3), torch.arange(6.0).reshape(2, 3), torch.tensor([1.0, -1.0])
    try:
        with torch.no_grad():
            return torch.equal(linear(x, weight, bias), weight.T + bias)
    except (AttributeError, RuntimeError, TypeError):
        return False
