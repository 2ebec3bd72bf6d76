"""Feature visualisation: it climbs, goes on where it was, and its objectives are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from vision.vision_case import SIDE, coloured, huggingface_clip, seer, small_clip, towers_of_every_kind

from cutaway.core import InputError
from cutaway.vision import (
    Crops,
    Fourier,
    Phases,
    Settings,
    Transforms,
    channel,
    direction,
    diversity,
    faceted,
    feature,
    look,
    neuron,
    rerandomised,
    says,
    shown,
    visualise,
)  # fmt: skip
from cutaway.vision.objectives import facet_probe, units_last

FEW = Settings(n=2, steps=24, transforms=Transforms(jitter=0.05))


class Plain:
    """A dictionary of two features."""

    n_features = 2

    def __init__(self) -> None:
        self.rows = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))

    def encode(self, x: Tensor) -> Tensor:
        return (x @ self.rows).relu()

    def decode(self, a: Tensor) -> Tensor:
        return a @ self.rows.T


@pytest.mark.parametrize("method", ["fourier", "maco"])
def test_it_climbs(method: str) -> None:
    shape = Fourier(SIDE) if method == "fourier" else Phases.of(coloured())
    how = FEW if method == "fourier" else Settings(n=2, steps=24, transforms=Crops(n=2), learning_rate=0.2)
    made = visualise(seer(), says("red", ("red", "blue")), how, shape)
    assert made.trace[-1] > made.trace[0] + 0.1
    assert made.pictures.shape == (2, 3, SIDE, SIDE)
    assert 0 <= float(made.pictures.min()) <= float(made.pictures.max()) <= 1
    assert made.method == method


@pytest.mark.parametrize("kind", ["vit", "resnet", "convnext", "clip"])
def test_any_tower(kind: str) -> None:
    tower = look(huggingface_clip()) if kind == "clip" else look(towers_of_every_kind()[kind], side=32)
    made = visualise(tower, channel(tower.point, 1), Settings(n=1, steps=6))
    assert made.trace[-1] != made.trace[0]


def test_a_killed_run_ends_bit_equal(tmp_path: Path) -> None:
    how = Settings(n=2, steps=80)
    whole = visualise(seer(), channel("path.map", 1), how)
    state = tmp_path / "state.safetensors"

    class Killed(Exception):
        pass

    def kill(done: int, of: int, value: float) -> None:
        if done == 70:
            raise Killed

    with pytest.raises(Killed):
        visualise(seer(), channel("path.map", 1), how, state=state, progress=kill)
    again = visualise(seer(), channel("path.map", 1), how, state=state)
    assert torch.equal(again.pictures, whole.pictures)
    assert again.trace == whole.trace
    with pytest.raises(InputError, match="state of another visualisation"):
        visualise(seer(), channel("path.map", 2), how, state=state)


def test_the_null_stands_beside() -> None:
    tower, seen = small_clip(), coloured()
    null = rerandomised(tower, 0, seen.images)
    both = [visualise(t, says("red", ("red", "blue")), FEW) for t in (tower, null)]
    result = shown(both[0], both[1])
    assert [n.estimate.name for n in result.evidence.nulls] == ["re-randomised model"]
    assert result.to_json()["null"]["model"] == null.name
    assert shown(both[0], None).evidence.verdict == "no null was run"


# ---- objectives


def test_units_directions_and_features_are_one_thing() -> None:
    tower, images = seer(), coloured(1).images
    run = tower.see(images, ["path.map"])
    whole = channel("path.map", 2).value(tower, run)
    assert torch.allclose(whole, run["path.map"][:, 2].mean((1, 2)), atol=1e-6)
    axis = torch.eye(6)[2]
    assert torch.allclose(direction("path.map", axis).value(tower, run), whole, atol=1e-6)
    middle = neuron("path.map", 2).value(tower, run)
    assert torch.equal(middle, run["path.map"][:, 2, SIDE // 2, SIDE // 2])
    assert torch.equal(neuron("path.map", 2, (3, 4)).value(tower, run), run["path.map"][:, 2, 3, 4])
    plain = Plain()
    wanted = (units_last(run["path.map"]) @ plain.rows[:, 1]).relu().mean(1)
    assert torch.allclose(feature("path.map", plain, 1).value(tower, run), wanted, atol=1e-6)
    both = channel("path.map", 2) + 0.5 * direction("path.map", axis)
    assert torch.allclose(both.value(tower, run), 1.5 * whole, atol=1e-6)


def test_diversity_is_lowest_for_equal_pictures() -> None:
    tower, images = seer(), coloured(2).images
    term = diversity("path.map")

    def of(x: Tensor) -> Tensor:
        return term.value(tower, tower.see(x, ["path.map"]))

    same = of(images[:1].expand(3, -1, -1, -1).contiguous())
    assert torch.allclose(same, torch.full((3,), -1.0), atol=1e-5)
    assert (of(images[[0, 2, 4]]) > -1).all()
    assert of(images[:1]).item() == 0


def test_a_facet_adds_the_probe_times_what_flows() -> None:
    tower, images = seer(), coloured(1).images
    weight = torch.randn(6, generator=torch.Generator().manual_seed(0))
    base = direction("path.units", torch.ones(6))
    goal = faceted(base, "path.map", weight)
    run = tower.see(images, goal.reads)
    g = run["path.map"]
    slope = (g > 0).float() / (SIDE * SIDE)  # of the mean of ReLUs
    wanted = base.value(tower, run) + (units_last(g * slope)).mean(1) @ weight
    assert torch.allclose(goal.value(tower, tower.see(images, goal.reads, keep_graph=True)), wanted, atol=1e-5)
    assert visualise(tower, goal, Settings(n=1, steps=2)).steps == 2


def test_a_facets_probe_tells_it() -> None:
    seen = coloured(24)
    marked = type(seen)(seen.images, seen.labels, tuple(n[0] for n in seen.labels))
    weight, accuracy = facet_probe(seer(), marked, "red", "path.map")
    assert accuracy > 0.9
    assert float(weight.norm()) == pytest.approx(1)
    with pytest.raises(InputError, match="facets here: red, green, blue"):
        facet_probe(seer(), marked, "sepia", "path.map")


@pytest.mark.parametrize(
    ("objective", "why"),
    [
        (channel("path.map", 6), r"no unit 6 at path.map; it has 6"),
        (direction("path.map", torch.ones(5)), r"has 6 units; the direction is \[5\]"),
        (channel("path.mop", 0), "path.map"),
        (says("pink"), "has no class pink"),
    ],
)
def test_wrong_objectives_are_named(objective: object, why: str) -> None:
    with pytest.raises(InputError, match=why):
        visualise(seer(), objective, FEW)  # type: ignore[arg-type]


def test_wrong_settings() -> None:
    with pytest.raises(InputError, match="at least one picture"):
        visualise(seer(), channel("path.map", 0), Settings(n=0))
    with pytest.raises(InputError, match="no feature 2; the dictionary has 2"):
        feature("path.map", Plain(), 2)
