"""Norms taken apart: output = gain * (x - mean) / scale + bias, with the mean only where the norm centres."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class NormParts:
    """A norm module's arithmetic, verified against the module when it is made (`parts_of`)."""

    module: nn.Module
    centred: bool
    eps: float
    offset: float  # the gain is offset + weight: 1 in Gemma's norms, 0 elsewhere
    has_gain: bool

    @property
    def gain(self) -> Tensor | None:
        """[d_model], or None for a norm without one."""
        weight = getattr(self.module, "weight", None)
        if not self.has_gain or not isinstance(weight, Tensor):
            return None
        return _wide(weight) + self.offset if self.offset else _wide(weight)

    @property
    def bias(self) -> Tensor | None:
        bias = getattr(self.module, "bias", None)
        return _wide(bias) if isinstance(bias, Tensor) else None

    def centre(self, x: Tensor) -> Tensor:
        """x - mean(x) for a LayerNorm, x for an RMSNorm; in float32 or wider."""
        x = _wide(x)
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def scale(self, x: Tensor) -> Tensor:
        """The denominator sqrt(mean(c^2) + eps) of c = centre(x): [..., d] -> [..., 1]."""
        return (self.centre(x).pow(2).mean(-1, keepdim=True) + self.eps).sqrt()

    def output(self, normalized: Tensor, dtype: torch.dtype) -> Tensor:
        """From centre(x) / scale to the module's output."""
        gain, bias = self.gain, self.bias
        y = normalized if gain is None else normalized * gain
        y = y if bias is None else y + bias
        return y.to(dtype)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def parts_of(module: nn.Module, width: int) -> NormParts | None:
    """Take a norm apart, or None where no known form gives the module's own output (within 1e-4 relative).

    RMSNorm (Zhang & Sennrich 2019), Gemma's with gain 1 + weight, LayerNorm (Ba et al. 2016); with and without gain.
    """
    eps = next(
        (
            float(v)
            for name in ("eps", "variance_epsilon", "epsilon")
            if isinstance(v := getattr(module, name, None), float)
        ),
        None,
    )
    if eps is None:
        return None
    reference = next(iter(module.parameters()), None)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, width, generator=generator) * 2 + 0.5
    if reference is not None:
        x = x.to(reference.device, reference.dtype)
    with torch.no_grad():
        try:
            expected = module(x)
        except (RuntimeError, TypeError, IndexError):
            return None
        if not isinstance(expected, Tensor) or expected.shape != x.shape:
            return None
        tolerance = 1e-4 if expected.dtype in (torch.float32, torch.float64) else 2e-2
        forms = [(c, o, g) for c in (False, True) for o, g in ((0.0, True), (1.0, True), (0.0, False))]
        for centred, offset, has_gain in forms:
            parts = NormParts(module, centred, eps, offset, has_gain)
            got = parts.output(parts.centre(x) / parts.scale(x), expected.dtype)
            if (got - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1e-12):
                return parts
    return None
