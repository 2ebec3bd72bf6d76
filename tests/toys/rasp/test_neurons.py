"""Neurons compute f on every value exactly, stand small errors, and are off at BOS."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.toys.rasp.craft import Residual
from cutaway.toys.rasp.language import Linear, Map, SequenceMap, indices, tokens
from cutaway.toys.rasp.neurons import linear_neurons, map_neurons, sequence_map_neurons

WORDS = ("a", "b", "c")


def _run(neurons, x):
    return np.maximum(neurons.into @ x + neurons.bias, 0) @ neurons.out.T


def _at(r, **values):
    x = np.zeros(r.width)
    for name, value in values.items():
        x[r.subspaces[name].columns] = r.subspaces[name].encode(value)
    return x


numbers = st.lists(st.fractions(-3, 3, max_denominator=12), min_size=1, max_size=9, unique=True).map(sorted)


@settings(deadline=None)
@given(numbers, st.integers(0, 10**6))
def test_steps_give_the_image_of_every_value_and_of_what_lies_near_it(values, seed):
    rng = np.random.default_rng(seed)
    images = dict(zip(values, rng.integers(0, 3, len(values)).tolist()))
    r = Residual.of([("x", tuple(values), True), ("y", (0, 1, 2), False)], {})
    neurons = map_neurons(Map(images.__getitem__, tokens), "y", "x", r)
    gap = min((float(b - a) for a, b in pairwise(values)), default=1.0)
    for value in values:
        for error in (0.0, 0.24 * gap, -0.24 * gap):
            x = _at(r, x=value)
            x[r.subspaces["x"].columns] += error
            assert np.allclose(_run(neurons, x), _at(r, y=images[value]), atol=1e-9)
    bos = np.eye(r.width)[0]
    assert not _run(neurons, bos).any()


def test_categorical_maps_to_values_numbers_and_none():
    r = Residual.of([("w", WORDS, False), ("y", (1, 2), False), ("n", (0, Fraction(1, 3)), True)], {})
    table = {"a": 1, "b": 2, "c": None}
    neurons = map_neurons(Map(table.__getitem__, tokens), "y", "w", r)
    for word in WORDS:
        assert np.array_equal(_run(neurons, _at(r, w=word)), _at(r, y=table[word]))
    assert len(neurons) == 2  # what writes nothing has no neuron
    third = Map({"a": Fraction(1, 3), "b": 0, "c": 0}.__getitem__, tokens, numerical=True)
    neurons = map_neurons(third, "n", "w", r)
    assert np.allclose(_run(neurons, _at(r, w="a")), _at(r, n=Fraction(1, 3)))
    assert not _run(neurons, _at(r, w="b")).any()


def test_sequence_maps_read_both_and_are_silent_without_one():
    r = Residual.of([("w", WORDS, False), ("i", (0, 1), False), ("y", tuple(range(6)), False)], {})
    sop = SequenceMap(lambda w, i: WORDS.index(w) * 2 + i, tokens, indices)
    neurons = sequence_map_neurons(sop, "y", "w", "i", r)
    for word in WORDS:
        for i in (0, 1):
            expected = _at(r, y=WORDS.index(word) * 2 + i)
            assert np.array_equal(_run(neurons, _at(r, w=word, i=i)), expected)
        assert not _run(neurons, _at(r, w=word)).any()


@pytest.mark.parametrize(("x", "y"), [(-2, 3), (Fraction(1, 2), -1), (0, 0)])
def test_sums(x, y):
    r = Residual.of([("x", (x,), True), ("y", (y,), True), ("z", (0,), True)], {})
    sop = Linear(tokens, indices, Fraction(2), Fraction(-1, 3), numerical=True)
    out = _run(linear_neurons(sop, "z", "x", "y", r), _at(r, x=x, y=y))
    assert np.allclose(out, _at(r, z=2 * Fraction(x) - Fraction(y) / 3))
