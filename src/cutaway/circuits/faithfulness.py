"""How much of a task a circuit does by itself: faithfulness, its curve over sizes, and random circuits beside it.

    f  =  (m(C) - m(empty)) / (m(N) - m(empty))

C: the circuit's edges in, the others ablated. Empty: all ablated, but for what the circuit says is always in. N: the
model. 1 is the model's own metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.circuits.circuit import By, Circuit, Level, top_members
from cutaway.circuits.graph import Graph
from cutaway.circuits.masked import opened_for
from cutaway.circuits.nodewise import measure_any
from cutaway.circuits.senders import Ablation
from cutaway.circuits.units import always_in, emptied
from cutaway.circuits.wires import Wires
from cutaway.core import Estimate, InputError
from cutaway.core.table import columns
from cutaway.evidence import bootstrap
from cutaway.model import Model

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of all edges: the sizes of a curve (Mueller et al. 2025, MIB)."""
PLAIN: tuple[Ablation, ...] = ("resample", "mean", "zero")
"""Ablations that cost little; the constants of `optimal` have to be trained."""
SMALL = 0.05  # of the largest |m(N) - m(empty)|: an item below it has no faithfulness of its own


@dataclass(frozen=True, eq=False, repr=False)
class Faithfulness:
    """m(C), m(empty) and m(N) of each item [n], under one ablation. `estimate`: the ratio of means, with its interval
    over items."""

    ablation: str
    circuit: Tensor
    empty: Tensor
    model: Tensor
    estimate: Estimate

    @property
    def per_item(self) -> Tensor:
        """[n] f of each item; NaN where ablating everything hardly changes the metric."""
        gap = self.model - self.empty
        settled = gap.abs() > SMALL * gap.abs().max().clamp(min=1e-12)
        return torch.where(settled, (self.circuit - self.empty) / torch.where(settled, gap, 1.0), torch.nan)

    def to_json(self) -> dict[str, Any]:
        return {
            "ablation": self.ablation,
            "faithfulness": self.estimate.model_dump(mode="json"),
            "circuit": self.circuit.tolist(),
            "empty": self.empty.tolist(),
            "model": self.model.tolist(),
        }

    def __str__(self) -> str:
        f = self.per_item
        f = f[f.isfinite()]
        low, middle, high = (
            torch.quantile(f, torch.tensor([0.1, 0.5, 0.9], dtype=f.dtype)).tolist() if len(f) else [0] * 3
        )
        return (
            f"{self.ablation}: faithfulness {self.estimate}; items 10% {low:.2f}, median {middle:.2f}, 90% {high:.2f}; "
            f"metric {float(self.circuit.mean()):.3g} of the model's {float(self.model.mean()):.3g}, "
            f"all ablated {float(self.empty.mean()):.3g}"
        )

    __repr__ = __str__


def ratio(c: NDArray[np.float64], e: NDArray[np.float64], m: NDArray[np.float64]) -> NDArray[np.float64]:
    """(mean m(C) - mean m(empty)) / (mean m(N) - mean m(empty)) of [rows, n]; NaN where the denominator is 0."""
    gap = m.mean(-1) - e.mean(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(gap == 0, np.nan, (c.mean(-1) - e.mean(-1)) / gap), dtype=np.float64)


class Ablations(tuple[Faithfulness, ...]):
    """Faithfulness under each ablation, its own first."""

    def __new__(cls, items: tuple[Faithfulness, ...]) -> Ablations:
        return super().__new__(cls, items)

    def to_json(self) -> list[dict[str, Any]]:
        return [item.to_json() for item in self]

    def __str__(self) -> str:
        n = len(self[0].circuit)
        return "\n".join([f"By itself, on {n} items held out", *(f"  {item}" for item in self)])

    __repr__ = __str__


def faithfulness(
    model: Model | Wires, circuit: Circuit, task: Any, ablation: str | None = None, *, seed: int = 0
) -> Faithfulness:
    """A circuit's faithfulness on a task, under its own ablation or another ("resample", "mean", "zero").

    Costs three masked forwards. Raises InputError for an empty circuit, and where ablating all leaves the metric as it
    is.
    """
    if circuit.size == 0:
        raise InputError("the circuit is empty: choose edges first, as circuit.top(100).")
    ablation = str(circuit.choices["ablation"]) if ablation is None else ablation
    wires = opened_for(model, circuit.graph)
    masks = torch.stack([circuit.members, emptied(circuit), circuit.graph.exists])
    c, e, m = measure_any(wires, circuit.graph, task, masks, ablation)
    return of_values(ablation, c, e, m, seed)


def of_values(ablation: str, c: Tensor, e: Tensor, m: Tensor, seed: int) -> Faithfulness:
    if float((m - e).abs().max()) <= 1e-9 * max(1.0, float(m.abs().max())):
        raise InputError(
            f"with every edge ablated ({ablation}) the metric is what it was: there is nothing to explain."
        )
    estimate = bootstrap(
        c.tolist(), e.tolist(), m.tolist(), statistic=ratio, name=f"faithfulness, {ablation} ablation", over="items",
        seed=seed,
    )  # fmt: skip
    return Faithfulness(ablation, c, e, m, estimate)


@dataclass(frozen=True, eq=False, repr=False)
class Curve:
    """Faithfulness of the top edges, or of a circuit of nodes its top nodes, at several sizes. `absolute`, `signed`
    [size]: chosen by |score|, by score.

    CPR: the area under f by signed score, more is better; CMD: the area of |1 - f| by absolute score, less is better
    (Mueller et al. 2025). `linear` over the share of edges, as published: circuits of under 1 % of the edges carry
    0.9 % of that area; `log` over its logarithm, each decade alike.
    """

    ablation: str
    n: int
    sizes: tuple[int, ...]
    shares: tuple[float, ...]
    absolute: tuple[float, ...]
    signed: tuple[float, ...]
    level: Level = "edge"

    def area(self, what: Literal["cpr", "cmd"], x: Literal["linear", "log"] = "linear") -> float:
        y = np.array(self.signed) if what == "cpr" else np.abs(1 - np.array(self.absolute))
        along = np.array(self.shares) if x == "linear" else np.log10(self.shares)
        return float(((y[1:] + y[:-1]) / 2 * np.diff(along)).sum() / (along[-1] - along[0]))

    def to_json(self) -> dict[str, Any]:
        areas = {f"{what}_{x}": self.area(what, x) for what in ("cpr", "cmd") for x in ("linear", "log")}
        return {
            "ablation": self.ablation,
            "n": self.n,
            "level": self.level,
            "sizes": list(self.sizes),
            "shares": list(self.shares),
            "absolute": list(self.absolute),
            "signed": list(self.signed),
            **areas,
        }

    def __str__(self) -> str:
        head = (f"{self.level}s", *(str(s) for s in self.sizes))
        rows = [
            head,
            ("share", *(f"{s:.1%}" for s in self.shares)),
            ("f, by |score|", *(f"{y:.2f}" for y in self.absolute)),
        ]
        rows.append(("f, by score", *(f"{y:.2f}" for y in self.signed)))
        areas = f"CPR {self.area('cpr'):.3g} linear, {self.area('cpr', 'log'):.3g} log (more is better); "
        areas += f"CMD {self.area('cmd'):.3g} linear, {self.area('cmd', 'log'):.3g} log (less is better)"
        title = f"Faithfulness over sizes, {self.ablation} ablation, n={self.n}"
        return "\n".join([title, *columns(rows, right=range(1, len(head))), f"  {areas}"])

    __repr__ = __str__


def curve(
    model: Model | Wires, circuit: Circuit, task: Any, ablation: str | None = None, shares: Sequence[float] = SHARES
) -> Curve:
    """Two masked forwards a size. Sizes that come to no edge are left out."""
    ablation = str(circuit.choices["ablation"]) if ablation is None else ablation
    wires = opened_for(model, circuit.graph)
    graph = circuit.graph
    sizes = tuple(dict.fromkeys(size for share in shares if (size := round(share * circuit.whole))))
    kinds: tuple[By, ...] = ("absolute", "signed")
    masks = [top_members(graph, circuit.scores, size, by, circuit.level) for by in kinds for size in sizes]
    values = measure_any(
        wires, graph, task, torch.stack([*masks, torch.zeros_like(graph.exists), graph.exists]), ablation
    )
    f = ratio(values[:-2].numpy(), values[-2:-1].numpy(), values[-1:].numpy())
    found = [float(x) for x in f]
    return Curve(
        ablation,
        len(task),
        sizes,
        tuple(s / circuit.whole for s in sizes),
        tuple(found[: len(sizes)]),
        tuple(found[len(sizes) :]),
        circuit.level,
    )


Draw = Literal["paths", "edges"]


def random_circuits(graph: Graph, like: Circuit, n: int = 100, seed: int = 0, draw: Draw = "paths") -> Tensor:
    """[n, source, destination]: random circuits of as many edges (of a node circuit: nodes).

    "paths": random paths from the logits back to the input, each step even among all that could come there, until the
    size is reached (a path that would exceed it is left unfinished): circuits that can carry something.
    "edges": even among all edges. Nodes are drawn evenly in either case, among those that are not always in.
    """
    generator = torch.Generator().manual_seed(seed)
    if like.level == "node":
        return _nodes(graph, like, n, generator)
    if draw == "paths":
        return torch.stack([_paths(graph, like.size, generator) for _ in range(n)])
    noise = [torch.rand(graph.exists.shape, generator=generator) for _ in range(n)]
    return torch.stack([top_members(graph, one, max(like.size, 1), "signed") for one in noise])


def _nodes(graph: Graph, like: Circuit, n: int, generator: torch.Generator) -> Tensor:
    fixed = torch.isin(graph.source_of, torch.tensor(always_in(like)))
    free = (~fixed).nonzero()[:, 0]
    size = int((graph.by_node(like.members) & ~fixed).sum())
    kept = fixed.repeat(n, 1)
    for row in kept:
        row[free[torch.randperm(len(free), generator=generator)[:size]]] = True
    return graph.of_nodes(kept)


def _paths(graph: Graph, size: int, generator: torch.Generator) -> Tensor:
    members = torch.zeros_like(graph.exists)
    into = [graph.exists[:, d].nonzero()[:, 0].tolist() for d in range(len(graph.destinations))]
    ports = graph.feeds
    count, destination = 0, len(graph.destinations) - 1
    while count < size:
        source = _one_of(into[destination], generator)
        count += not bool(members[source, destination])
        members[source, destination] = True
        destination = _one_of(ports[source], generator) if source else len(graph.destinations) - 1
    return members


def _one_of(items: Sequence[int], generator: torch.Generator) -> int:
    return items[int(torch.randint(len(items), (1,), generator=generator))]
