"""Synthetic features fire as often as they say, children under their parents, and add up to what is given."""

from __future__ import annotations

import pytest
import torch

from cutaway.core import InputError
from cutaway.toys.synthetic import SyntheticSettings, synthetic

SMALL = SyntheticSettings(features=120, d=24, roots=3, branching=3, depth=2, p_min=0.01, rank=6, correlation=0.3)


@pytest.fixture(scope="module")
def toy():
    return synthetic(SMALL)


@pytest.fixture(scope="module")
def sample(toy):
    return toy.sample(20_000, seed=1)


def test_frequencies_are_what_they_say(toy, sample):
    rate = (sample.a > 0).float().mean(0)
    error = (toy.p * (1 - toy.p) / len(sample.a)).sqrt()
    assert (rate - toy.p).abs().max() < 0.02
    assert float(((rate - toy.p) / error).square().mean().sqrt()) == pytest.approx(1, abs=0.35)
    assert toy.l0 == pytest.approx(float((sample.a > 0).sum(1).float().mean()), rel=0.02)


def test_children_fire_with_their_parent_and_alone_among_siblings(toy, sample):
    fires = sample.a > 0
    below = (toy.parent >= 0).nonzero()[:, 0]
    assert len(below) == 3 * 3 + 9 * 3
    assert not (fires[:, below] & ~fires[:, toy.parent[below]]).any()
    for family in torch.unique(toy.parent[below]).tolist():
        assert fires[:, toy.parent == family].sum(1).max() <= 1
    assert fires[:, below].any()


def test_the_sum_is_the_sum_of_its_features_and_a_seed_is_a_sample(toy, sample):
    assert torch.allclose(sample.x, sample.a @ toy.directions + toy.bias)
    assert torch.equal(toy.sample(50, seed=3).x, toy.sample(50, seed=3).x)
    assert not torch.equal(toy.sample(50, seed=3).x, toy.sample(50, seed=4).x)
    assert torch.allclose(toy.directions.norm(dim=1), torch.ones(120), atol=1e-5)


def test_pushing_apart_lowers_the_overlaps_and_few_features_are_orthogonal():
    def overlap(s):
        d = synthetic(s).directions
        return float(((d @ d.T) - torch.eye(len(d))).square().sum())

    assert overlap(SyntheticSettings(features=60, d=20, roots=0)) < overlap(
        SyntheticSettings(features=60, d=20, roots=0, push=0)
    )
    assert overlap(SyntheticSettings.plain()) < 1e-8


def test_correlated_features_share_factors():
    toy = synthetic(SyntheticSettings(features=40, d=40, roots=0, p_max=0.3, p_min=0.2, rank=2, correlation=0.6))
    fires = (toy.sample(20_000, seed=0).a > 0).float()
    shared = toy.loadings @ toy.loadings.T
    found = torch.corrcoef(fires.T)
    off = ~torch.eye(40, dtype=torch.bool)
    assert float(torch.corrcoef(torch.stack([shared[off], found[off]]))[0, 1]) > 0.95


def test_the_published_shape():
    s = SyntheticSettings.published()
    assert (s.features, s.d, s.roots, s.p_max) == (16_384, 768, 128, 0.4)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"roots": 200}, "need more than"),
        ({"p_max": 1.5}, "between 0 and 1"),
        ({"features": 1, "roots": 0}, "at least"),
    ],
)
def test_impossible_settings_are_named(wrong, told):
    with pytest.raises(InputError, match=told):
        synthetic(SMALL, **wrong)


def test_no_sample_is_refused(toy):
    with pytest.raises(InputError, match="at least one"):
        toy.sample(0, seed=0)
