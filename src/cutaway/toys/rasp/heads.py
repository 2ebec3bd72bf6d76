"""Attention heads that compute an aggregate, or one over a selector's width.

The score of key j for query i is coldness * predicate(key, query), and BOS has coldness / 2: with nothing selected all
attention falls on BOS, with anything selected none does (up to exp(-coldness / 2)). A width head lets BOS have the full
coldness and reads it: it gets 1 / (1 + width).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cutaway.toys.rasp.craft import Array, Residual
from cutaway.toys.rasp.language import Aggregate, InverseWidth, Select
from cutaway.toys.rasp.values import holds


@dataclass(frozen=True)
class Head:
    """One head: scores (W_Q x + b_Q) . (W_K y), values W_V y, written by W_O."""

    query: Array  # W_Q [d_qk, width]
    query_bias: Array  # b_Q [d_qk]
    key: Array  # W_K [d_qk, width]
    value: Array  # W_V [d_v, width]
    out: Array  # W_O [width, d_v]

    @property
    def width(self) -> int:
        """The least d_head that holds it."""
        return max(len(self.query), len(self.value))


def aggregate_head(sop: Aggregate, name: str, of: str, keys: str, queries: str, r: Residual, coldness: float) -> Head:
    """The head that writes the aggregate `name`; `of`, `keys`, `queries` name the variables it reads."""
    query, bias, key = _scores(sop.selector, keys, queries, r, coldness, bos=coldness / 2)
    source, target = r.subspaces[of], r.subspaces[name]
    across = np.eye(1) if source.numerical else np.zeros((target.size, source.size))
    for column, known in enumerate(() if source.numerical else source.values):
        if known in target.values:  # a selector that never holds passes none
            across[:, column] = target.encode(known)
    value = r.reader(of, across)
    value[:, 0] += target.encode(sop.default)
    return Head(query, bias, key, value, r.writer(name, np.eye(target.size)))


def width_head(sop: InverseWidth, name: str, keys: str, queries: str, r: Residual, coldness: float) -> Head:
    """The head that writes 1 / (1 + width) of the selector into `name`."""
    query, bias, key = _scores(sop.selector, keys, queries, r, coldness, bos=coldness)
    return Head(query, bias, key, r.bos_reader(1.0), r.writer(name, np.ones((1, 1))))


def _scores(
    selector: Select, keys: str, queries: str, r: Residual, coldness: float, bos: float
) -> tuple[Array, Array, Array]:
    """(W_Q, b_Q, W_K) with (W_Q x + b_Q) . W_K y = coldness * predicate, and = `bos` where y is the BOS position."""
    known, asked = r.subspaces[keys].values, r.subspaces[queries].values
    table = np.zeros((len(asked), len(known)))
    for i, query_value in enumerate(asked):
        for j, key_value in enumerate(known):
            table[i, j] = holds(selector.predicate, key_value, query_value)
    left, right = _factors(table)
    query = np.concatenate([r.reader(queries, coldness * left), np.zeros((1, r.width))])
    key = np.concatenate([r.reader(keys, right), r.bos_reader(1.0)])
    return query, np.append(np.zeros(len(left)), bos), key


def _factors(table: Array) -> tuple[Array, Array]:
    """table [a, b] of 0 and 1 as left.T @ right, left [n, a], right [n, b], also of 0 and 1; n is the number of
    different rows or columns that are not all 0, whichever is less. Exact, where a singular value decomposition is not.
    """
    if not table.any():
        return np.zeros((0, len(table))), np.zeros((0, table.shape[1]))
    rows, row_of = np.unique(table, axis=0, return_inverse=True)
    columns = np.unique(table, axis=1).T
    if len(columns) < len(rows):
        right, left = _factors(table.T)
        return left, right
    keep = np.flatnonzero(rows.any(axis=1))
    return (row_of.reshape(1, -1) == keep[:, None]).astype(np.float64), rows[keep]
