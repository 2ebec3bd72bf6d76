"""Pictures as Fourier coefficients in decorrelated colours, so that gradients act on all frequencies alike.

Olah, Mordvintsev and Schubert, "Feature Visualization" (2017): picture = sigmoid(C z), z = irfft2(s(f) c), where c are
the coefficients that are optimised, s(f) = 1 / max(f, 1/side) the scale of a natural picture's frequency f (cycles a
pixel), and C a root of the colours' covariance.

MACO (Fel et al., "Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization", 2023):
only the phases of z are optimised; its magnitudes are the mean of a data set's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.vision.pictures import Pictures

# A root of the covariance of the colours of ImageNet's pictures (Lucid's), its longest column of length one.
_ROOT = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
NATURAL = _ROOT / _ROOT.norm(dim=0).max()
_EDGE = 0.02  # pictures are kept this far from 0 and 1 where the sigmoid is undone


class Parametrisation(Protocol):
    """What is optimised, and how it becomes pictures."""

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """Random parameters of n pictures."""
        ...

    def pictures(self, parameters: Tensor) -> Tensor:
        """-> [n, 3, side, side] in 0 … 1, differentiable."""
        ...

    def parameters(self, pictures: Tensor) -> Tensor:
        """The parameters of pictures [n, 3, side, side] that are there, to begin from."""
        ...


def frequencies(side: int) -> Tensor:
    """|f| in cycles a pixel of each coefficient that rfft2 gives, [side, side // 2 + 1]."""
    fy, fx = torch.fft.fftfreq(side), torch.fft.rfftfreq(side)
    return torch.sqrt(fy[:, None] ** 2 + fx[None] ** 2)


@dataclass(frozen=True, eq=False)
class Fourier:
    """Real and imaginary coefficients [n, 3, side, side // 2 + 1, 2]. `decay` is the power of 1/f."""

    side: int
    decay: float = 1.0
    contrast: float = 1.0  # standard deviation of z at the start, about
    colours: Tensor = NATURAL
    method: str = "fourier"

    @property
    def scale(self) -> Tensor:
        """s(f) = 1 / max(f, 1/side)^decay, [side, side // 2 + 1], so normed that z's variance is contrast^2 where the
        coefficients are unit normal."""
        s = 1 / frequencies(self.side).clamp(min=1 / self.side) ** self.decay
        # rfft2 holds every frequency but those of its first and last column once, though it stands for two.
        twice = torch.full((self.side // 2 + 1,), 2.0)
        twice[0] = 1.0
        if self.side % 2 == 0:
            twice[-1] = 1.0
        variance = (2 * s**2 * twice).sum() / self.side**4  # of irfft2 with Re, Im ~ N(0, s^2)
        return s * self.contrast / variance.sqrt()

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        return 0.3 * torch.randn(n, 3, self.side, self.side // 2 + 1, 2, generator=generator)

    def field(self, parameters: Tensor) -> Tensor:
        """z [n, 3, side, side], before colours and sigmoid."""
        spectrum = torch.view_as_complex(parameters.contiguous()) * self.scale
        field: Tensor = torch.fft.irfft2(spectrum, s=(self.side, self.side))
        return field

    def pictures(self, parameters: Tensor) -> Tensor:
        return _coloured(self.field(parameters), self.colours)

    def parameters(self, pictures: Tensor) -> Tensor:
        """c = rfft2(z) / s(f), of which `pictures` gives back the same, values beyond 0.02 … 0.98 clipped."""
        return torch.view_as_real(torch.fft.rfft2(_uncoloured(pictures, self.colours)) / self.scale).contiguous()


@dataclass(frozen=True, eq=False)
class Phases:
    """MACO: phases [n, 3, side, side // 2 + 1] under magnitudes that stay as they are, [3, side, side // 2 + 1]."""

    side: int
    magnitude: Tensor
    mean: Tensor  # [3, 1, 1], of z
    colours: Tensor = NATURAL
    method: str = "maco"

    @classmethod
    def of(cls, pictures: Pictures, colours: Tensor = NATURAL) -> Phases:
        """The mean magnitude of each coefficient over pictures. Raises InputError for fewer than eight."""
        if len(pictures) < 8:
            raise InputError(f"MACO takes its magnitudes from pictures, eight or more; {len(pictures)} were given.")
        z = _uncoloured(pictures.images, colours)
        mean = z.mean((0, 2, 3))[:, None, None]
        magnitude = torch.fft.rfft2(z - z.mean((2, 3), keepdim=True)).abs().mean(0)
        magnitude[:, 0, 0] = 0
        return cls(int(pictures.images.shape[-1]), magnitude, mean, colours)

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        return (2 * torch.rand(n, *self.magnitude.shape, generator=generator) - 1) * torch.pi

    def field(self, parameters: Tensor) -> Tensor:
        spectrum = torch.polar(self.magnitude.to(parameters).expand_as(parameters), parameters)
        field: Tensor = torch.fft.irfft2(spectrum, s=(self.side, self.side)) + self.mean
        return field

    def pictures(self, parameters: Tensor) -> Tensor:
        return _coloured(self.field(parameters), self.colours)

    def parameters(self, pictures: Tensor) -> Tensor:
        """The phases of pictures; their magnitudes give way to the mean ones."""
        phases: Tensor = torch.fft.rfft2(_uncoloured(pictures, self.colours)).angle()
        return phases


def _coloured(z: Tensor, colours: Tensor) -> Tensor:
    """sigmoid(3 C z): [n, 3, side, side] -> the same in 0 … 1."""
    return torch.sigmoid(3.0 * torch.einsum("ck,nkyx->ncyx", colours.to(z), z))


def _uncoloured(pictures: Tensor, colours: Tensor) -> Tensor:
    """z of pictures in 0 … 1, which are kept 0.02 from both ends."""
    logit = torch.logit(pictures.clamp(_EDGE, 1 - _EDGE)) / 3.0
    return torch.einsum("kc,ncyx->nkyx", torch.linalg.inv(colours), logit)


def colours_of(pictures: Pictures) -> Tensor:
    """A root of the covariance of these pictures' colours [3, 3], its longest column of length one: eigenvectors times
    the roots of their eigenvalues, largest first."""
    flat = pictures.images.permute(1, 0, 2, 3).reshape(3, -1)
    values, vectors = torch.linalg.eigh(torch.cov(flat.double()))
    root = (vectors * values.clamp(min=1e-6).sqrt()).flip(1)
    root = root * torch.where(root.sum(0) < 0, -1.0, 1.0)
    normed: Tensor = root / root.norm(dim=0).max()
    return normed.float()
