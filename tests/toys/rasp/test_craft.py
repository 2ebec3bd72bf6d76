"""Named subspaces: orthonormal, disjoint, and reading what was written."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from cutaway.toys.rasp.craft import Residual

SPACES = [("word", ("a", "b", "c"), False), ("share", (0, Fraction(1, 3), 1), True), ("flag", (False, True), False)]


def test_subspaces_are_orthonormal_and_disjoint():
    r = Residual.of(SPACES, {})
    rows = np.concatenate([r.basis(name) for name, _, _ in SPACES])
    assert np.array_equal(rows @ rows.T, np.eye(6))
    assert r.width == 7
    assert len(r.labels()) == 7
    assert not rows[:, 0].any()  # BOS is nobody's


@pytest.mark.parametrize(("name", "values", "numerical"), SPACES)
def test_decode_undoes_encode_and_stands_a_quarter_of_noise(name, values, numerical):
    space = Residual.of(SPACES, {}).subspaces[name]
    coded = np.stack([space.encode(value) for value in values])
    assert space.decode(coded) == list(values)
    assert space.decode(coded + (0.1 if numerical else 0.25)) == list(values)
    if not numerical:
        assert space.decode(np.zeros((1, space.size))) == [None]


def test_readers_read_what_was_written_and_nothing_at_bos():
    r = Residual.of(SPACES, {"flag": True})
    matrix = np.arange(4.0).reshape(2, 2) + 1
    written = r.writer("flag", np.eye(2))
    assert np.array_equal(r.reader("flag", matrix) @ written, matrix)
    at_bos = np.zeros(r.width)
    at_bos[0], at_bos[r.subspaces["flag"].columns] = 1, r.subspaces["flag"].encode(True)
    assert not (r.reader("flag", matrix) @ at_bos).any()
    assert not (r.reader("word", np.eye(3)) @ written).any()
