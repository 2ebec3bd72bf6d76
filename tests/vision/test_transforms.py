"""Transforms keep pictures pictures, and gradients derivatives."""

from __future__ import annotations

import pytest
import torch
from vision.vision_case import coloured

from cutaway.vision import Crops, Transforms
from cutaway.vision.transforms import warped


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_change_is_no_change() -> None:
    images = coloured(1).images
    still = Transforms(jitter=0, scale=0, rotate=0, noise=0)
    assert torch.equal(still(images, _generator()), images)
    zero = torch.zeros(len(images))
    assert torch.allclose(warped(images, zero[:, None].expand(-1, 2), zero + 1, zero), images, atol=1e-4)


def test_a_whole_shift_moves_pixels() -> None:
    images = coloured(1).images
    moved = warped(images, torch.tensor([[2.0, 3.0]]).expand(3, 2), torch.ones(3), torch.zeros(3))
    assert torch.allclose(moved[:, :, 3:, 2:], images[:, :, :-3, :-2], atol=1e-4)


def test_a_quarter_turn_turns() -> None:
    images = coloured(1).images
    turned = warped(images, torch.zeros(3, 2), torch.ones(3), torch.full((3,), 90.0))
    assert torch.allclose(turned, images.rot90(-1, (2, 3)), atol=1e-3)  # clockwise


@pytest.mark.parametrize("change", [Transforms(noise=0), Crops(n=2, noise=0)])
def test_the_gradient_is_the_derivative(change: Transforms | Crops) -> None:
    images = (0.3 + 0.4 * torch.rand(2, 3, 16, 16, generator=_generator())).double().requires_grad_(True)
    out = change(images, _generator(1))
    weight = torch.randn(out.shape, generator=_generator(2)).double()
    (out * weight).sum().backward()
    step = torch.randn(images.shape, generator=_generator(3)).double() * 1e-4
    with torch.no_grad():
        up, down = ((change(images + s * step, _generator(1)) * weight).sum() for s in (1, -1))
    assert images.grad is not None
    assert float((up - down) / 2) == pytest.approx(float((images.grad * step).sum()), rel=1e-3)


def test_crops_are_many_and_pictures() -> None:
    images = coloured(1).images
    out = Crops(n=5)(images, _generator(), 0.5)
    assert out.shape == (15, *images.shape[1:])
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_the_draw_decides() -> None:
    images = coloured(1).images
    change = Transforms()
    assert torch.equal(change(images, _generator(4)), change(images, _generator(4)))
    assert not torch.equal(change(images, _generator(4)), change(images, _generator(5)))
