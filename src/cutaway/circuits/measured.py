"""The strongest edges of a circuit ablated for real, one by one: the exact effect beside the approximate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from cutaway.circuits.exact import exact
from cutaway.circuits.wires import Wires
from cutaway.core import Estimate
from cutaway.core.table import columns
from cutaway.evidence import bootstrap

if TYPE_CHECKING:
    from cutaway.circuits.circuit import Circuit


@dataclass(frozen=True, repr=False)
class Measured:
    """`rows`: (source, destination, estimated, what ablating the edge alone costs), the largest estimate first."""

    rows: tuple[tuple[str, str, float, Estimate], ...]
    unit: str

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {"source": s, "destination": d, "estimated": score, "exact": found.model_dump(mode="json")}
            for s, d, score, found in self.rows
        ]

    def __str__(self) -> str:
        table = [("from", "to", "score", "ablated alone")]
        table += [(s, d, f"{score:+.3g}", str(found)) for s, d, score, found in self.rows]
        head = f"The {len(self.rows)} strongest edges, each ablated by itself ({self.unit} lost)"
        return "\n".join([head, *columns(table, right=(2,))])

    __repr__ = __str__


def measured_edges(wires: Wires, circuit: Circuit, task: Any, most: int = 24, seed: int = 0) -> Measured:
    """Costs `most` rows of a forward for each item of `task`."""
    top = circuit.edges[:most]
    graph = circuit.graph
    asked = graph.mask((source, destination) for source, destination, _ in top)
    found = exact(wires, graph, task, str(circuit.choices["ablation"]), edges=asked)
    unit = str(circuit.choices.get("unit") or circuit.choices.get("metric") or "")
    rows = []
    for source, destination, score in top:
        drops = found[:, graph.sources.index(source), graph.destinations.index(destination)]
        drops = drops[~torch.isnan(drops)]
        made = bootstrap(drops.numpy(), name="ablated alone", over="items", unit=f" {unit}".rstrip(), seed=seed)
        rows.append((source, destination, score, made))
    return Measured(tuple(rows), unit)
