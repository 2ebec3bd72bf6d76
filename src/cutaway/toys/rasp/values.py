"""Basis inference: the values that each variable can take, exactly.

Each set is closed under the operation that makes it: all results over all combinations of the parents' values, every
mean of every multiset that a selector can pick. It holds every value that occurs (a test says so) and may hold some
that never do, since the parents' values are taken as if they were independent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from cutaway.core import InputError
from cutaway.toys.rasp.interpreter import applied
from cutaway.toys.rasp.language import (
    Aggregate,
    Indices,
    InverseWidth,
    Linear,
    Map,
    SequenceMap,
    SOp,
    Tokens,
    Value,
    exact,
    ordered,
)

LIMIT = 4096  # values of one variable


@dataclass(frozen=True)
class ValueSet:
    """What a variable can be: values in a fixed order (numbers ascending), and whether it can be None."""

    values: tuple[Value, ...]
    none: bool = False


def value_sets(output: SOp, vocabulary: Iterable[Value], length: int) -> dict[SOp, ValueSet]:
    """The value set of every variable, for inputs of at most `length` tokens.

    Raises InputError: a numerical variable with values that are no numbers, or more than 4,096 values.
    """
    sets: dict[SOp, ValueSet] = {}
    for sop in ordered(output):
        found = _possible(sop, sets, list(vocabulary), length)
        values = list(dict.fromkeys(exact(value) for value in found if value is not None))
        if len(values) > LIMIT:
            raise InputError(f"{sop.name or type(sop).__name__} could take {len(values)} values, over {LIMIT}.")
        if sop.numerical and not all(isinstance(value, int | Fraction) for value in values):
            raise InputError(f"{sop.name or type(sop).__name__} is numerical, yet can be {values[:4]}.")
        none = any(value is None for value in found)
        sets[sop] = ValueSet(tuple(_in_order(values)), none and not sop.numerical)
    return sets


def _possible(sop: SOp, sets: dict[SOp, ValueSet], vocabulary: list[Value], length: int) -> list[Value]:
    match sop:
        case Tokens():
            return vocabulary
        case Indices():
            return list(range(length))
        case Map():
            return _images(sop, [(value,) for value in _with_none(sets[sop.of])])
        case SequenceMap():
            return _images(sop, list(product(_with_none(sets[sop.first]), _with_none(sets[sop.second]))))
        case Linear():
            first, second = sets[sop.first].values, sets[sop.second].values
            return list({exact(sop.a * x + sop.b * y) for x, y in product(first, second)})
        case InverseWidth():
            return [Fraction(1, 1 + width) for width in range(_widest(sop, sets, length) + 1)]
        case Aggregate():
            selects = bool(_widest(sop, sets, length))
            values = _with_none(sets[sop.of]) if selects else []
            if sop.numerical and selects:
                values = _means(values, length)
            return [*values, sop.default]
    raise TypeError(f"{type(sop).__name__} is no operation of the language")


def _widest(sop: Aggregate | InverseWidth, sets: dict[SOp, ValueSet], length: int) -> int:
    """How many positions can be selected at once: all, or none where the predicate never holds."""
    keys, queries = sets[sop.selector.keys].values, sets[sop.selector.queries].values
    return length if any(holds(sop.selector.predicate, key, query) for key in keys for query in queries) else 0


def holds(predicate: object, key: Value, query: Value) -> bool:
    """The predicate, false where it cannot be computed (a pair of values that never meet)."""
    try:
        return bool(predicate(key, query))  # type: ignore[operator]
    except (ArithmeticError, TypeError, LookupError):
        return False


def _images(sop: Map | SequenceMap, arguments: list[tuple[Value, ...]]) -> list[Value]:
    """f of all arguments. Those on which f cannot be computed (1 / 0) do not occur, or the interpreter raises too."""
    images: list[Value] = []
    for given in arguments:
        try:
            images.append(applied(sop, given))
        except (ArithmeticError, TypeError, LookupError):
            continue
    return images


def _means(values: list[Value], length: int) -> list[Value]:
    """Every mean of 1 … `length` values, repetition allowed: of 0 and 1, k/m for all k <= m <= length."""
    means: set[Value] = set()
    sums: set[Fraction] = {Fraction(0)}
    for count in range(1, length + 1):
        sums = {total + value for total in sums for value in values}
        if len(sums) > LIMIT:
            raise InputError(f"a mean of {count} of {len(values)} values could take more than {LIMIT} values.")
        means |= {exact(total / count) for total in sums}
    return list(means)


def _with_none(found: ValueSet) -> list[Value]:
    return [*found.values, None] if found.none else list(found.values)


def _in_order(values: list[Value]) -> list[Value]:
    if all(isinstance(value, int | Fraction) for value in values):
        return sorted(values)
    return sorted(values, key=lambda value: (type(value).__name__, str(value)))
