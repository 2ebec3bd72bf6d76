"""The geometry of least loss: what is known of it without training large networks."""

from __future__ import annotations

import pytest
import torch

from cutaway.toys.superposition.shapes import LeastLoss, least_loss


@pytest.fixture(scope="module")
def found() -> LeastLoss:
    return least_loss(torch.tensor([1.0, 0.35, 0.1]), steps=500)


def test_dense_features_have_a_dimension_each_and_sparse_ones_share(found: LeastLoss) -> None:
    assert float(found.overall[0]) == pytest.approx(1.0, abs=0.1)
    assert float(found.saved[0]) == pytest.approx(1.0, abs=0.02)  # one feature's variance a dimension: the linear model
    assert found.saved[2] > found.saved[1] > found.saved[0]
    assert float(found.overall[2]) < 0.375  # beyond the antiprism


def test_digons_have_the_least_loss_at_a_third(found: LeastLoss) -> None:
    assert float(found.overall[1]) == pytest.approx(0.5, abs=0.03)
    torch.testing.assert_close(found.shares[1], torch.full_like(found.shares[1], 0.5), atol=0.02, rtol=0)
