"""Floors keep what they say they keep, and lose the rest."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cutaway.core import InputError
from cutaway.evidence import explained_variance, matched_gaussian, permuted, random_directions, without_token


def rows(n=400, d=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g).exp() @ torch.randn(d, d, generator=g) + 3


def test_gaussian_floor_has_the_mean_and_covariance_and_nothing_else():
    x = rows()
    y = matched_gaussian(x, 200_000)
    scale = x.T.cov().abs().max()
    assert torch.allclose(y.mean(0), x.mean(0), atol=0.02 * float(scale.sqrt()))
    assert (y.T.cov() - x.T.cov()).abs().max() < 0.03 * scale

    def kurtosis(v):
        v = (v - v.mean(0)) / v.std(0)
        return (v**4).mean(0)

    assert (kurtosis(x) > 4).any()
    assert ((kurtosis(y) - 3).abs() < 0.15).all()


def test_gaussian_floor_of_degenerate_rows_stays_in_their_span():
    x = rows(5, 3) @ torch.randn(3, 10)
    y = matched_gaussian(x, 50)
    rank = torch.linalg.matrix_rank((torch.cat([x, y]) - x.mean(0)).double(), rtol=1e-5)
    assert rank <= 3
    assert torch.equal(matched_gaussian(x, 7, seed=3), matched_gaussian(x, 7, seed=3))


def test_explained_variance_by_its_three_names():
    x = rows()
    assert explained_variance(x, x) == 1
    assert explained_variance(x, x.mean(0).expand_as(x)) == pytest.approx(0, abs=1e-9)
    assert explained_variance(x, torch.zeros_like(x), "zero") == 0
    assert explained_variance(x, x.mean(0).expand_as(x), "zero") > 0.3  # the mean counts as explained
    assert math.isnan(explained_variance(torch.ones(3, 2), torch.ones(3, 2)))


def test_token_identity_is_removed_without_explaining_itself():
    g = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 20, (2000,), generator=g)
    identity = torch.randn(20, 5, generator=g)[tokens]
    x = identity + 0.3 * torch.randn(2000, 5, generator=g)
    # A reconstruction of the identity alone has nothing left over it; perfect reconstruction has all.
    assert explained_variance(x, identity) > 0.85
    assert abs(explained_variance(x, identity, "token", tokens)) < 0.03
    assert explained_variance(x, x, "token", tokens) == 1
    # Noise that tokens don't carry keeps its variance, however rare the tokens.
    noise, rare = torch.randn(2000, 5, generator=g), torch.arange(2000) // 2
    left, seen = without_token(noise, rare)
    assert seen.all()
    assert float((left**2).sum() / (noise**2).sum()) == pytest.approx(2, rel=0.1)  # x - x' has twice the variance
    assert not without_token(noise, torch.arange(2000))[1].any()


def test_random_directions_keep_norms_alone():
    v = rows(300, 64)
    r = random_directions(v, seed=2)
    assert torch.allclose(r.norm(dim=-1), v.norm(dim=-1))
    cosine = torch.cosine_similarity(r, v)
    assert abs(float(cosine.mean())) < 0.03
    assert float(cosine.std()) == pytest.approx(1 / 8, rel=0.2)
    assert not torch.equal(r, random_directions(v, seed=3))


def test_permuted_labels_stay_in_their_groups():
    labels, groups = np.arange(60), np.arange(60) % 3
    shuffled = permuted(labels, seed=4, within=groups)
    assert sorted(shuffled) == list(labels)
    assert (shuffled % 3 == groups).all()
    assert (shuffled != labels).any()
    assert (np.sort(permuted(labels)) == labels).all()


def test_bad_shapes_are_named():
    with pytest.raises(InputError, match="target's shape"):
        explained_variance(torch.ones(3, 2), torch.ones(3, 3))
    with pytest.raises(InputError, match="needs `tokens`"):
        explained_variance(torch.ones(3, 2), torch.ones(3, 2), "token")
    with pytest.raises(InputError, match=r"rows \[n, d\]"):
        matched_gaussian(torch.ones(3))
