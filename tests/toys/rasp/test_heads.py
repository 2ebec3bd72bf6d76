"""Heads: scores are the predicate times the coldness, BOS in between; factors are exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.toys.rasp.craft import Residual
from cutaway.toys.rasp.heads import _factors, aggregate_head, width_head
from cutaway.toys.rasp.language import InverseWidth, aggregate, select, tokens

VALUES = (1, 2, 3, 4)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))
def test_factors_multiply_to_the_table(rows, columns, seed):
    rng = np.random.default_rng(seed)
    table = (rng.random((rows, columns)) < 0.4).astype(float)
    left, right = _factors(table)
    assert np.array_equal(left.T @ right, table)
    assert set(np.unique(left)) | set(np.unique(right)) <= {0.0, 1.0}
    assert len(left) <= min(rows, columns)


@pytest.mark.parametrize("coldness", [10.0, 100.0])
def test_scores_are_coldness_times_the_predicate(coldness):
    selector = select(tokens, tokens, lambda k, q: k < q)
    r = Residual.of([("tokens", VALUES, False), ("out", VALUES, False), ("w", (1,), True)], {})
    head = aggregate_head(aggregate(selector, tokens), "out", "tokens", "tokens", "tokens", r, coldness)
    wide = width_head(InverseWidth(selector, numerical=True), "w", "tokens", "tokens", r, coldness)
    bos = np.eye(r.width)[0]
    for q in VALUES:
        query = r.writer("tokens", np.eye(4))[:, q - 1]
        for k in VALUES:
            key = r.writer("tokens", np.eye(4))[:, k - 1]
            assert (head.query @ query + head.query_bias) @ (head.key @ key) == coldness * (k < q)
        assert (head.query @ query + head.query_bias) @ (head.key @ bos) == coldness / 2
        assert (wide.query @ query + wide.query_bias) @ (wide.key @ bos) == coldness
    assert np.array_equal(wide.out @ wide.value @ bos, r.writer("w", np.eye(1))[:, 0])


def test_a_default_is_what_bos_gives():
    r = Residual.of([("tokens", VALUES, False), ("out", (*VALUES, 9), False)], {"out": 9})
    sop = aggregate(select(tokens, tokens, lambda k, q: False), tokens, 9)
    head = aggregate_head(sop, "out", "tokens", "tokens", "tokens", r, 100.0)
    bos = np.eye(r.width)[0]
    assert r.subspaces["out"].decode((head.out @ head.value @ bos)[None, r.subspaces["out"].columns]) == [9]
