"""Value sets hold every value that occurs, exactly."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.rasp.random_programs import random_program

from cutaway.core import InputError
from cutaway.toys.rasp import Map, aggregate, linear, numerical, program, program_names, select, tokens
from cutaway.toys.rasp.interpreter import Ambiguous, interpret
from cutaway.toys.rasp.values import value_sets


def _holds(p, longest):
    sets = value_sets(p.output, p.vocabulary, p.longest)
    for given_ in p.inputs(longest):
        try:
            trace = interpret(p.output, given_, causal=p.causal)
        except Ambiguous:
            continue
        for sop, values in trace.items():
            for value in values:
                assert value in sets[sop].values or (value is None and sets[sop].none)


@pytest.mark.parametrize("name", program_names())
def test_every_value_that_occurs_is_in_the_set(name):
    p = program(name)
    _holds(p, max(4, p.shortest))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_random_programs_too(seed):
    _holds(random_program(seed), 3)


def test_means_have_every_fraction():
    """Of up to three ones and zeros: two thirds is among them."""
    share = aggregate(select(tokens, tokens, lambda k, q: True), numerical(tokens.eq("a")), 0)
    found = value_sets(share, "ab", 3)[share].values
    assert found == (0, Fraction(1, 3), Fraction(1, 2), Fraction(2, 3), 1)
    of_many = aggregate(select(tokens, tokens, lambda k, q: True), numerical(Map({"a": 1, "b": 4}.get, tokens)), 0)
    expected = {Fraction(sum(some), n) for n in (1, 2, 3) for some in product((1, 4), repeat=n)} | {0}
    assert set(value_sets(of_many, "ab", 3)[of_many].values) == expected


def test_a_selector_that_never_holds_selects_nothing():
    nothing = aggregate(select(tokens, tokens, lambda k, q: False), tokens, "z")
    assert value_sets(nothing, "ab", 3)[nothing].values == ("z",)


def test_numbers_ascend_and_what_cannot_be_computed_does_not_occur():
    inverse = Map(lambda n: Fraction(1, n), Map({"a": 0, "b": 2, "c": 1}.get, tokens))
    assert value_sets(inverse, "abc", 2)[inverse].values == (Fraction(1, 2), 1)


def test_refusals():
    with pytest.raises(InputError, match="numerical"):
        value_sets(Map(str.upper, tokens, numerical=True), "ab", 2)
    wide = linear(Map(lambda i: i, tokens), Map(lambda i: 100 * i, tokens), 1, 1)
    with pytest.raises(InputError, match="4096"):
        value_sets(wide, range(70), 2)
