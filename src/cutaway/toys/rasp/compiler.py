"""From a program's variables to heads and neurons in a named residual stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cutaway.core import InputError
from cutaway.toys.rasp.craft import Residual
from cutaway.toys.rasp.heads import Head, aggregate_head, width_head
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
    names,
    ordered,
)
from cutaway.toys.rasp.neurons import Neurons, linear_neurons, map_neurons, sequence_map_neurons
from cutaway.toys.rasp.plan import Component, Plan, plan_of
from cutaway.toys.rasp.values import ValueSet, value_sets


@dataclass(frozen=True)
class Compiled:
    """A program in the craft: each variable's name, values and place, and what computes it."""

    output: SOp
    vocabulary: tuple[Value, ...]
    length: int  # tokens at most, BOS not counted
    causal: bool
    names: dict[SOp, str]
    values: dict[SOp, ValueSet]
    residual: Residual
    plan: Plan
    heads: dict[Component, Head]
    mlps: dict[Component, Neurons]


def compile_graph(
    output: SOp, vocabulary: Sequence[Value], length: int, *, causal: bool, coldness: float = 100.0
) -> Compiled:
    """Plan and build every head and MLP of a program. `coldness`: of the softmax, higher is sharper.

    Raises InputError: an empty or repeating vocabulary, no length, coldness that is not positive, value sets that are
    too large.
    """
    if not vocabulary or len(set(vocabulary)) != len(vocabulary):
        raise InputError(f"a vocabulary is some different values; given {list(vocabulary)}.")
    if length < 1:
        raise InputError(f"length is the most tokens of an input, at least 1; given {length}.")
    if not coldness > 0:
        raise InputError(f"coldness is positive; given {coldness}.")
    called, values = names(output), value_sets(output, vocabulary, length)
    variables = [(called[sop], values[sop].values, sop.numerical) for sop in ordered(output)]
    residual = Residual.of(variables, _at_bos(called))
    plan = plan_of(output)
    heads: dict[Component, Head] = {}
    parts: dict[Component, list[Neurons]] = {}
    for sop, component in plan.at.items():
        if isinstance(sop, Tokens | Indices):
            continue
        if isinstance(sop, Aggregate | InverseWidth):
            heads[component] = _head(sop, called, residual, coldness)
        else:
            parts.setdefault(component, []).append(_neurons(sop, called, residual))
    mlps = {component: _together(found) for component, found in parts.items()}
    return Compiled(output, tuple(vocabulary), length, causal, called, values, residual, plan, heads, mlps)


def _at_bos(called: dict[SOp, str]) -> dict[str, Value]:
    """What is not zero at BOS: there a head attends to BOS alone, so an aggregate writes its default and a width 1."""
    held: dict[str, Value] = {}
    for sop, name in called.items():
        if isinstance(sop, InverseWidth):
            held[name] = 1
        elif isinstance(sop, Aggregate) and sop.default is not None:
            held[name] = sop.default
    return held


def _head(sop: Aggregate | InverseWidth, called: dict[SOp, str], residual: Residual, coldness: float) -> Head:
    name, keys, queries = called[sop], called[sop.selector.keys], called[sop.selector.queries]
    if isinstance(sop, InverseWidth):
        return width_head(sop, name, keys, queries, residual, coldness)
    return aggregate_head(sop, name, called[sop.of], keys, queries, residual, coldness)


def _neurons(sop: SOp, called: dict[SOp, str], residual: Residual) -> Neurons:
    match sop:
        case Map():
            return map_neurons(sop, called[sop], called[sop.of], residual)
        case SequenceMap():
            return sequence_map_neurons(sop, called[sop], called[sop.first], called[sop.second], residual)
        case Linear():
            return linear_neurons(sop, called[sop], called[sop.first], called[sop.second], residual)
    raise TypeError(f"{type(sop).__name__} is no operation of the language")


def _together(parts: list[Neurons]) -> Neurons:
    return Neurons(
        np.concatenate([part.into for part in parts]),
        np.concatenate([part.bias for part in parts]),
        np.concatenate([part.out for part in parts], axis=1),
    )
