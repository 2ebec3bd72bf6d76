"""The parametrisations have the spectra that they claim, and gradients that are derivatives."""

from __future__ import annotations

import pytest
import torch
from vision.vision_case import coloured

from cutaway.core import InputError
from cutaway.vision import Fourier, Phases
from cutaway.vision.fourier import colours_of, frequencies


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_power_falls_as_the_frequency_to_twice_the_decay(decay: float) -> None:
    shape = Fourier(32, decay=decay)
    unit = torch.randn(400, 3, 32, 17, 2, generator=torch.Generator().manual_seed(0))
    z = shape.field(unit)
    power = torch.fft.rfft2(z).abs().square().mean((0, 1))[:, 1:-1]  # the outer columns hold a frequency twice
    f = frequencies(32)[:, 1:-1]
    flat = power * f.clamp(min=1 / 32) ** (2 * decay)
    assert float(flat.std() / flat.mean()) < 0.1
    assert float(z.std()) == pytest.approx(shape.contrast, rel=0.05)


def test_frequencies_are_cycles_a_pixel() -> None:
    wave = torch.cos(2 * torch.pi * torch.arange(16) * 3 / 16).expand(16, 16)
    at = torch.fft.rfft2(wave).abs().argmax()
    assert float(frequencies(16).flatten()[at]) == pytest.approx(3 / 16)


def test_phases_leave_the_magnitudes_of_the_data() -> None:
    shape = Phases.of(coloured())
    for seed in range(3):
        z = shape.field(shape.start(2, torch.Generator().manual_seed(seed))) - shape.mean
        found = torch.fft.rfft2(z).abs()[..., 1:-1]
        assert torch.allclose(found, shape.magnitude[..., 1:-1].expand_as(found), atol=1e-4)


@pytest.mark.parametrize("shape", [Fourier(12), Phases.of(coloured(side=12))])
def test_the_gradient_is_the_derivative(shape: Fourier | Phases) -> None:
    generator = torch.Generator().manual_seed(0)
    at = shape.start(1, generator).double().requires_grad_(True)
    weight = torch.randn(1, 3, 12, 12, generator=generator).double()
    (shape.pictures(at) * weight).sum().backward()
    step = torch.randn(at.shape, generator=generator).double() * 1e-4
    with torch.no_grad():
        up, down = ((shape.pictures(at + s * step) * weight).sum() for s in (1, -1))
    assert at.grad is not None
    assert float((up - down) / 2) == pytest.approx(float((at.grad * step).sum()), rel=1e-2)


def test_colours_are_a_root_of_their_covariance() -> None:
    seen = coloured()
    root = colours_of(seen)
    covariance = torch.cov(seen.images.permute(1, 0, 2, 3).reshape(3, -1))
    ratio = (root @ root.T) / covariance
    assert torch.allclose(ratio, ratio[0, 0].expand(3, 3), rtol=1e-2)


def test_maco_needs_pictures() -> None:
    with pytest.raises(InputError, match="eight or more; 3 were given"):
        Phases.of(coloured(1))
