"""Random changes of a picture while it is optimised, so that what is found does not hang on single pixels.

The usual order (Olah et al. 2017): pad, jitter, scale, rotate, jitter; here one affine warp that does them all, its
edges reflected. Sizes are shares of the side: 12, 8 and 4 of 224 pixels. MACO's are random crops and noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Transforms:
    """`jitter`: share of the side, up to so far each way; `scale`: ± share; `rotate`: ± degrees; `noise`: standard
    deviation added to pixels."""

    jitter: float = 12 / 224
    scale: float = 0.1
    rotate: float = 10.0
    noise: float = 0.02

    def __call__(self, pictures: Tensor, generator: torch.Generator, progress: float = 0.0) -> Tensor:
        """[n, 3, side, side] -> the same shape, each picture changed by a draw of its own; differentiable."""
        del progress
        if not (self.jitter or self.scale or self.rotate or self.noise):
            return pictures
        n, wide = len(pictures), pictures.shape[-1]
        draw = 2 * torch.rand(4, n, generator=generator) - 1
        shift = draw[:2].T * self.jitter * wide  # [n, 2]
        out = warped(pictures, shift, 1 + self.scale * draw[2], self.rotate * draw[3])
        return _noisy(out, self.noise, generator)


@dataclass(frozen=True)
class Crops:
    """MACO's: `n` boxes a picture, from the share box[0] of its side at the start to box[1] at the end, their centres
    normal about the middle, each stretched to the whole; and noise."""

    n: int = 8
    box: tuple[float, float] = (0.9, 0.5)
    spread: float = 0.12
    noise: float = 0.08

    def __call__(self, pictures: Tensor, generator: torch.Generator, progress: float = 0.0) -> Tensor:
        """[n, 3, side, side] -> [n * crops, 3, side, side], the crops of a picture side by side; differentiable."""
        many = pictures.repeat_interleave(self.n, 0)
        side = many.shape[-1]
        share = self.box[0] + (self.box[1] - self.box[0]) * progress
        size = (share * (1 + 0.1 * torch.randn(len(many), generator=generator))).clamp(0.05, 1.0)
        room = (1 - size)[:, None] / 2
        centre = (torch.randn(len(many), 2, generator=generator) * self.spread).clamp(-room, room)
        out = warped(many, -centre * side / size[:, None], 1 / size, torch.zeros(len(many)))
        return _noisy(out, self.noise, generator)


def warped(pictures: Tensor, shift: Tensor, scale: Tensor, degrees: Tensor) -> Tensor:
    """Each picture scaled [n] and turned clockwise [n] about its middle, then shifted [n, 2] by pixels (x, y)."""
    from kornia.geometry.transform import get_affine_matrix2d, warp_affine

    n, _, high, wide = pictures.shape
    centre = torch.tensor([(wide - 1) / 2, (high - 1) / 2]).expand(n, 2)
    matrix = get_affine_matrix2d(shift, centre, scale[:, None].expand(n, 2), degrees)[:, :2]
    out: Tensor = warp_affine(pictures, matrix.to(pictures.dtype), (high, wide), padding_mode="reflection")
    return out


def _noisy(pictures: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    if not noise:
        return pictures.clamp(0, 1)
    return (pictures + noise * torch.randn(pictures.shape, generator=generator).to(pictures)).clamp(0, 1)
