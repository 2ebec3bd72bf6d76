"""A circuit: a score for every edge, which of them are in, and the choices that it was made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cutaway.circuits.graph import Graph
from cutaway.circuits.show import render
from cutaway.core import Evidence, InputError, read_json, write_json
from cutaway.core.drawing import Drawn

SCHEMA = "cutaway.circuit/1"
By = Literal["absolute", "signed"]
Level = Literal["edge", "node"]


@dataclass(frozen=True, eq=False, repr=False)
class Circuit(Drawn):
    """Scores and members are [source, destination]; a score estimates what the metric loses when the edge is ablated.

    `level` "node": a node (a source; with spans, at one of them) has one score, the same for all its edges, and is in
    with all of them or none.
    `per_item` [item, source, destination]: the scores of each item, where the method has such; their mean is `scores`.
    `choices`: model, fingerprint, task, data, metric, ablation, split, method, positions, seed, …: six ways in which
    two circuits of one task can differ (Miller et al. 2024), and what is needed to make it again.
    """

    graph: Graph
    scores: Tensor
    members: Tensor
    choices: Mapping[str, Any]
    level: Level = "edge"
    per_item: Tensor | None = None
    evidence: tuple[Evidence, ...] = ()
    parts: Mapping[str, Any] = field(default_factory=dict)  # results of scoring by name, each with to_json

    # ---- what is in it

    @property
    def size(self) -> int:
        """Edges in it."""
        return int(self.members.sum())

    @property
    def count(self) -> int:
        """Edges in it; of a circuit of nodes the nodes beside the input."""
        return (
            self.size if self.level == "edge" else int(self.graph.by_node(self.members)[self.graph.source_of > 0].sum())
        )

    @property
    def whole(self) -> int:
        """How many there are of what `count` counts."""
        return self.graph.n_edges if self.level == "edge" else int((self.graph.source_of > 0).sum())

    @property
    def share(self) -> float:
        return self.size / self.graph.n_edges

    @property
    def edges(self) -> list[tuple[str, str, float]]:
        """(source, destination, score), the largest |score| first."""
        found = [(s, d, float(self.scores[s, d])) for s, d in self.members.nonzero().tolist()]
        found.sort(key=lambda edge: -abs(edge[2]))
        return [(self.graph.sources[s], self.graph.destinations[d], score) for s, d, score in found]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes with an edge in it that lies on a path from the input to the logits, in the order they run; with
        spans each at some of them: a1.h0@S2."""
        kept = self.graph.by_node(self.graph.on_paths(self.members))
        return tuple(name for name, inside in zip(self.graph.nodes, kept.tolist()) if inside)

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads among them, at whatever positions."""
        return tuple(dict.fromkeys(name.partition("@")[0] for name in self.nodes if name.startswith("a")))

    @property
    def node_scores(self) -> Tensor:
        """[node of the graph]: of a node's edges the sum, which for gradient scores is attribution patching of the
        node; of a circuit of nodes its score."""
        kept, index = self.scores[self.graph.exists], self.graph.node_of[self.graph.exists]
        found = kept.new_zeros(len(self.graph.nodes)).index_add_(0, index, kept)
        return found if self.level == "edge" else found / torch.bincount(index)

    # ---- choosing

    def top(self, n: int, by: By = "absolute") -> Circuit:
        """The n edges (of a node circuit: the n nodes beside the input) of the largest |score|, or score."""
        return replace(self, members=self._top(self.scores, n, by), evidence=(), parts={})

    def above(self, threshold: float, by: By = "absolute") -> Circuit:
        """The edges whose |score|, or score, is above a threshold. Raises InputError where there are none."""
        rank = self.scores.abs() if by == "absolute" else self.scores
        members = self.graph.exists & (rank > threshold)
        if not bool(members.any()):
            raise InputError(
                f"no edge has a score above {threshold:g}; the largest is {float(self._rank(by).max()):.3g}."
            )
        return replace(self, members=members, evidence=(), parts={})

    def only(self, members: Tensor) -> Circuit:
        """With these edges [source, destination] in place of its own."""
        if members.shape != self.members.shape:
            raise InputError(f"members are {list(self.members.shape)}; given {list(members.shape)}.")
        return replace(self, members=members.bool() & self.graph.exists, evidence=(), parts={})

    def pruned(self) -> Circuit:
        """Without the edges that lie on no path from the input to the logits."""
        return self.only(self.graph.on_paths(self.members))

    def order(self, by: By = "absolute") -> Tensor:
        """[n_edges] the flat index of every edge, the best first; ties by position."""
        rank = self._rank(by).flatten()
        return rank.argsort(descending=True, stable=True)[: self.graph.n_edges]

    def _rank(self, by: By) -> Tensor:
        return ranked(self.graph, self.scores, by)

    def _top(self, scores: Tensor, n: int, by: By) -> Tensor:
        if not 0 < n <= self.whole:
            raise InputError(f"a circuit of this graph has 1 … {self.whole} {self.level}s; {n} were asked for.")
        return top_members(self.graph, scores, n, by, self.level)

    # ---- on disk and shown

    def to_json(self) -> dict[str, Any]:
        """Everything but the scores of single items."""
        exists = self.graph.exists
        return {
            "schema": SCHEMA,
            "choices": dict(self.choices),
            "level": self.level,
            "split": self.graph.split,
            "size": self.size,
            "count": self.count,
            "whole": self.whole,
            "share": self.share,
            "heads": list(self.heads),
            "sources": list(self.graph.sources),
            "destinations": list(self.graph.destinations),
            "ports": list(self.graph.ports),
            "writes": self.graph.writes.tolist(),
            "reads": self.graph.reads.tolist(),
            "of_port": self.graph.of_port.tolist(),
            "spans": list(self.graph.spans),
            "edges": [{"source": s, "destination": d, "score": score} for s, d, score in self.edges],
            "scores": [
                [float(f"{x:.7g}") if there else None for x, there in zip(row, real)]
                for row, real in zip(self.scores.tolist(), exists.tolist())
            ],
            **{name: part.to_json() for name, part in self.parts.items()},
            "evidence": [item.to_json() for item in self.evidence],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Circuit:
        """What `to_json` wrote, without the scores of items and the results of scoring. Raises InputError."""
        if value.get("schema") != SCHEMA:
            raise InputError(f"no circuit: its schema is {value.get('schema')!r}, not {SCHEMA!r}.")
        graph = Graph(
            tuple(value["sources"]), tuple(value["ports"]), tuple(value["destinations"]),
            torch.tensor(value["writes"]), torch.tensor(value["reads"]), torch.tensor(value["of_port"]), value["split"],
            tuple(value.get("spans", ())),
        )  # fmt: skip
        scores = torch.tensor([[0.0 if x is None else x for x in row] for row in value["scores"]], dtype=torch.float64)
        members = graph.mask((edge["source"], edge["destination"]) for edge in value["edges"])
        evidence = tuple(Evidence.from_json(item) for item in value.get("evidence", ()))
        return cls(graph, scores, members, value["choices"], value["level"], evidence=evidence)

    def save(self, path: str | Path) -> None:
        write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Circuit:
        return cls.from_json(read_json(Path(path)))

    def __str__(self) -> str:
        return render(self)

    __repr__ = __str__


def ranked(graph: Graph, scores: Tensor, by: By) -> Tensor:
    """Scores [..., source, destination] to order by; -inf where no edge exists."""
    if by not in ("absolute", "signed"):
        raise InputError(f"edges are taken by 'absolute' or 'signed' score; given {by!r}.")
    rank = scores.abs() if by == "absolute" else scores
    return torch.where(graph.exists, torch.nan_to_num(rank, nan=-torch.inf), -torch.inf)


def top_members(graph: Graph, scores: Tensor, n: int, by: By = "absolute", level: Level = "edge") -> Tensor:
    """[source, destination] True at the n best edges, or at all edges of the input and the n best other nodes."""
    rank = ranked(graph, scores, by)
    if level == "node":
        kept = graph.source_of == 0
        free = (~kept).nonzero()[:, 0]
        kept[free[graph.by_node(rank)[free].argsort(descending=True, stable=True)[:n]]] = True
        return graph.of_nodes(kept)
    members = torch.zeros(graph.exists.numel(), dtype=torch.bool)
    members[rank.flatten().argsort(descending=True, stable=True)[:n]] = True
    return members.reshape(graph.exists.shape) & graph.exists
