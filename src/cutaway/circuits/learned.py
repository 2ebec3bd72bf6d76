"""Whether what a circuit does was learned: the same method, size and items on the re-randomised model."""

from __future__ import annotations

from typing import Any

import torch

from cutaway.circuits.circuit import Circuit
from cutaway.circuits.masked import opened
from cutaway.circuits.methods import METHODS, score_edges
from cutaway.circuits.nodewise import measure_any
from cutaway.circuits.units import emptied, units
from cutaway.circuits.wires import Wires
from cutaway.core import Comparison, Evidence, InputError, NotDone
from cutaway.evidence import bootstrap, rerandomise


def learned(wires: Wires, circuit: Circuit, task: Any, found_on: Any, *, seed: int = 0) -> Evidence:
    """What a circuit recovers on `task`, beside what the same method finds in the re-randomised model on `found_on`, at
    the same size. Costs the method once more, and four masked forwards of `task`."""
    graph, c = circuit.graph, circuit.choices
    ablation = str(c["ablation"])
    unit = f" {c['unit']}" if c.get("unit") else ""
    own, e = measure_any(wires, graph, task, torch.stack([circuit.members, emptied(circuit)]), ablation)
    nulls: tuple[Comparison, ...] = ()
    missing = NotDone(what="the same method on the re-randomised model", why=f"{c.get('method')} is no edge method")
    method = str(c.get("method"))
    if method in METHODS:
        try:
            null = opened(rerandomise(wires.model, seed=seed), graph.neurons)
            where = None if not graph.spans else [s for s in graph.spans if s in found_on.positions] or "each"
            other = score_edges(null, found_on, method, ablation=ablation, split=graph.split, steps=c.get("steps") or 5,
                                points=c.get("points") or "right", seed=seed, positions=where)  # fmt: skip
            other = other.top(len(units(circuit).inside), c.get("by", "absolute"))
            there = measure_any(null, other.graph, task, torch.stack([other.members, emptied(other)]), ablation)
            name = "the same method on the re-randomised model"
            found = bootstrap((there[0] - there[1]).tolist(), name=name, over="items", unit=unit, seed=seed)
            nulls = (Comparison(estimate=found),)
        except InputError as error:
            missing = NotDone(what=missing.what, why=str(error))
    return Evidence(
        claim="What the circuit recovers was learned",
        effect=bootstrap(
            (own - e).tolist(), name="metric recovered, m(C) - m(empty)", over="items", unit=unit, seed=seed
        ),
        nulls=nulls,
        seeds=(seed,),
        how="The same method, size and items on the re-randomised model (embeddings kept), by its own metric.",
        settings={"ablation": ablation, "method": method},
        not_done=() if nulls else (missing,),
    )
