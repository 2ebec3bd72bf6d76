"""The programs: those of the literature, and some of our own that are good subjects for causal abstraction.

Sources: RASP's own (Weiss, Goldberg & Yahav 2021: length, reverse, histograms, sorting, Dyck languages) and tracr's
library (Lindner et al. 2023); definitions are theirs, the wording ours. Each entry names the inputs for which it is
exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache

from cutaway.core import UnknownName
from cutaway.toys.rasp.language import Map as map_
from cutaway.toys.rasp.language import (
    SOp,
    Value,
    aggregate,
    indices,
    linear,
    numerical,
    select,
    selector_width,
    sequence_map,
    tokens,
)
from cutaway.toys.rasp.program import Program

_BUILDERS: dict[str, Callable[[], Program]] = {}


def program_names() -> tuple[str, ...]:
    """The names of all programs, the literature's first."""
    return tuple(_BUILDERS)


def program(name: str) -> Program:
    """A program by name. Raises UnknownName."""
    if name not in _BUILDERS:
        raise UnknownName("program", name, _BUILDERS)
    return _BUILDERS[name]()


def _entry(build: Callable[[], Program]) -> Callable[[], Program]:
    _BUILDERS[build.__name__.strip("_")] = cache(build)
    return _BUILDERS[build.__name__.strip("_")]


# ---- pieces


def _everything(k: Value, q: Value) -> bool:
    return True


def _equal(k: Value, q: Value) -> bool:
    return bool(k == q)


def _length() -> SOp:
    return selector_width(select(tokens, tokens, _everything), name="length")


def _shifted(by: int, of: SOp, name: str) -> SOp:
    """The value `by` positions earlier; None before there is one."""
    return aggregate(select(indices, indices, lambda k, q: k == q - by), of, name=name)


def _fraction_of_previous(of: SOp, name: str) -> SOp:
    """The fraction of positions up to and with this one at which `of` is true."""
    return aggregate(select(indices, indices, lambda k, q: k <= q), numerical(of), 0, name=name)


def _sorted(keys: SOp) -> SOp:
    """Tokens in the order of `keys`, which must differ."""
    rank = selector_width(select(keys, keys, lambda k, q: k < q), name="rank")
    return aggregate(select(rank, indices, _equal), tokens, name="sorted")


def _ranked(of: SOp) -> SOp:
    """Keys that differ: equal values are told apart by position."""
    return sequence_map(lambda value, index: (value, index), of, indices, name="key")


def _balance(pair: str) -> SOp:
    """Fraction of opened minus fraction of closed brackets, up to and with this position."""
    opened = _fraction_of_previous(tokens.eq(pair[0]).named(f"is_{pair[0]}"), f"opened_{pair}")
    closed = _fraction_of_previous(tokens.eq(pair[1]).named(f"is_{pair[1]}"), f"closed_{pair}")
    return linear(opened, closed, 1, -1, name=f"balance_{pair}")


def _dyck(pairs: Sequence[str]) -> SOp:
    """Whether every kind of bracket is never closed before it is opened, and all are closed at the end."""
    balances = [_balance(pair) for pair in pairs]
    below, zero = balances[0] < 0, balances[0].eq(0)
    for balance in balances[1:]:
        below, zero = below | (balance < 0), zero & balance.eq(0)
    ever = aggregate(select(indices, indices, _everything), numerical(below.named("below")), 0, name="ever_below")
    last = _length() - 1
    closed = aggregate(select(indices, last.named("last"), _equal), zero.named("zero"), name="closed_at_end")
    return sequence_map(lambda c, e: bool(c and e), closed, ever.eq(0).named("never_below"), name="balanced")


def _distinct(given: Sequence[Value]) -> bool:
    return len(set(given)) == len(given)


# ---- of the literature


@_entry
def length() -> Program:
    return Program(
        "length", "how many tokens there are", "width(select(tokens, tokens, True))", _length(), ("a", "b", "c"), 6
    )


@_entry
def reverse() -> Program:
    mirrored = sequence_map(lambda n, index: n - 1 - index, _length(), indices, name="mirrored")
    output = aggregate(select(indices, mirrored, _equal), tokens, name="reverse")
    source = "aggregate(select(indices, length - 1 - indices, ==), tokens)"
    return Program("reverse", "the tokens backwards", source, output, ("a", "b", "c"), 6)


@_entry
def hist() -> Program:
    output = selector_width(select(tokens, tokens, _equal), name="hist")
    return Program(
        "hist", "how often each token occurs", "width(select(tokens, tokens, ==))", output, ("a", "b", "c"), 6
    )


@_entry
def double_hist() -> Program:
    count = selector_width(select(tokens, tokens, _equal), name="hist")
    output = selector_width(select(count, count, _equal), name="double_hist")
    source = "width(select(hist, hist, ==))"
    return Program(
        "double_hist", "at how many positions stands a token that is as frequent", source, output, ("a", "b", "c"), 6
    )


@_entry
def frac_prevs() -> Program:
    output = _fraction_of_previous(tokens.eq("x").named("is_x"), "frac_prevs")
    source = "aggregate(select(indices, indices, <=), tokens == x)"
    about = "the fraction of x among the tokens so far"
    return Program("frac_prevs", about, source, output, ("x", "y", "z"), 6, causal=True)


@_entry
def sort_unique() -> Program:
    source = "aggregate(select(width(select(tokens, tokens, <)), indices, ==), tokens)"
    return Program(
        "sort_unique", "the tokens in order", source, _sorted(tokens), (1, 2, 3, 4, 5), 5,
        valid=_distinct, domain="no token twice",
    )  # fmt: skip


@_entry
def sort() -> Program:
    source = "key = (tokens, indices); aggregate(select(width(select(key, key, <)), indices, ==), tokens)"
    return Program("sort", "the tokens in order, repeated ones too", source, _sorted(_ranked(tokens)), (1, 2, 3, 4), 5)


@_entry
def sort_freq() -> Program:
    count = selector_width(select(tokens, tokens, _equal), name="hist")
    output = _sorted(_ranked(map_(lambda n: -n, count, name="rarity")))
    source = "key = (-hist, indices); aggregate(select(width(select(key, key, <)), indices, ==), tokens)"
    return Program("sort_freq", "the tokens, most frequent first", source, output, ("a", "b", "c"), 5)


@_entry
def shift() -> Program:
    output = _shifted(1, tokens, "shift")
    source = "aggregate(select(indices, indices, k == q - 1), tokens)"
    return Program("shift", "the token before", source, output, ("a", "b", "c"), 6, causal=True)


@_entry
def induction() -> Program:
    before = _shifted(1, tokens, "before")
    here = selector_width(select(before, tokens, _equal), name="times_seen")
    number = selector_width(select(before, before, _equal), name="number")
    key = sequence_map(lambda b, n: (b, n), before, number, name="key")
    query = sequence_map(lambda t, n: (t, n), tokens, here, name="query")
    output = aggregate(select(key, query, _equal), tokens, name="induction")
    source = (
        "before = shift(tokens); number = width(select(before, before, ==)); seen = width(select(before, tokens, ==)); "
        "aggregate(select((before, number), (tokens, seen), ==), tokens)"
    )
    about = "the token that came after the latest earlier occurrence of this one"
    return Program("induction", about, source, output, ("a", "b", "c"), 6, causal=True)


@_entry
def detect_pattern() -> Program:
    first = _shifted(2, tokens.eq("a").named("is_a"), "a_two_before")
    second = _shifted(1, tokens.eq("b").named("is_b"), "b_before")
    output = (first & second & tokens.eq("c").named("is_c")).named("detect_pattern")
    source = "shift(tokens == a, 2) & shift(tokens == b, 1) & (tokens == c)"
    return Program("detect_pattern", "whether a b c ends here", source, output, ("a", "b", "c"), 6, causal=True)


@_entry
def balance() -> Program:
    source = "frac_prevs(tokens == '(') - frac_prevs(tokens == ')')"
    about = "fraction of opened less fraction of closed brackets so far"
    return Program("balance", about, source, _balance("()"), ("(", ")", "x"), 6, causal=True)


@_entry
def dyck1() -> Program:
    source = "aggregate(last, balance == 0) & not any(balance < 0)"
    return Program("dyck1", "whether the brackets are balanced", source, _dyck(["()"]), ("(", ")"), 8)


@_entry
def dyck2() -> Program:
    source = "for both kinds: aggregate(last, balance == 0) & not any(balance < 0)"
    about = "whether two kinds of bracket are each balanced (shuffle-Dyck-2)"
    return Program("dyck2", about, source, _dyck(["()", "{}"]), ("(", ")", "{", "}"), 6)


@_entry
def hist2() -> Program:
    same = select(tokens, tokens, _equal)
    count = selector_width(same, name="hist")
    earlier = selector_width(same & select(indices, indices, lambda k, q: k < q), name="seen_before")
    first = earlier.eq(0).named("is_first")
    output = selector_width(select(count, count, _equal) & select(first, first, lambda k, q: bool(k)), name="hist2")
    source = "width(select(hist, hist, ==) & select(is_first, True, ==)), is_first = width(same & earlier) == 0"
    return Program("hist2", "how many different tokens are as frequent", source, output, ("a", "b", "c"), 5)


# ---- our own


@_entry
def mod_sum() -> Program:
    output = sequence_map(lambda a, b: (a + b) % 4, tokens, _shifted(1, tokens, "before"), name="mod_sum")
    source = "(tokens + shift(tokens)) mod 4"
    return Program("mod_sum", "this token plus the one before, mod 4", source, output, (0, 1, 2, 3), 4, causal=True)


@_entry
def add_carry() -> Program:
    """Two-digit addition in base 4: inputs a b c d mean ab + cd."""
    at = [aggregate(select(indices, indices, lambda k, q, i=i: k == i), tokens, name=n) for i, n in enumerate("abcd")]  # type: ignore[misc]
    units = sequence_map(lambda b, d: b + d, at[1], at[3], name="units")
    tens = sequence_map(lambda a, c: a + c, at[0], at[2], name="tens")
    carry = map_(lambda s: s // 4, units, name="carry")
    high = sequence_map(lambda t, c: (t + c) % 4, tens, carry, name="high")
    low = map_(lambda s: s % 4, units, name="low")
    both = sequence_map(lambda h, lo: (h, lo), high, low, name="both")
    output = sequence_map(lambda v, i: v[1] if i == 3 else v[0] if i == 2 else None, both, indices, name="sum")
    source = "units = b + d; carry = units // 4; at index 2 (a + c + carry) mod 4, at index 3 units mod 4"
    return Program(
        "add_carry", "two-digit addition in base 4, the digits at the last two positions", source, output, (0, 1, 2, 3),
        4, shortest=4, domain="four digits",
    )  # fmt: skip


@_entry
def equal_pairs() -> Program:
    """Hierarchical equality: is (w == x) the same as (y == z)?"""
    same = sequence_map(lambda a, b: a == b, tokens, _shifted(1, tokens, "before"), name="same")
    left = aggregate(select(indices, indices, lambda k, q: k == 1), same, name="left")
    right = aggregate(select(indices, indices, lambda k, q: k == 3), same, name="right")
    output = sequence_map(lambda a, b: a == b, left, right, name="equal_pairs")
    source = "same = (tokens == shift(tokens)); same at index 1 == same at index 3"
    return Program(
        "equal_pairs", "hierarchical equality: (w == x) == (y == z)", source, output, ("a", "b", "c", "d"), 4,
        shortest=4, causal=True, domain="four tokens",
    )  # fmt: skip


_NAMES = ("Ann", "Bob", "Cy", "Di")


def _names_and_question(given: Sequence[Value]) -> bool:
    people, end = given[:-1], given[-1]
    return end == "?" and "?" not in people and len(set(people)) == 2


@_entry
def pointer() -> Program:
    """Indirect objects: of three names one stands twice; `?` is to be answered by the other."""
    count = selector_width(select(tokens, tokens, _equal), name="seen")
    again = (count >= 2).named("duplicate")
    subject = aggregate(select(again, tokens, lambda k, q: k and q == "?"), tokens, name="subject")
    output = aggregate(select(tokens, subject, lambda k, q: k not in (q, "?")), tokens, name="answer")
    source = "duplicate = width(select(tokens, tokens, ==)) >= 2; subject = at ?, aggregate(duplicate, tokens); "
    source += "aggregate(select(tokens, subject, !=), tokens)"
    return Program(
        "pointer", "indirect object: the name that does not stand twice, asked for by ?", source, output,
        (*_NAMES, "?"), 4, shortest=4, causal=True, valid=_names_and_question,
        domain="three names, two of them the same, and ?",
    )  # fmt: skip


@_entry
def majority() -> Program:
    share = aggregate(select(tokens, tokens, _everything), numerical(tokens.eq("a").named("is_a")), 0, name="share")
    output = (share > Fraction(1, 2)).named("majority")
    source = "aggregate(select(tokens, tokens, True), tokens == a) > 1/2"
    return Program("majority", "whether more than half of the tokens are a", source, output, ("a", "b"), 8)
