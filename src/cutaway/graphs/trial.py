"""One graph put to the test: what it predicts for some of its features and edges, and what the real model does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from cutaway.core.protocols import TranscoderSet
from cutaway.graphs import measure as ms
from cutaway.graphs import nodes as kinds
from cutaway.graphs.graph import AttributionGraph
from cutaway.graphs.influence import edge_influence, influence, total_effects
from cutaway.graphs.report import label
from cutaway.model import Model

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
HELD = ("pattern", "norm")
_OPERATIONS = 8e12  # about a minute on two cores


@dataclass(frozen=True)
class Plan:
    """How many features and edges are measured: those of most influence, and a random sample of the others."""

    top: int = 100
    sample: int = 100
    top_edges: int = 100
    sample_edges: int = 100
    together: int = 10
    draws: int = 40
    seed: int = 0

    @classmethod
    def for_model(cls, model: Model, n_tokens: int, seed: int = 0) -> Plan:
        """The usual counts, or fewer (a fifth at least) where a trial of them would take more than _OPERATIONS."""
        whole = cls(seed=seed)
        rows = 4 * (whole.top + whole.sample) + 2 * (whole.top_edges + whole.sample_edges)
        share = _OPERATIONS / (2 * max(model.facts.n_parameters, 1) * n_tokens * rows)
        share = min(1.0, max(0.2, share))
        return replace(
            whole,
            top=round(share * whole.top),
            sample=round(share * whole.sample),
            top_edges=round(share * whole.top_edges),
            sample_edges=round(share * whole.sample_edges),
        )


@dataclass(frozen=True)
class FeatureEffects:
    """k features; effects on the graph's target, with the sign of the feature's presence, in logits."""

    row: Ints  # among the graph's nodes
    top: Mask  # among those of most influence
    influence: Floats
    predicted: Floats  # signed, over all paths of the graph
    direct: Floats  # along the direct edge alone
    written: Floats  # the norm of what the feature writes
    measured: Floats  # nothing held
    held: Floats  # attention patterns and norm scales held at the prompt's own, as the graph holds them
    random: Floats  # as `measured` and `held`, with random directions of the same norm for the decoder vectors
    random_held: Floats

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class EdgeEffects:
    """Edges between features; effects on the target's pre-activation."""

    source: Ints
    target: Ints
    top: Mask
    weight: Floats  # the direct edge
    paths: Floats  # over all paths of the graph from source to target
    measured: Floats
    random: Floats

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class Trial:
    dictionary: TranscoderSet
    graph: AttributionGraph
    features: FeatureEffects
    edges: EdgeEffects
    target: int  # the logit node that effects are on

    @property
    def target_name(self) -> str:
        """The token that the effects are on, or "A - B"."""
        return self.graph.logit_strings[int(np.searchsorted(self.graph.logit_rows, self.target))]

    def items(self) -> list[dict[str, Any]]:
        """One row a measurement: {kind, id, label, target, predicted, measured}, effects with the sign of presence.

        kind: "feature" (of most influence) and "sample" (of the others) on the graph's target; "random", the same
        features with random directions; "edge" and "edge sample" on the pre-activation of their target.
        """
        ids, f, e = self.ids, self.features, self.edges
        rows = []
        for measured, kinds_ in ((f.measured, ("sample", "feature")), (f.random, ("random", "random"))):
            for row, top, predicted, value in zip(f.row.tolist(), f.top.tolist(), f.predicted, measured):
                rows.append(
                    {
                        "kind": kinds_[top],
                        "id": ids[row],
                        "label": label(self.graph, row),
                        "target": ids[self.target],
                        "predicted": float(predicted),
                        "measured": float(value),
                    }
                )
        for source, target, top, weight, value in zip(
            e.source.tolist(), e.target.tolist(), e.top.tolist(), e.weight, e.measured
        ):
            rows.append(
                {
                    "kind": "edge" if top else "edge sample",
                    "id": f"{ids[source]}->{ids[target]}",
                    "label": f"{label(self.graph, source)} -> {label(self.graph, target)}",
                    "target": ids[target],
                    "predicted": float(weight),
                    "measured": float(value),
                }
            )
        return rows

    @cached_property
    def ids(self) -> list[str]:
        return self.graph.nodes.ids()


def readout(model: Model, graph: AttributionGraph) -> ms.Readout:
    """The number that the graph explains: its contrast, its chosen token, or the likeliest of its tokens."""
    what: Mapping[str, Any] = graph.target
    against = int(what["tokens"][1]) if what["kind"] == "contrast" else None
    likeliest = 0 if what["kind"] == "contrast" else int(np.argmax(graph.probabilities))
    return ms.Readout(int(what["position"]), int(what["tokens"][likeliest]), against, model.facts.logit_softcap)


def try_graph(model: Model, dictionary: TranscoderSet, graph: AttributionGraph, plan: Plan) -> Trial:
    """Measure a graph's features and edges in the real model.

    Cost: forwards of the prompt, one row a feature and distinct source of an edge, and the same again with random
    directions. Deterministic in the plan's seed.
    """
    tokens = torch.tensor([graph.tokens])
    at = readout(model, graph)
    features = _features(model, dictionary, graph, tokens, at, plan)
    edges = _edges(model, dictionary, graph, tokens, plan)
    return Trial(dictionary, graph, features, edges, _logit(graph))


def _features(
    model: Model, dictionary: TranscoderSet, graph: AttributionGraph, tokens: Tensor, at: ms.Readout, plan: Plan
) -> FeatureEffects:
    size, total = influence(graph), total_effects(graph)
    direct = np.zeros(len(graph.nodes))
    source, weight = graph.inputs(_logit(graph))
    direct[source] = weight
    every = np.flatnonzero(graph.nodes.kind == kinds.FEATURE)
    chosen, top = _ranked(every, size[every], plan.top, plan.sample, plan.seed)
    real = ms.ablations(dictionary, graph.nodes, chosen)
    null = ms.ablations(dictionary, graph.nodes, chosen, directions="random", seed=plan.seed)
    return FeatureEffects(
        row=chosen,
        top=top,
        influence=size[chosen],
        predicted=total[chosen],
        direct=direct[chosen],
        written=ms.written(dictionary, graph.nodes, chosen),
        measured=ms.measure_target(model, tokens, real, at),
        held=ms.measure_target(model, tokens, real, at, hold=HELD),
        random=ms.measure_target(model, tokens, null, at),
        random_held=ms.measure_target(model, tokens, null, at, hold=HELD),
    )


def _edges(model: Model, dictionary: TranscoderSet, graph: AttributionGraph, tokens: Tensor, plan: Plan) -> EdgeEffects:
    kind = graph.nodes.kind
    targets = np.repeat(np.arange(len(kind)), np.diff(graph.edges.indptr))
    sources = graph.edges.indices
    between = np.flatnonzero((kind[targets] == kinds.FEATURE) & (kind[sources] == kinds.FEATURE))
    size = edge_influence(graph, influence(graph))
    chosen, top = _ranked(between, size[between], plan.top_edges, plan.sample_edges, plan.seed + 1)
    source, target = sources[chosen].astype(np.int64), targets[chosen].astype(np.int64)

    def measured(directions: ms.Directions) -> Floats:
        if not len(chosen):
            return np.zeros(0)
        return ms.measure_edges(
            model, dictionary, tokens, graph.nodes, source, target, directions=directions, seed=plan.seed
        )

    return EdgeEffects(
        source=source,
        target=target,
        top=top,
        weight=graph.edges.data[chosen].astype(np.float64),
        paths=path_effects(graph, source, target),
        measured=measured("decoder"),
        random=measured("random"),
    )


def _logit(graph: AttributionGraph) -> int:
    return int(graph.logit_rows[int(np.argmax(graph.probabilities))])


def path_effects(graph: AttributionGraph, source: Ints, target: Ints) -> Floats:
    """The signed effect of each source on its target's pre-activation over all paths of the graph, [edges].

    As `influence.total_effects`, with features as targets. Holds a column of N numbers a distinct target.
    """
    pre = graph.nodes.pre_activation.astype(np.float64)
    through = (graph.nodes.kind == kinds.FEATURE) & (np.abs(pre) > 0)
    gain = np.divide(1.0, pre, out=np.zeros(len(pre)), where=through)[:, None]
    back = cast(csr_array, graph.edges.T.tocsr())
    distinct, which = np.unique(target, return_inverse=True)
    out = np.zeros(len(source))
    block = max(1, (64 << 20) // (8 * len(pre)))
    for start in range(0, len(distinct), block):
        columns = distinct[start : start + block]
        r = np.zeros((len(pre), len(columns)))
        r[columns, np.arange(len(columns))] = 1.0
        effect = back @ r
        for _ in range(graph.n_layers):
            effect = back @ (r + gain * effect)
        here = (which >= start) & (which < start + block)
        out[here] = effect[source[here], which[here] - start]
    return out


def _ranked(every: Ints, size: Floats, top: int, sample: int, seed: int) -> tuple[Ints, Mask]:
    """The `top` of largest size and a random `sample` of the others: (which, whether among the top)."""
    order = np.argsort(-size, kind="stable")
    first, rest = every[order[:top]], every[order[top:]]
    drawn = np.random.default_rng(seed).choice(rest, min(sample, len(rest)), replace=False)
    return np.concatenate([first, drawn]).astype(np.int64), np.arange(len(first) + len(drawn)) < len(first)
