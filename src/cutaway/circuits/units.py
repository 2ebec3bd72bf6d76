"""What a circuit is made of, one at a time: its edges, or its nodes.

A node is out when all its edges are (with spans: at the positions of one span). Sources named in the circuit's
`choices["always_in"]` are no part of the question: they stay when everything else is ablated (for heads alone, as in
Wang et al. 2022: the input and every MLP).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.circuits.circuit import Circuit, Level
from cutaway.circuits.graph import Graph
from cutaway.core import InputError


@dataclass(frozen=True, eq=False)
class Units:
    """`inside`, `outside`: numbers of the units in the circuit and of those left out; a unit is a node of the graph, or
    an edge by its flat index in [source, destination]. `base` [source, destination]: the edges that are always in."""

    graph: Graph
    level: Level
    members: Tensor
    base: Tensor
    inside: tuple[int, ...]
    outside: tuple[int, ...]

    def name(self, unit: int) -> str:
        if self.level == "node":
            return self.graph.nodes[unit]
        width = len(self.graph.destinations)
        return f"{self.graph.sources[unit // width]}->{self.graph.destinations[unit % width]}"

    def without(self, mask: Tensor, some: Iterable[int]) -> Tensor:
        """The mask [source, destination] with these units out."""
        return self._set(mask, some, False)

    def added(self, mask: Tensor, some: Iterable[int]) -> Tensor:
        """The mask with these units in."""
        return self._set(mask, some, True)

    @property
    def complement(self) -> Tensor:
        """The model without the circuit's units."""
        return self.without(self.graph.exists, self.inside)

    def _set(self, mask: Tensor, some: Iterable[int], value: bool) -> Tensor:
        new = mask.clone()
        for unit in some:
            if self.level == "node":
                new[self.graph.node_of == unit] = value
            else:
                new.view(-1)[unit] = value
        return new & self.graph.exists


def units(circuit: Circuit, level: Level | None = None) -> Units:
    """The units of a circuit; `level` "node" of an edge circuit: the nodes that its edges leave, with those edges.

    Raises InputError for a circuit without units, and for edges asked of a node circuit.
    """
    graph, level = circuit.graph, circuit.level if level is None else level
    base = emptied(circuit)
    if level == "edge":
        if circuit.level == "node":
            raise InputError("a circuit of nodes has no edges of its own to take out; ask for level='node'.")
        kept = circuit.members & graph.exists
        inside = kept.flatten().nonzero()[:, 0].tolist()
        outside = (graph.exists & ~kept).flatten().nonzero()[:, 0].tolist()
    else:
        free = ~torch.isin(graph.source_of, torch.tensor(always_in(circuit) if circuit.level == "node" else (0,)))
        there = graph.by_node(circuit.members & graph.exists)
        inside = (free & there).nonzero()[:, 0].tolist()
        outside = (free & ~there).nonzero()[:, 0].tolist()
    if not inside:
        raise InputError("the circuit is empty: there is nothing to take out of it.")
    return Units(graph, level, circuit.members, base, tuple(inside), tuple(outside))


def always_in(circuit: Circuit) -> tuple[int, ...]:
    """The sources of a node circuit that are no part of the question: the input, and those that it names."""
    named = [circuit.graph.source(name) for name in circuit.choices.get("always_in", ())]
    return tuple(sorted({0, *named})) if circuit.level == "node" else tuple(named)


def emptied(circuit: Circuit) -> Tensor:
    """[source, destination] what is left where the circuit is empty: the edges of `always_in`, else nothing."""
    mask = torch.zeros_like(circuit.graph.exists)
    for name in circuit.choices.get("always_in", ()):
        mask[circuit.graph.source(name)] = True
    return mask & circuit.graph.exists


def heads_circuit(
    graph: Graph, heads: Iterable[str], choices: dict[str, object], scores: Tensor | None = None
) -> Circuit:
    """A circuit of these heads with the input and every MLP always in, as Wang et al. (2022) measure theirs.

    Raises UnknownName for a head that the model has not.
    """
    fixed = [name for name in graph.sources if not name.startswith("a")]
    members = torch.zeros_like(graph.exists)
    for name in (*fixed, *heads):
        members[graph.source(name)] = True
    zeros = torch.zeros(graph.exists.shape, dtype=torch.float64)
    chosen = {**choices, "always_in": fixed}
    return Circuit(graph, zeros if scores is None else scores, members & graph.exists, chosen, "node")
