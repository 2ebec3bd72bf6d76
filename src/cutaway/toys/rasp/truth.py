"""The truth about a compiled program: where each variable lives, what computes and reads it, and the true edges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from cutaway.core import UnknownName
from cutaway.toys.rasp.compiler import Compiled
from cutaway.toys.rasp.craft import Array
from cutaway.toys.rasp.edges import Edges
from cutaway.toys.rasp.language import Value
from cutaway.toys.rasp.plan import Component
from cutaway.toys.rasp.program import Program
from cutaway.toys.rasp.resample import true_edges
from cutaway.toys.rasp.vocabulary import Vocabulary, spelled
from cutaway.toys.rasp.wiring import Wiring, wiring

# Of a variable's subspace at a point of the residual stream:
#   absent   not yet written: always zero
#   whole    all that read it read it later: exchanging it is exchanging the variable
#   part     some that read it have read it already
#   spent    all have: exchanging it changes nothing
Live = Literal["absent", "whole", "part", "spent"]


@dataclass(frozen=True, eq=False)
class Variable:
    """One variable of a program in the compiled model.

    `basis` [size, d_model]: its orthonormal directions, one for each of `values` (categorical) or one whose coordinate
    is the value (numerical); unless the model is rotated they are the unit vectors `coordinates` (first, last).
    `component` computes it and writes it at the point `written`; `readers` are destinations of edges (as in `Edges`).
    `live`: point -> absent, whole, part or spent; interchange accuracy is 1 at the points where it is whole, and
    nothing changes where it is absent or spent.
    """

    name: str
    kind: Literal["categorical", "numerical"]
    values: tuple[Value, ...]
    may_be_none: bool
    parents: tuple[str, ...]
    component: str
    written: str
    readers: tuple[str, ...]
    coordinates: tuple[int, int]
    basis: Tensor
    live: dict[str, Live]

    def points(self, state: Live = "whole") -> tuple[str, ...]:
        """The points at which its subspace is in a state, in forward order."""
        return tuple(point for point, held in self.live.items() if held == state)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "values": [spelled(value) for value in self.values],
            "may_be_none": self.may_be_none,
            "parents": list(self.parents),
            "component": self.component,
            "written": self.written,
            "readers": list(self.readers),
            "size": len(self.basis),
            "coordinates": list(self.coordinates),
            "live": dict(self.live),
        }


@dataclass(frozen=True, eq=False)
class Truth:
    """All that is known of a compiled program. `variables` in the order of the program, its output last; `edges` is
    worked out when it is first asked for (resampling: up to two seconds)."""

    program: str
    output: str
    variables: dict[str, Variable]
    find_edges: Callable[[], Edges]

    @cached_property
    def edges(self) -> Edges:
        return self.find_edges()

    @property
    def structural(self) -> frozenset[tuple[str, str]]:
        return self.edges.pairs("structural")

    @property
    def causal(self) -> frozenset[tuple[str, str]]:
        return self.edges.pairs("causal")

    def __getitem__(self, name: str) -> Variable:
        if name not in self.variables:
            raise UnknownName("variable", name, self.variables)
        return self.variables[name]

    def __str__(self) -> str:
        wide = max(len(name) for name in self.variables)
        lines = [f"{'variable':{wide}}  {'kind':11}  coordinates  {'computed by':11}  {'whole at':24}  read by"]
        for v in self.variables.values():
            points, (first, last) = v.points(), v.coordinates
            span = points[0] if len(points) == 1 else f"{points[0]} … {points[-1]}" if points else "nowhere"
            at = f"{first}" if first == last else f"{first}–{last}"
            lines.append(f"{v.name:{wide}}  {v.kind:11}  {at:11}  {v.component:11}  {span:24}  {', '.join(v.readers)}")
        return "\n".join(lines)

    __repr__ = __str__

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.rasp-truth/1",
            "program": self.program,
            "output": self.output,
            "variables": [variable.to_json() for variable in self.variables.values()],
            "edges": self.edges.to_json(),
        }


def truth_of(
    program: Program, compiled: Compiled, vocabulary: Vocabulary, basis: Callable[[str], Array], dtype: torch.dtype
) -> Truth:
    """The truth about a compiled program; `basis` gives a variable's directions in the model."""
    wires = wiring(compiled, vocabulary)
    variables: dict[str, Variable] = {}
    for sop, name in compiled.names.items():
        component, readers = compiled.plan.at[sop], _readers(wires, compiled, name)
        variables[name] = Variable(
            name=name,
            kind="numerical" if sop.numerical else "categorical",
            values=compiled.values[sop].values,
            may_be_none=compiled.values[sop].none,
            parents=tuple(dict.fromkeys(compiled.names[parent] for parent in sop.parents)),
            component=component.name,
            written=_written(component),
            readers=readers,
            coordinates=_ends(compiled.residual.subspaces[name].columns),
            basis=torch.tensor(basis(name), dtype=dtype),
            live=_live(wires, component, readers, compiled.plan.n_layers),
        )
    return Truth(
        program.name, compiled.names[compiled.output], variables, lambda: true_edges(wires, program, vocabulary)
    )


def _ends(columns: slice) -> tuple[int, int]:
    return columns.start, columns.stop - 1


def _readers(wires: Wiring, compiled: Compiled, name: str) -> tuple[str, ...]:
    columns = compiled.residual.subspaces[name].columns
    return tuple(d for d in wires.destinations if bool((wires.reads(d)[:, columns] != 0).any()))


def _written(component: Component) -> str:
    """The point at which a component's output is read: its message, or what enters the first block."""
    if component.kind == "head":
        return f"attn_out.{component.layer}"
    return f"mlp_out.{component.layer}" if component.kind == "mlp" else "resid_pre.0"


def _live(wires: Wiring, component: Component, readers: tuple[str, ...], n_layers: int) -> dict[str, Live]:
    """State at every point of the residual stream: before attention (time 2l), before the MLP, after the block."""
    live: dict[str, Live] = {}
    for layer in range(n_layers):
        for point, now in (("resid_pre", 2 * layer), ("resid_mid", 2 * layer + 1), ("resid_post", 2 * layer + 2)):
            later = [wires.time(reader) >= now for reader in readers]
            state: Live = "whole" if all(later) else "part" if any(later) else "spent"
            live[f"{point}.{layer}"] = "absent" if component.time >= now else state
    return live
