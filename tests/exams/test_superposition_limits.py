"""The limits of methods: what they give where the answer is known without training."""

import torch

from cutaway.exams.superposition.limits import METHODS, Point, _interchange, _matched, evidence, first_failure
from cutaway.toys.superposition import Networks, Sparse


def identity(n=6):
    return Networks(torch.eye(n)[None], torch.zeros(1, n))


def test_exchanging_an_own_direction_exchanges_the_feature_and_nothing_else():
    x, _ = Sparse(torch.full((1, 6), 0.3)).draw(2000, torch.Generator().manual_seed(0))
    own = torch.eye(6)
    assert _interchange(identity(), x[0], torch.arange(6), own) == [1.0] * 6
    others = own.roll(1, dims=0)
    assert max(_interchange(identity(), x[0], torch.arange(6), others)) < 0.2


def test_two_features_in_one_dimension_cannot_be_exchanged_alone():
    nets = Networks(torch.tensor([[[1.0, -1.0]]]), torch.zeros(1, 2))
    x, _ = Sparse(torch.full((1, 2), 0.6)).draw(4000, torch.Generator().manual_seed(0))
    assert max(_interchange(nets, x[0], torch.arange(2), torch.ones(2, 1))) < 0.9


def test_matching_is_one_to_one_and_blind_to_sign():
    directions = torch.nn.functional.normalize(torch.randn(5, 12, generator=torch.Generator().manual_seed(0)), dim=1)
    order = torch.tensor([3, 1, 4, 0, 2])
    found, closest = _matched(-directions[order] * 7, directions)
    torch.testing.assert_close(found, torch.ones(5))
    assert torch.equal(order[closest], torch.arange(5))
    once, _ = _matched(directions[:1].expand(5, -1), directions)
    assert int((once > 0.999).sum()) == 1


def test_the_first_failure_is_the_roomiest_point_under_the_bar():
    def point(m, crowd, value):
        return Point(m, crowd, dict.fromkeys(METHODS, [value] * 4), dict.fromkeys(METHODS, [0.1] * 4))

    points = [point(40, 1.0, 1.0), point(20, 2.0, 0.85), point(10, 4.0, 0.95)]
    assert first_failure(points, "probe") == 2.0
    assert first_failure(points[:1], "probe") is None
    assert all(one.verdict == "distinguishable from null" for one in evidence(points))
    crowded = Point(8, 5.0, dict.fromkeys(METHODS, [0.8, 0.9] * 4), dict.fromkeys(METHODS, [0.9, 0.8] * 4))
    assert all(one.verdict == "not distinguishable from null" for one in evidence([*points, crowded]))
