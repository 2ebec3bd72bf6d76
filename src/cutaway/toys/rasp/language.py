"""The language: the part of RASP that compiles to a transformer (Weiss, Goldberg & Yahav 2021).

An s-op is a value at every position of a sequence: `tokens`, `indices`, and what the operations make of them. A
selector says for each position (the query) which positions (the keys) it looks at. Expressions are frozen values; an
s-op that is used twice is one variable, computed once.

None stands for "no value": what an aggregate gives where nothing is selected and it has no default. A function is not
called on None; its result there is None. A numerical s-op has no None and is 0 there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain, count
from typing import Any, Self

from cutaway.core import InputError

# bool, int, str, Fraction, tuples of them, or None. Any: functions of one's own take and give them.
Value = Any
Predicate = Callable[[Value, Value], bool]  # (key, query) -> selected


@dataclass(frozen=True, eq=False)
class SOp:
    """A value at every position. `numerical`: one direction of the residual stream whose coordinate is the value;
    otherwise categorical: one direction for each value."""

    name: str = field(default="", kw_only=True)
    numerical: bool = field(default=False, kw_only=True)

    @property
    def parents(self) -> tuple[SOp, ...]:
        return ()

    def named(self, name: str) -> Self:
        return replace(self, name=name)

    def eq(self, other: Value) -> SOp:
        """True where this equals `other`, an s-op or a constant."""
        return _binary(lambda a, b: a == b, self, other)

    def __lt__(self, other: Value) -> SOp:
        return _binary(lambda a, b: a < b, self, other)

    def __le__(self, other: Value) -> SOp:
        return _binary(lambda a, b: a <= b, self, other)

    def __gt__(self, other: Value) -> SOp:
        return _binary(lambda a, b: a > b, self, other)

    def __ge__(self, other: Value) -> SOp:
        return _binary(lambda a, b: a >= b, self, other)

    def __and__(self, other: Value) -> SOp:
        return _binary(lambda a, b: bool(a and b), self, other)

    def __or__(self, other: Value) -> SOp:
        return _binary(lambda a, b: bool(a or b), self, other)

    def __invert__(self) -> SOp:
        return Map(lambda a: not a, self)

    def __add__(self, other: Value) -> SOp:
        if isinstance(other, SOp) and self.numerical and other.numerical:
            return linear(self, other, 1, 1)
        return _binary(lambda a, b: a + b, self, other)

    def __sub__(self, other: Value) -> SOp:
        if isinstance(other, SOp) and self.numerical and other.numerical:
            return linear(self, other, 1, -1)
        return _binary(lambda a, b: a - b, self, other)


@dataclass(frozen=True, eq=False)
class Tokens(SOp):
    """The input."""


@dataclass(frozen=True, eq=False)
class Indices(SOp):
    """0, 1, 2, … from the first token after BOS."""


@dataclass(frozen=True, eq=False)
class Map(SOp):
    """f of the value at each position."""

    f: Callable[[Value], Value]
    of: SOp

    @property
    def parents(self) -> tuple[SOp, ...]:
        return (self.of,)


@dataclass(frozen=True, eq=False)
class SequenceMap(SOp):
    """f of two categorical s-ops' values at each position. Made by `sequence_map`."""

    f: Callable[[Value, Value], Value]
    first: SOp
    second: SOp

    @property
    def parents(self) -> tuple[SOp, ...]:
        return (self.first, self.second)


@dataclass(frozen=True, eq=False)
class Linear(SOp):
    """a * first + b * second of two numerical s-ops. Made by `linear`."""

    first: SOp
    second: SOp
    a: Fraction
    b: Fraction

    @property
    def parents(self) -> tuple[SOp, ...]:
        return (self.first, self.second)


@dataclass(frozen=True, eq=False)
class Select:
    """A selector: position j (key) is selected by position i (query) where predicate(keys[j], queries[i]).

    Nothing is selected where the key or the query is None. Made by `select`.
    """

    keys: SOp
    queries: SOp
    predicate: Predicate

    def __and__(self, other: Select) -> Select:
        return _joint(self, other, lambda a, b: a and b)

    def __or__(self, other: Select) -> Select:
        return _joint(self, other, lambda a, b: a or b)

    def __invert__(self) -> Select:
        return replace(self, predicate=lambda k, q: not self.predicate(k, q))


@dataclass(frozen=True, eq=False)
class Aggregate(SOp):
    """The mean over the selected positions (numerical), or their one common value (categorical); `default` where
    nothing is selected. Made by `aggregate`."""

    selector: Select
    of: SOp
    default: Value = None

    @property
    def parents(self) -> tuple[SOp, ...]:
        return (self.selector.queries, self.selector.keys, self.of)


@dataclass(frozen=True, eq=False)
class InverseWidth(SOp):
    """1 / (1 + how many positions are selected): what a head gives that attends to BOS as well. Made by
    `selector_width`."""

    selector: Select

    @property
    def parents(self) -> tuple[SOp, ...]:
        return (self.selector.queries, self.selector.keys)


# ---- the makers

tokens = Tokens(name="tokens")
indices = Indices(name="indices")


def numerical(of: SOp) -> SOp:
    """The same values as one coordinate."""
    return of if of.numerical else Map(_same, of, numerical=True, name=f"{of.name}_number" if of.name else "")


def categorical(of: SOp) -> SOp:
    """The same values with a direction each."""
    return of if not of.numerical else Map(_same, of, name=f"{of.name}_values" if of.name else "")


def sequence_map(
    f: Callable[[Value, Value], Value], first: SOp, second: SOp, *, name: str = "", numerical: bool = False
) -> SOp:
    """f(first, second) at each position."""
    if first is second:
        return Map(lambda a: f(a, a), first, name=name, numerical=numerical)
    return SequenceMap(f, categorical(first), categorical(second), name=name, numerical=numerical)


def linear(first: SOp, second: SOp, a: int | Fraction, b: int | Fraction, *, name: str = "") -> SOp:
    """a * first + b * second, numerical."""
    return Linear(numerical(first), numerical(second), Fraction(a), Fraction(b), numerical=True, name=name)


def select(keys: SOp, queries: SOp, predicate: Predicate) -> Select:
    """The selector of the pairs for which predicate(key, query)."""
    return Select(categorical(keys), categorical(queries), predicate)


def aggregate(selector: Select, of: SOp, default: Value = None, *, name: str = "") -> SOp:
    """The selected value; a mean where `of` is numerical (its default is then 0)."""
    if of.numerical and default is None:
        default = 0
    return Aggregate(selector, of, default, numerical=of.numerical, name=name)


def selector_width(selector: Select, *, name: str = "") -> SOp:
    """How many positions are selected."""
    inverse = InverseWidth(selector, numerical=True, name=f"{name}_inverse" if name else "")
    return Map(lambda x: 1 / Fraction(x) - 1, inverse, name=name)


def _same(value: Value) -> Value:
    return value


def _binary(f: Callable[[Value, Value], Value], first: SOp, other: Value) -> SOp:
    if isinstance(other, SOp):
        return sequence_map(f, first, other)
    return Map(lambda a: f(a, other), first)


def _joint(one: Select, two: Select, how: Callable[[bool, bool], bool]) -> Select:
    """Both selectors in one: where their keys (or queries) differ, the keys become pairs."""
    keys, key = _pair(one.keys, two.keys)
    queries, query = _pair(one.queries, two.queries)
    return Select(
        keys,
        queries,
        lambda k, q: how(one.predicate(key(k)[0], query(q)[0]), two.predicate(key(k)[1], query(q)[1])),
    )


def _pair(one: SOp, two: SOp) -> tuple[SOp, Callable[[Value], tuple[Value, Value]]]:
    if one is two:
        return one, lambda v: (v, v)
    return SequenceMap(lambda a, b: (a, b), one, two), lambda v: v


def exact(value: Value) -> Value:
    """The value as the language keeps it: whole fractions as int. Raises InputError for a float."""
    if isinstance(value, float):
        raise InputError(f"{value!r} is a float; programs are exact, so give an int or a fractions.Fraction.")
    if isinstance(value, Fraction) and value.denominator == 1:
        return int(value)
    return value


def ordered(output: SOp) -> list[SOp]:
    """Every s-op that `output` depends on, parents first, each once; `output` last."""
    found: dict[SOp, None] = {}

    def visit(sop: SOp) -> None:
        if sop in found:
            return
        for parent in sop.parents:
            visit(parent)
        found[sop] = None

    visit(output)
    return list(found)


def names(output: SOp) -> dict[SOp, str]:
    """A unique name for every s-op: its own (hist, hist_2, …) or, without one, its kind and a number (map_1, …)."""
    found: dict[SOp, str] = {}
    used: set[str] = set()
    for sop in ordered(output):
        stem = sop.name or type(sop).__name__.lower()
        numbered = (f"{stem}_{n}" for n in count(2 if sop.name else 1))
        name = next(name for name in chain([sop.name] if sop.name else [], numbered) if name not in used)
        used.add(name)
        found[sop] = name
    return found
