"""The units that a dictionary is trained in: mean removed, one scale a layer. Folded into its weights at the end."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.core import InputError


@dataclass(frozen=True)
class Normalisation:
    """x_mean [layers, d_in], y_mean [layers, d_out], x_scale and y_scale [layers].

    Scales are medians over tokens (of |x - mean| / sqrt d), so that a few huge tokens do not set them.
    """

    x_mean: Tensor
    y_mean: Tensor
    x_scale: Tensor
    y_scale: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> Normalisation:
        """From x [layers, n, d_in], y [layers, n, d_out]. Raises `InputError` for NaN or constant activations."""
        for name, value in (("inputs", x), ("outputs", y)):
            if not torch.isfinite(value).all():
                raise InputError(f"the MLPs' {name} hold NaN or infinite values: the model's weights are broken.")
        x_mean, y_mean = x.mean(1), y.mean(1)
        return cls(x_mean, y_mean, _scale(x, x_mean, "inputs"), _scale(y, y_mean, "outputs"))

    def inputs(self, x: Tensor, layer: int | None = None) -> Tensor:
        """[layers, n, d_in], or one layer's [n, d_in]."""
        if layer is not None:
            return (x - self.x_mean[layer]) / self.x_scale[layer]
        return (x - self.x_mean[:, None]) / self.x_scale[:, None, None]

    def outputs(self, y: Tensor) -> Tensor:
        """[layers, n, d_out]."""
        return (y - self.y_mean[:, None]) / self.y_scale[:, None, None]

    def state(self) -> dict[str, Tensor]:
        return {"x_mean": self.x_mean, "y_mean": self.y_mean, "x_scale": self.x_scale, "y_scale": self.y_scale}


def _scale(values: Tensor, mean: Tensor, what: str) -> Tensor:
    sizes = (values - mean[:, None]).square().sum(-1)  # [layers, n]
    scale = (sizes.median(1).values / values.shape[-1]).sqrt()
    constant = (scale == 0).nonzero()[:, 0].tolist()
    if constant:
        raise InputError(f"the MLP {what} of layers {constant} are the same for every token: nothing to learn there.")
    return scale
