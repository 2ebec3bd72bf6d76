"""Labels as sums of units."""

from __future__ import annotations

import pytest
import torch
from vision.vision_case import coloured, huggingface_clip, seer, small_clip

import cutaway as cw
from cutaway.vision import arithmetic, look
from cutaway.vision.arithmetic import pursuit, write_directions


def test_a_planted_sum_is_found() -> None:
    directions = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(0)))[0][:8]
    units, weights, cosine = pursuit(directions, 2 * directions[5] + 1 * directions[1], 3)
    assert units == [5, 1]
    assert weights[0] / weights[1] == pytest.approx(2)
    assert cosine == pytest.approx(1)
    assert pursuit(directions, -directions[3], 2)[0] == []  # no unit takes away


@pytest.mark.parametrize("kind", ["primer", "clip", "map"])
def test_directions_are_what_a_push_does(kind: str) -> None:
    tower = {"primer": small_clip, "clip": lambda: look(huggingface_clip()), "map": seer}[kind]()
    at = "path.units" if kind == "map" else tower.point
    images = coloured(1, side=tower.side).images
    found = write_directions(tower, at, images)
    push = torch.tensor(1e-2)
    up, down = (tower.embedding(images, [cw.add(at, s * push, neuron=3)]) for s in (1, -1))
    assert torch.allclose((up - down).mean(0) / 2e-2, found[3], atol=2e-3)


def test_every_label_has_its_sum_and_the_null_beside() -> None:
    tower, seen = small_clip(), coloured()
    result = arithmetic(tower, ["red", "green", "blue"], seen.images)
    assert [s.label for s in result.sums] == ["red", "green", "blue"]
    assert result.evidence.effect.n == 3
    assert result.evidence.nulls[0].estimate.n == 15
    assert all(w > 0 for s in result.sums for w in s.weights)
    assert str(result)
