"""The interpreter: examples worked by hand, and refusals."""

from __future__ import annotations

from fractions import Fraction

import pytest

from cutaway.toys.rasp import Ambiguous, Map, aggregate, indices, numerical, program, select, selector_width, tokens
from cutaway.toys.rasp.interpreter import interpret

EXAMPLES = {  # the literature's own examples where it has one
    "length": ("abc", [3, 3, 3]),
    "reverse": ("abbc", ["c", "b", "b", "a"]),
    "hist": ("abac", [2, 1, 2, 1]),
    "double_hist": ("abac", [2, 2, 2, 2]),
    "frac_prevs": ("yxxyx", [0, Fraction(1, 2), Fraction(2, 3), Fraction(1, 2), Fraction(3, 5)]),
    "sort_unique": ((2, 4, 3, 1), [1, 2, 3, 4]),
    "sort": ((2, 4, 1, 2), [1, 2, 2, 4]),
    "sort_freq": ("acca", ["a", "c", "c", "a"]),
    "shift": ("abc", [None, "a", "b"]),
    "induction": ("abcab", [None, None, None, "b", "c"]),
    "detect_pattern": ("abcabc", [None, None, True, False, False, True]),
    "balance": ("()x(", [1, 0, 0, Fraction(1, 4)]),
    "dyck1": ("(())", [True] * 4),
    "dyck2": ("({)}", [True] * 4),
    "hist2": ("abbc", [2, 1, 1, 2]),
    "mod_sum": ((1, 2, 3), [None, 3, 1]),
    "add_carry": ((1, 2, 0, 3), [None, None, 2, 1]),
    "equal_pairs": ("aabb", [None, None, None, True]),
    "pointer": (("Ann", "Bob", "Bob", "?"), [None, None, None, "Ann"]),
    "majority": ("aab", [True] * 3),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_by_hand(name):
    given, expected = EXAMPLES[name]
    p = program(name)
    assert p.admits(tuple(given))
    found = interpret(p.output, given, causal=p.causal)[p.output]
    assert found == expected


def test_every_program_has_an_example():
    from cutaway.toys.rasp import program_names

    assert set(EXAMPLES) == set(program_names())


def test_unbalanced_brackets_are_told_apart():
    p = program("dyck2")
    for given in ("(){)}", ")(", "((", "}{"):
        assert interpret(p.output, given)[p.output] == [False] * len(given)


def test_causal_is_the_prefix():
    """Under a causal mask the values at a position are those of the input cut off after it."""
    count = selector_width(select(tokens, tokens, lambda k, q: k == q))
    whole = interpret(count, "abaab", causal=True)[count]
    assert whole == [interpret(count, "abaab"[: i + 1])[count][i] for i in range(5)]


def test_means_are_exact_and_nothing_selected_gives_the_default():
    third = aggregate(select(tokens, tokens, lambda k, q: True), numerical(tokens.eq("a")), 0)
    assert interpret(third, "abb")[third] == [Fraction(1, 3)] * 3
    none = aggregate(select(tokens, tokens, lambda k, q: False), tokens, "z")
    assert interpret(none, "ab")[none] == ["z", "z"]


def test_none_is_not_mapped():
    before = aggregate(select(indices, indices, lambda k, q: k == q - 1), tokens)
    loud = Map(str.upper, before)
    assert interpret(loud, "ab")[loud] == [None, "A"]
    number = Map(lambda t: 5, before, numerical=True)
    assert interpret(number, "ab")[number] == [0, 5]


def test_different_values_at_once_have_no_meaning():
    everything = aggregate(select(tokens, tokens, lambda k, q: True), tokens, name="all")
    assert interpret(everything, "aa")[everything] == ["a", "a"]
    with pytest.raises(Ambiguous, match="all"):
        interpret(everything, "ab")


def test_an_intervention_replaces_a_mechanism_and_what_follows_from_it():
    p = program("reverse")
    trace = interpret(p.output, "abc")
    mirrored = next(sop for sop in trace if sop.name == "mirrored")
    changed = interpret(p.output, "abc", set_to={mirrored: [0, 0, 1]})
    assert changed[p.output] == ["a", "a", "b"]
    assert changed[tokens] == trace[tokens]
