"""Dictionaries by width and L0, and the learning coefficient by k-gon: what they must be where it is known."""

import json
import math

import pytest
import torch

from cutaway.exams.superposition import Limits
from cutaway.exams.superposition.dictionaries import Cell
from cutaway.exams.superposition.kgons import KS, Kgon, kgons, transitions
from cutaway.exams.superposition.limits import METHODS, Point
from cutaway.toys.polygons import Polygons, polygon_loss, regular_polygon


@pytest.fixture(scope="module")
def quick() -> list[Kgon]:
    return kgons(quick=True)


def test_the_learning_coefficient_is_the_exact_one_at_each_kgon(quick: list[Kgon]) -> None:
    for one in quick:
        assert one.passed, one
        assert one.estimate.interval is not None
        assert one.estimate.interval.high < one.regular  # told from a regular model's d/2
        assert one.rank == 3 * one.k - 1
    assert quick[1].loss < quick[0].loss
    assert quick[1].exact == quick[0].exact + 1.5


@pytest.mark.parametrize("k", KS)
def test_every_kgon_asked_about_is_a_minimum_but_for_its_rotation(k: int) -> None:
    module = regular_polygon(k, k).place(k)
    at = torch.cat([module.W.detach().flatten(), module.b.detach()])
    generator = torch.Generator().manual_seed(0)

    def loss(v: torch.Tensor) -> float:
        return float(polygon_loss(v[: 2 * k].reshape(2, k), v[2 * k :]))

    for _ in range(50):
        assert loss(at + 1e-2 * torch.randn(3 * k, generator=generator, dtype=at.dtype)) > loss(at)
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    turned = Polygons(turn @ module.W.detach(), module.b.detach())
    assert float(polygon_loss(turned.W.detach(), turned.b.detach())) == pytest.approx(loss(at), abs=1e-12)


def test_a_feature_that_is_not_held_costs_a_third_of_its_share(quick: list[Kgon]) -> None:
    one = quick[0]
    module = regular_polygon(5, 5).place(5)
    w = torch.cat([module.W.detach(), torch.zeros(2, 3, dtype=torch.float64)], dim=1)
    b = torch.cat([module.b.detach(), torch.full((3,), -1.0, dtype=torch.float64)])
    assert float(polygon_loss(w, b)) == pytest.approx(one.loss, abs=1e-9)


def test_more_samples_pay_for_more_corners(quick: list[Kgon]) -> None:
    ((k, n),) = transitions(quick)
    low, high = quick
    assert k == 5
    for samples, better in ((n * 2, True), (n / 2, False)):
        free = [one.loss * samples + one.exact * torch.tensor(samples).log().item() for one in (low, high)]
        assert (free[1] < free[0]) is better


def test_a_corner_that_does_not_lower_the_loss_is_never_paid_for(quick: list[Kgon]) -> None:
    low, high = quick
    worse = Kgon(high.k, high.exact, high.rank, high.estimate, low.loss + 0.1, ())
    assert transitions([low, worse]) == [(5, math.inf)]


def test_all_of_it_prints_draws_and_has_rows(quick: list[Kgon]) -> None:
    point = Point(40, 1.0, dict.fromkeys(METHODS, [1.0, 0.99] * 4), dict.fromkeys(METHODS, [0.1, 0.2] * 4))
    cells = tuple(Cell(w, k, (0.9, 0.8), (0.7, 0.6), (0.4, 0.3), (0.1, 0.2)) for w in (20, 40) for k in (1, 2))
    made = Limits((point,), cells, tuple(quick))
    assert made.to_json()["schema"] == "cutaway.superposition-limits/1"
    assert len(made.figure().axes) == 5  # four panels, and the loss beside the learning coefficient
    assert all(one.verdict == "distinguishable from null" for one in made.evidence), str(made)
    tables = {tuple(row["table"]) for row in made.rows if "table" in row}
    assert ("dictionaries of 40 known features, F1", "width 20", "L0 2") in tables
    assert all(row["passed"] for row in made.rows if "gon" in row["name"])
    json.dumps([made.rows, made.to_json()], allow_nan=False)
    assert all(set(row) >= {"name", "truth", "estimate", "interval", "tolerance", "passed"} for row in made.rows)
