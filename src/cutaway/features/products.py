"""x W^T + b by the faster of torch's two libraries for matrix products, without gradient.

torch hands float32 to MKL, which on AMD processors leaves half of their vector units idle: at [2048, 512] by
[512, 8192] oneDNN takes half its time on one core of an EPYC 9005. In bfloat16 both take oneDNN; its linear layer has
the bias in the same pass over memory. Results differ from `addmm` by rounding.
"""

from __future__ import annotations

import platform
from functools import cache

import torch
from torch import Tensor

WORTH = 1_000_000  # multiply-adds, below which the set-up costs more than it saves


@torch.no_grad()
def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x [n, d], weight [m, d], bias [m] -> [n, m]."""
    known = x.dtype in (torch.float32, torch.bfloat16) and x.dtype == weight.dtype == bias.dtype
    if known and x.is_cpu and weight.is_contiguous() and x.numel() * len(weight) >= WORTH and _available():
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return torch.addmm(bias, x, weight.t())


@cache
def _available() -> bool:
    """Whether this torch has the kernel, and it does what it is to do."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    x, weight, bias = torch.eye(3), torch.arange(6.0).reshape(2, 3), torch.tensor([1.0, -1.0])
    try:
        return torch.equal(torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], ""), weight.T + bias)
    except (AttributeError, RuntimeError, TypeError):
        return False
