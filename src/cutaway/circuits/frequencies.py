"""How often each edge (or node) is chosen when the items are drawn again: which members a circuit is sure of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.circuits.circuit import By, Circuit, top_members
from cutaway.circuits.judge import stability
from cutaway.circuits.units import units
from cutaway.core import Evidence, InputError
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import wilson


@dataclass(frozen=True, eq=False, repr=False)
class Frequencies(Drawn):
    """`share` [source, destination]: of the resamples, those that choose the edge. `members`: the circuit's own."""

    names: tuple[str, ...]  # units that were chosen at all, the most frequent first
    shares: tuple[float, ...]
    inside: tuple[bool, ...]
    share: Tensor
    resamples: int
    n: int
    evidence: tuple[Evidence, ...]

    @property
    def sure(self) -> int:
        """Members chosen in 95 % of the resamples or more."""
        return sum(s >= 0.95 for s, is_in in zip(self.shares, self.inside) if is_in)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.frequencies/1",
            "resamples": self.resamples,
            "n": self.n,
            "units": [
                {"unit": name, "share": share, "in_circuit": is_in}
                for name, share, is_in in zip(self.names, self.shares, self.inside)
            ],
        }

    def __str__(self) -> str:
        inside, near = sum(self.inside), [i for i, is_in in enumerate(self.inside) if not is_in][:3]
        doubtful = [i for i, is_in in enumerate(self.inside) if is_in and self.shares[i] < 0.95][-5:]
        rows = [("", "chosen in", "95 %")]
        for i in (*doubtful, *near):
            span = wilson(round(self.shares[i] * self.resamples), self.resamples)
            rows.append((self.names[i] + ("" if self.inside[i] else " (left out)"), f"{self.shares[i]:.0%}", str(span)))
        title = (
            f"{self.sure} of {inside} members are chosen in 95% or more of {self.resamples} resamples of {self.n} items"
        )
        return "\n".join([title, *(columns(rows, right=(1,)) if len(rows) > 1 else [])])

    __repr__ = __str__


def frequencies(circuit: Circuit, *, by: By = "absolute", resamples: int = 200, seed: int = 0) -> Frequencies:
    """The share of resamples of the items in which each unit is among the circuit's number of best ones, and the
    Jaccard of pairs of such sets (`stability`) as evidence.

    Costs no forward. Raises InputError for a circuit without the scores of single items (one read from a file).
    """
    if circuit.per_item is None:
        raise InputError("the circuit holds no scores of single items (one read from a file does not).")
    parts = units(circuit)
    scores = torch.where(circuit.graph.exists, circuit.per_item.double(), 0.0)
    n, size = len(scores), len(parts.inside)
    generator = torch.Generator().manual_seed(seed)
    count = torch.zeros_like(circuit.scores, dtype=torch.float64)
    for _ in range(resamples):
        drawn = torch.bincount(torch.randint(n, (n,), generator=generator), minlength=n).double() / n
        count += top_members(circuit.graph, torch.tensordot(drawn, scores, dims=1), size, by, circuit.level)
    share = count / resamples
    each = circuit.graph.by_node(share) if parts.level == "node" else share.flatten()
    chosen = [u for u in (*parts.inside, *parts.outside) if float(each[u]) > 0 or u in parts.inside]
    chosen.sort(key=lambda u: -float(each[u]))
    inside = set(parts.inside)
    return Frequencies(
        tuple(parts.name(u) for u in chosen), tuple(float(each[u]) for u in chosen),
        tuple(u in inside for u in chosen), share, resamples, n,
        (stability(circuit, by=by, resamples=resamples, seed=seed),),
    )  # fmt: skip
