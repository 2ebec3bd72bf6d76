"""The units that a dictionary is trained in: mean removed, one scale a layer. Folded into its weights at the end."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.core import InputError

MLPS = ("the MLPs' inputs", "the MLPs' outputs")


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
    def of(cls, x: Tensor, y: Tensor, how: str = "median", what: tuple[str, str] = MLPS) -> Normalisation:
        """From x [layers, n, d_in], y [layers, n, d_out]. how: median, rms (the mean square instead), none.

        Raises `InputError` for NaN or constant activations, naming them as `what`.
        """
        for name, value in zip(what, (x, y)):
            if not torch.isfinite(value).all():
                raise InputError(f"{name} hold NaN or infinite values: the model's weights are broken.")
        x_mean, y_mean = x.mean(1), y.mean(1)
        made = cls(x_mean, y_mean, _scale(x, x_mean, what[0], how), _scale(y, y_mean, what[1], how))
        if how == "none":
            return cls(
                *(torch.zeros_like(v) for v in (x_mean, y_mean)),
                *(torch.ones_like(v) for v in (made.x_scale, made.y_scale)),
            )
        return made

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


def _scale(values: Tensor, mean: Tensor, what: str, how: str) -> Tensor:
    sizes = (values - mean[:, None]).square().sum(-1)  # [layers, n]
    typical = sizes.median(1).values if how == "median" else sizes.mean(1)
    scale = (typical / values.shape[-1]).sqrt()
    # What rounding leaves of a constant is about 1e-7 of it.
    constant = (scale <= 1e-6 * mean.square().mean(-1).sqrt()).nonzero()[:, 0].tolist()
    if constant:
        where = f" of layers {constant}" if len(scale) > 1 else ""
        raise InputError(f"{what}{where} are the same for every token: nothing to learn there.")
    return scale
