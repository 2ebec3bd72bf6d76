"""ACDC (Conmy et al. 2023): edges are tried one by one from the logits down, and left out for good where the output
then moves less than a threshold.

    leave (s, d) out  if  D(C without it) - D(C) < threshold,   D(C) = mean over items of the distance to the model

D is KL(model || circuit) at the answer's position, or the mean of |metric of the circuit - metric of the model|.

While a layer's ports are being tried, every edge into earlier layers is still in, so nothing before it changes: the
forward goes on from that layer. Several edges are tried in one forward, each with all those before it left out too;
the first that has to stay ends the row, and the next forward begins after it. The result is that of one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor

from cutaway.circuits.graph import LOGITS, Graph
from cutaway.circuits.masked import columns, masked_logits
from cutaway.circuits.senders import ablated, record
from cutaway.circuits.spans import span_labels
from cutaway.circuits.wires import Wires, rows_of
from cutaway.core import InputError

Distance = Literal["kl", "metric"]
SHARES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Thresholds, as shares of the distance with every edge ablated."""


def acdc(
    wires: Wires,
    graph: Graph,
    task: Any,
    ablation: str = "resample",
    *,
    distance: Distance = "kl",
    shares: Sequence[float] = SHARES,
    tokens: int = 4096,
) -> Tensor:
    """The largest threshold at which an edge stays in, [1, source, destination], in the unit of the distance.

    An edge's score is how much the distance grew when it was tried, cut to lie between the largest threshold that kept
    it and the next: so that those a threshold keeps alike are still in an order. An edge that none keeps has at most
    the least. Costs at most one partial forward an edge, item and threshold. Raises InputError: identical outputs with
    every edge ablated.
    """
    search = Search(wires, graph, task, ablation, distance, tokens)
    thresholds = sorted(share * search.worst for share in shares)
    found = torch.zeros(graph.exists.shape, dtype=torch.float64)
    for i, threshold in enumerate(thresholds):
        kept, grew = search.run(threshold)
        above = thresholds[i + 1] if i + 1 < len(thresholds) else float("inf")
        if i == 0:
            found = grew.clamp(0, threshold)
        found = torch.where(kept, grew.clamp(threshold, above), found)
    return torch.where(graph.exists, found, 0.0)[None]


class Search:
    """A task's items held ready for ACDC at any threshold. `worst`: the distance with every edge ablated."""

    def __init__(
        self, wires: Wires, graph: Graph, task: Any, ablation: str, distance: Distance = "kl", tokens: int = 4096
    ) -> None:
        if distance not in ("kl", "metric"):
            raise InputError(f"ACDC's distance is 'kl' or 'metric'; given {distance!r}.")
        self.wires, self.graph, self.task, self.distance = wires, graph, task, distance
        self.ends, self.labels = columns(task), span_labels(task, graph.spans)
        self.at_once = max(1, tokens // task.clean.ids.numel())
        with torch.no_grad():
            every = torch.arange(len(task))
            self.batch = rows_of(wires.model, task.clean, every)
            self.other = ablated(wires, task, ablation)(every)
            self.known = record(wires, self.batch)
            whole = self._logits(graph.exists[None], 0)
            self.reference, self.metric = whole.log_softmax(-1), task.metric(whole).double()
            self.worst = float(self._distances((graph.exists & False)[None], 0)[0])
        if not self.worst > 1e-9:
            raise InputError(f"{task.name}: with every edge ablated ({ablation}) the output is what it was.")

    def run(self, threshold: float) -> tuple[Tensor, Tensor]:
        """(edges that stay, how much the distance grew when each was tried), [source, destination]."""
        graph = self.graph
        kept, grew = graph.exists.clone(), torch.zeros(graph.exists.shape, dtype=torch.float64)
        now = 0.0
        with torch.no_grad():
            for first, destinations in groupby(self._order(), self._layer):
                # Those that write last are tried first.
                left = [(s, d) for d in destinations for s in graph.exists[:, d].nonzero()[:, 0].flip(0).tolist()]
                ahead = 1
                while left:
                    some = left[: min(ahead, self.at_once)]
                    # Row r: without the first r + 1 of them.
                    masks = kept.repeat(len(some), 1, 1)
                    for r, (s, d) in enumerate(some):
                        masks[r:, s, d] = False
                    distances = self._distances(masks, first).tolist()
                    tried = 0
                    for (s, d), value in zip(some, distances):
                        tried += 1
                        grew[s, d] = value - now
                        if value - now >= threshold:
                            break  # it stays: what was tried after it was tried without it
                        kept[s, d] = False
                        now = value
                    ahead = 2 * ahead if tried == len(some) else max(1, tried)
                    left = left[tried:]
        return kept, grew

    def _order(self) -> list[int]:
        """Destinations, those that read last first."""
        when = torch.zeros(len(self.graph.destinations), dtype=torch.long)
        reads = self.graph.reads[:, None] if self.graph.spans else self.graph.reads
        when[self.graph.of_port] = reads
        return when.argsort(descending=True, stable=True).tolist()

    def _layer(self, destination: int) -> int:
        name = self.graph.destinations[destination]
        return len(self.wires.layers) if name == LOGITS else int(name[1:].partition(".")[0].partition("@")[0])

    def _distances(self, masks: Tensor, first: int) -> Tensor:
        """[m] of masks [m, source, destination]."""
        logits = self._logits(masks, first)
        if self.distance == "kl":
            p = self.reference.repeat(len(masks), 1)
            apart = torch.where(p > -torch.inf, p.exp() * (p - logits.log_softmax(-1)), 0.0).sum(-1).double()
        else:
            values = self.task.take(torch.arange(len(self.task)).repeat(len(masks))).metric(logits).double()
            apart = (values - self.metric.repeat(len(masks))).abs()
        return apart.reshape(len(masks), -1).mean(1).cpu()

    def _logits(self, masks: Tensor, first: int) -> Tensor:
        n, m = len(self.task), len(masks)
        index = torch.arange(n).repeat(m)
        dtype = self.known.start.dtype
        mask = self.graph.ported(masks).to(self.known.start.device, dtype).repeat_interleave(n, 0)
        return masked_logits(
            self.wires, rows_of(self.wires.model, self.task.clean, index), self.other.take(index), mask,
            self.ends[index], labels=None if self.labels is None else self.labels[index],
            known=self.known.take(index), first=first,
        )  # fmt: skip
