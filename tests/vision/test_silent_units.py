"""Units that are silent on noise: the gradient comes through shut ReLUs, or real pictures are the start, or it is said
why there is nothing to show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from vision.vision_case import SIDE, coloured, seer

from cutaway.core import CutawayError
from cutaway.organisms.primer.world import world_pictures
from cutaway.vision import (
    Fourier,
    Phases,
    Settings,
    Tower,
    channel,
    diversity,
    feature,
    look,
    shown,
    strongest,
    visualise,
)  # fmt: skip
from cutaway.vision.fourier import colours_of
from cutaway.vision.redirected import redirected
from cutaway.vision.units import activations

SHORT = Settings(n=2, steps=24)


def shut(bias: float) -> Tower:
    """A tower whose unit 0 is silent on noise."""
    tower = seer()
    with torch.no_grad():
        tower.model.hf.map.bias[0] = bias
    return tower


class Jump:
    """A dictionary whose feature is how red a picture is, where that is more than a threshold: no gradient below."""

    n_features = 1

    def encode(self, x: Tensor) -> Tensor:
        red = x[..., :1] - x[..., 1:2]
        return torch.where(red > 0.5, red, torch.zeros_like(red))

    def decode(self, a: Tensor) -> Tensor:
        return a.repeat_interleave(3, -1)


# ---- the gradient


@pytest.mark.parametrize(
    "relu",
    [nn.ReLU(), nn.ReLU(inplace=True), F.relu, torch.relu, lambda x: x.relu(), lambda x: x.clamp(min=0), nn.ReLU6()],
)
def test_the_gradient_of_a_shut_relu(relu: Callable[[Tensor], Tensor]) -> None:
    """Rows with anything open have the true gradient; rows that are wholly shut that of the value before the ReLU, so
    far as it raises."""
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    x[0], x[1] = -x[0].abs(), -x[1].abs()
    slope = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))  # of the loss by what the ReLU gives

    def through(mode: bool) -> tuple[Tensor, Tensor]:
        leaf = x.clone().requires_grad_(True)
        if mode:
            with redirected():
                y = relu(1.0 * leaf)
        else:
            y = relu(1.0 * leaf)
        (y * slope).sum().backward()
        assert leaf.grad is not None
        return y.detach(), leaf.grad

    (plain, true), (same, grad) = through(False), through(True)
    assert torch.equal(plain, same)
    assert torch.equal(grad[2:], true[2:])
    assert torch.equal(grad[:2], slope[:2].clamp(max=0))
    assert (true[:2] == 0).all()


def test_other_functions_are_as_they_were() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    with redirected() as mode:
        y = (F.gelu(x) + F.hardtanh(x) + x.clamp(-1, 1) + x.clamp(max=0)).sum()
        (grad,) = torch.autograd.grad(y, x)
    y = (F.gelu(x) + F.hardtanh(x) + x.clamp(-1, 1) + x.clamp(max=0)).sum()
    assert torch.equal(grad, torch.autograd.grad(y, x)[0])
    assert not mode.opened


# ---- the start


def test_the_parameters_of_a_picture_give_it_back() -> None:
    seen = coloured(4)
    for colours in (colours_of(seen), torch.eye(3)):
        shape = Fourier(SIDE, colours=colours)
        back = shape.pictures(shape.parameters(seen.images))
        assert torch.allclose(back, seen.images.clamp(0.02, 0.98), atol=1e-4)
    phases = Phases.of(seen)
    back = torch.fft.rfft2(phases.field(phases.parameters(seen.images)))
    own = torch.fft.rfft2(Fourier(SIDE).field(Fourier(SIDE).parameters(seen.images)))
    strong = (phases.magnitude > 1e-3)[None, :, :, 1:-1] & (own.abs() > 1e-3)[..., 1:-1]
    turned = (back / own)[..., 1:-1][strong.expand_as(own[..., 1:-1])]
    assert (turned.angle().abs() < 1e-2).all()


def test_the_strongest_pictures() -> None:
    tower, seen = seer(), coloured(5)
    values = activations(tower, seen, "path.map", "mean")[:, 1]
    start = strongest(tower, channel("path.map", 1) + 3 * diversity("path.map"), seen, 3)
    assert start is not None
    assert list(start.rows) == sorted(range(len(seen)), key=lambda r: -values[r])[:3]
    assert start.values == pytest.approx([values[r] for r in start.rows], abs=1e-5)
    assert strongest(shut(-100.0), channel("path.units", 0), seen, 3) is None


# ---- a unit that is silent on noise


def test_a_silent_unit_is_woken_from_noise() -> None:
    tower = shut(-0.3)
    noise = Fourier(SIDE).pictures(Fourier(SIDE).start(2, torch.Generator().manual_seed(0)))
    assert float(tower.see(noise, ["path.units"])["path.units"][:, 0].max()) == 0
    made = visualise(tower, channel("path.units", 0), Settings(n=2, steps=60))
    assert min(made.reached) > 0
    assert made.redirected > 0
    assert made.silent == (False, False)
    assert made.start is None
    assert "came through ReLUs that were shut" in str(shown(made, None))


def test_a_live_unit_is_made_as_ever() -> None:
    made = visualise(seer(), channel("path.units", 0) + channel("path.map", 0), SHORT)
    assert made.redirected == 0
    assert "shut" not in str(shown(made, None))


def test_what_has_no_gradient_on_noise_begins_from_pictures(tmp_path: Path) -> None:
    tower, goal, seen = seer(), feature("path.images", Jump(), 0), coloured(4)
    goal = type(goal)("how red", ("path.map",), lambda t, run: Jump().encode(_pixels(run)).mean((1, 2)))
    with pytest.raises(CutawayError, match="With pictures given"):
        visualise(tower, goal, SHORT)
    made = visualise(tower, goal, SHORT, seen=seen, state=tmp_path / "state.safetensors")
    assert made.start is not None
    assert made.start.labels == (("red",), ("red",))
    assert made.reached[0] > made.start.values[0]
    again = visualise(tower, goal, SHORT, seen=seen, state=tmp_path / "state.safetensors")
    assert torch.equal(again.pictures, made.pictures)
    null = visualise(seer(1), goal, SHORT, start=made.start, silent=True)
    body = shown(made, null).to_json()
    assert [one["labels"] for one in body["start"]] == [["red"], ["red"]]


def _pixels(run: object) -> Tensor:
    images = run.batch.ids  # type: ignore[attr-defined]
    return images.flatten(2).transpose(1, 2)


def test_a_dead_unit_has_a_reason() -> None:
    dead, goal = shut(-100.0), channel("path.units", 0)
    with pytest.raises(CutawayError, match=r"path.units unit 0 stays silent.* the same on all of the 6 real pictures"):
        visualise(dead, goal, Settings(n=1, steps=3), seen=coloured(2))
    still = visualise(dead, goal, Settings(n=1, steps=3), silent=True)
    assert still.reached == (0.0,)
    assert still.silent == (True,)
    # A term that is added does not hide that the unit is silent.
    with pytest.raises(CutawayError, match=r"path.units unit 0 stays silent"):
        visualise(dead, goal + diversity("path.map"), Settings(n=2, steps=3))


def test_values_are_compared_raw_where_no_picture_excites_the_unit() -> None:
    tower = shut(-0.3)
    made = visualise(tower, channel("path.units", 0), Settings(n=2, steps=60))
    found = shown(made, made, (torch.zeros(5).numpy(), torch.ones(5).numpy()))
    assert found.evidence.effect.unit == ""
    assert found.evidence.effect.value == pytest.approx(sum(made.reached) / 2)


def test_every_unit_of_primer_that_fires_gets_a_picture() -> None:
    """Those silent on noise among them: each reaches more than on noise."""
    tower, seen = look("primer"), world_pictures(200)
    shape = Fourier(tower.side, colours=colours_of(seen))
    noise = shape.pictures(shape.start(1, torch.Generator().manual_seed(0)))
    on_noise = tower.see(noise, ["path.neurons"])["path.neurons"][0]
    fires = activations(tower, seen, "path.neurons").max(0) > 0
    silent = [u for u in range(len(fires)) if fires[u] and float(on_noise[u]) == 0]
    assert len(silent) > 3
    for unit in silent[:: max(1, len(silent) // 4)]:
        made = visualise(tower, channel("path.neurons", unit), Settings(n=1, steps=24), shape, seen=seen)
        assert made.reached[0] > 0, unit
