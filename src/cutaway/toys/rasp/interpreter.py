"""The interpreter: what a program means, in exact arithmetic. The compiled model is held to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from cutaway.core import CutawayError
from cutaway.toys.rasp.language import (
    Aggregate,
    Indices,
    InverseWidth,
    Linear,
    Map,
    Select,
    SequenceMap,
    SOp,
    Tokens,
    Value,
    exact,
    ordered,
)

Values = list[Value]
Trace = dict[SOp, Values]


class Ambiguous(CutawayError):
    """A categorical aggregate selected positions with different values: the program has no meaning there."""


def interpret(
    output: SOp,
    given: Sequence[Value],
    *,
    causal: bool = False,
    set_to: Mapping[SOp, Sequence[Value]] | None = None,
) -> Trace:
    """Every variable's values on the input `given` (without BOS), `output` last.

    causal: a query selects no later position. set_to: variables whose values are given instead of computed: an
    intervention. Raises Ambiguous.
    """
    trace: Trace = {}
    for sop in ordered(output):
        if set_to is not None and sop in set_to:
            trace[sop] = list(set_to[sop])
        else:
            trace[sop] = _values(sop, given, trace, causal)
    return trace


def selected(selector: Select, trace: Trace, causal: bool) -> list[list[int]]:
    """For each query position, the key positions that it selects."""
    keys, queries = trace[selector.keys], trace[selector.queries]
    return [
        [
            j
            for j, key in enumerate(keys)
            if key is not None and query is not None and (j <= i or not causal) and selector.predicate(key, query)
        ]
        for i, query in enumerate(queries)
    ]


def _values(sop: SOp, given: Sequence[Value], trace: Trace, causal: bool) -> Values:
    match sop:
        case Tokens():
            return list(given)
        case Indices():
            return list(range(len(given)))
        case Map():
            return [applied(sop, (value,)) for value in trace[sop.of]]
        case SequenceMap():
            return [applied(sop, pair) for pair in zip(trace[sop.first], trace[sop.second], strict=True)]
        case Linear():
            pairs = zip(trace[sop.first], trace[sop.second], strict=True)
            return [exact(sop.a * x + sop.b * y) for x, y in pairs]
        case InverseWidth():
            return [exact(Fraction(1, 1 + len(at))) for at in selected(sop.selector, trace, causal)]
        case Aggregate():
            return [_aggregate(sop, [trace[sop.of][j] for j in at]) for at in selected(sop.selector, trace, causal)]
    raise TypeError(f"{type(sop).__name__} is no operation of the language")


def applied(sop: Map | SequenceMap, arguments: tuple[Value, ...]) -> Value:
    """f of the arguments; None where one is None (0 for a numerical s-op)."""
    value = None if None in arguments else exact(sop.f(*arguments))
    return 0 if value is None and sop.numerical else value


def _aggregate(sop: Aggregate, found: Values) -> Value:
    if not found:
        return sop.default
    if sop.numerical:
        return exact(Fraction(sum(found)) / len(found))
    if any(value != found[0] for value in found):
        raise Ambiguous(f"{sop.name or 'an aggregate'} selects different values at once: {found}.")
    return found[0]
