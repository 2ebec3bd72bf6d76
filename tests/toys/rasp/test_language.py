"""The language: expressions are values, names are unique, compound selectors mean what they say."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest

from cutaway.core import InputError
from cutaway.toys.rasp import Map, aggregate, indices, linear, numerical, select, selector_width, sequence_map, tokens
from cutaway.toys.rasp.interpreter import interpret, selected
from cutaway.toys.rasp.language import exact, names, ordered


def test_parents_come_first_and_each_variable_once():
    twice = sequence_map(lambda a, b: (a, b), tokens, indices)
    output = selector_width(select(twice, twice, lambda k, q: k == q))
    order = ordered(output)
    assert order[-1] is output
    assert len(order) == len(set(order))
    for at, sop in enumerate(order):
        assert all(parent in order[:at] for parent in sop.parents)


def test_names_are_unique_and_keep_what_was_given():
    a, b = Map(str, tokens, name="x"), Map(str, tokens, name="x")
    unnamed = sequence_map(lambda p, q: p + q, a, b)
    found = names(sequence_map(lambda p, q: p + q, unnamed, Map(str, indices)))
    assert len(set(found.values())) == len(found)
    assert {found[a], found[b]} == {"x", "x_2"}
    assert found[tokens] == "tokens"


@pytest.mark.parametrize(("how", "combine"), [("and", lambda a, b: a and b), ("or", lambda a, b: a or b)])
def test_joined_selectors_select_what_both_or_either_does(how, combine):
    one = select(tokens, tokens, lambda k, q: k == q)
    two = select(indices, indices, lambda k, q: k < q)
    both = one & two if how == "and" else one | two
    for given in product("ab", repeat=3):
        trace = interpret(selector_width(both), given) | interpret(selector_width(one), given)
        a, b, c = (selected(s, trace | {indices: [0, 1, 2]}, causal=False) for s in (one, two, both))
        for i, j in product(range(3), range(3)):
            assert (j in c[i]) == combine(j in a[i], j in b[i])


def test_the_complement_selects_the_rest():
    one = select(tokens, tokens, lambda k, q: k == q)
    trace = interpret(selector_width(one), "aab")
    for some, others in zip(selected(one, trace, False), selected(~one, trace, False)):
        assert sorted(some + others) == [0, 1, 2]


def test_numerical_and_categorical_parents_are_converted():
    number = numerical(Map(lambda t: 2, tokens))
    assert numerical(number) is number
    assert not select(number, tokens, lambda k, q: True).keys.numerical
    assert all(parent.numerical for parent in linear(indices, number, 1, 1).parents)
    assert aggregate(select(tokens, tokens, lambda k, q: True), number).default == 0


def test_floats_are_refused_and_whole_fractions_are_ints():
    assert exact(Fraction(4, 2)) == 2
    assert isinstance(exact(Fraction(4, 2)), int)
    with pytest.raises(InputError, match="float"):
        interpret(Map(lambda t: 0.5, tokens), "ab")
