"""Gradients through ReLUs that are shut, so that a unit which is silent on noise can be climbed towards.

Behind a ReLU the gradient of a silent unit is zero: there is no way up from where it is. Lucid (Olah, Mordvintsev and
Schubert, "Feature Visualization", 2017; its `redirected_relu_grad`) lets the gradient through where *all* of it would
be blocked at a ReLU for a picture, and only what would raise the ReLU's input:

    x > 0                         g, as ever
    x <= 0, g lowers x            0, as ever
    x <= 0, g raises x            g, where no gradient of this picture passes this ReLU otherwise; else 0

which is the gradient of the value before the ReLU for as long as the unit is silent, and the true one afterwards. What
the network computes is not changed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class redirected(TorchFunctionMode):
    """What runs while it is entered has the gradient above at its ReLUs and ReLU6s (modules or functions, and a clamp
    from below at 0). Other activations with a flat side (hard swish, a JumpReLU's threshold), and a tensor's own
    `relu_()`, keep theirs.

    `opened`: whether a ReLU that was shut let a gradient through, known after the backward.
    """

    opened = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        top = _top(func, args[1:], kwargs or {})
        if top is None:
            return func(*args, **(kwargs or {}))
        return _Redirected.apply(args[0] if args else kwargs["input"], top, self)  # type: ignore[no-untyped-call]


def _top(func: Any, args: Any, kwargs: Any) -> float | None:
    """Where a call is x -> min(max(x, 0), top): top. In place or not: what it returns is what is gone on with."""
    if func in (F.relu, torch.relu, Tensor.relu):
        return float("inf")
    if func is F.relu6:
        return 6.0
    clamp = func in (torch.clamp, Tensor.clamp)
    if not clamp and func is not F.hardtanh:  # which nn.ReLU6 is
        return None
    low, high = ("min", "max") if clamp else ("min_val", "max_val")
    given = {**dict(zip((low, high), args)), **kwargs}
    bottom, top = given.get(low), given.get(high)
    if isinstance(bottom, Tensor) or isinstance(top, Tensor) or bottom != 0:
        return None
    return float("inf" if top is None else top)


class _Redirected(torch.autograd.Function):
    """min(max(x, 0), top), whose first axis is pictures."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: float, mode: redirected) -> Tensor:
        ctx.save_for_backward(x)
        ctx.top, ctx.mode = top, mode
        return x.clamp(0, top)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        through = torch.where((x > 0) & (x < ctx.top), g, 0.0)
        raising = torch.where(
            (x <= 0) & (g < 0), g, 0.0
        )  # g is the slope of a loss: where it is negative, x should rise
        blocked = (through.flatten(1).abs().sum(1) == 0).reshape(-1, *[1] * (x.ndim - 1))
        let = torch.where(blocked, raising, 0.0)
        ctx.mode.opened |= bool(let.any())
        return through + let, None, None
