"""Other tools' files: the reference viewer's and Neuronpedia's JSON, and circuit-tracer's `.pt`."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cutaway import __version__
from cutaway.graphs import nodes as kinds
from cutaway.graphs.influence import cumulative, edge_influence, influence
from cutaway.graphs.nodes import Nodes
from cutaway.graphs.report import label

if TYPE_CHECKING:
    from cutaway.graphs.graph import AttributionGraph

MAX_NODES, MAX_LINKS = 1500, 40_000
_TYPES = {
    kinds.EMBEDDING: "embedding",
    kinds.FEATURE: "cross layer transcoder",
    kinds.ERROR: "mlp reconstruction error",
    kinds.BIAS: "bias",
    kinds.LOGIT: "logit",
    kinds.REMAINDER: "pruned remainder",
}


def viewer_json(
    graph: AttributionGraph,
    node: float = 0.98,
    edge: float = 0.998,
    max_nodes: int = MAX_NODES,
    max_links: int = MAX_LINKS,
) -> dict[str, Any]:
    """The graph as the reference viewer reads it, with our additions (`cutaway.graph/1`) beside its fields.

    A whole graph is pruned generously; nodes and links carry the share of influence held by them and all stronger ones,
    so that a page can prune further. A node's `remainder` is the sum of its inputs that are not links here.
    """
    pruned = graph if graph.pruning else graph.pruned(node, edge, max_nodes)
    nodes, ids = pruned.nodes, pruned.nodes.ids()
    # The share held in the whole graph by this node and the stronger ones, as circuit-tracer writes it.
    share = cumulative_of(graph, nodes)

    targets = np.repeat(np.arange(len(nodes)), np.diff(pruned.edges.indptr))
    sources, weight = pruned.edges.indices, pruned.edges.data
    strength = edge_influence(pruned, influence(pruned))
    is_remainder = nodes.kind[sources] == kinds.REMAINDER
    shown = ~is_remainder
    if shown.sum() > max_links:
        shown &= strength >= np.partition(strength[shown], -max_links)[-max_links]
    remainder = np.bincount(targets[~shown], weights=weight[~shown].astype(np.float64), minlength=len(nodes))
    link_share = cumulative(strength[shown])

    last = len(pruned.tokens) - 1
    logit_number = {int(row): number for number, row in enumerate(pruned.logit_rows)}
    listed: list[dict[str, Any]] = []
    for row in np.flatnonzero(nodes.kind != kinds.REMAINDER).tolist():
        kind, layer, position = int(nodes.kind[row]), int(nodes.layer[row]), int(nodes.position[row])
        feature, pre = int(nodes.feature[row]), float(nodes.pre_activation[row])
        logit = logit_number.get(row)
        text = ""
        if logit is not None:
            text = f'Output "{pruned.logit_strings[logit]}" (p={pruned.probabilities[logit]:.3f})'
        elif kind == kinds.EMBEDDING:
            text = f'Emb: "{pruned.token_strings[position]}"'
        elif kind in (kinds.ERROR, kinds.BIAS):
            text = label(pruned, row)
        listed.append(
            {
                "node_id": ids[row],
                "feature": _feature_number(kind, layer, position, feature),
                "layer": "E" if kind == kinds.EMBEDDING or layer < 0 else str(layer + (kind == kinds.LOGIT)),
                "ctx_idx": position if position >= 0 else last,
                "feature_type": _TYPES[kind],
                "token_prob": float(pruned.probabilities[logit]) if logit is not None else 0.0,
                "is_target_logit": logit == int(np.argmax(pruned.weights)) if logit is not None else False,
                "run_idx": 0,
                "reverse_ctx_idx": 0,
                "jsNodeId": f"{ids[row]}-0",
                "clerp": text,
                "influence": float(share[row]),
                "activation": float(nodes.activation[row]) if kind == kinds.FEATURE else None,
                "kind": kinds.KINDS[kind],
                "pre_activation": pre if pre == pre else None,
                "remainder": float(remainder[row]),
                "index": feature if kind == kinds.FEATURE else None,
                "effect": float(nodes.effect[row]),
                "influence_share": float(nodes.influence[row]),
            }
        )
    links = [
        {"source": ids[source], "target": ids[target], "weight": value, "influence": part}
        for source, target, value, part in zip(
            sources[shown].tolist(), targets[shown].tolist(), weight[shown].astype(float).tolist(), link_share.tolist()
        )
    ]
    return {
        "metadata": {
            "slug": _slug(graph.prompt),
            "scan": graph.model,
            "transcoder_list": [],
            "prompt_tokens": list(graph.token_strings),
            "prompt": graph.prompt,
            "node_threshold": pruned.pruning.get("node", 1.0),
            "schema_version": 1,
            "info": {
                "description": "attribution graph",
                "generator": {"name": "cutaway", "version": __version__},
                "create_time_ms": int(time.time() * 1000),
            },
            "pruning_settings": {
                "node_threshold": pruned.pruning.get("node", 1.0),
                "edge_threshold": pruned.pruning.get("edge", 1.0),
            },
            "cutaway": {
                "schema": "cutaway.graph/1",
                "accounting": dict(graph.accounting),
                "scores": graph.scores.to_json(),
                "logits": [[text, p] for text, p in zip(graph.logit_strings, graph.probabilities.tolist())],
                "target": dict(graph.target),
                "controls": dict(graph.controls),
                "pruning": dict(pruned.pruning),
                "tokens": list(graph.tokens),
                "n_layers": graph.n_layers,
                "dictionary": graph.dictionary,
                "dictionary_kind": graph.dictionary_kind,
                "whole": {"nodes": len(graph.nodes), "edges": int(graph.edges.nnz)},
            },
        },
        "qParams": {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""},
        "nodes": listed,
        "links": links,
    }


def cumulative_of(graph: AttributionGraph, nodes: Nodes) -> npt.NDArray[np.float64]:
    """For each of `nodes`, the share of the graph's influence held by nodes of at least its influence; 1 for biases."""
    values = graph.nodes.influence[graph.nodes.kind != kinds.BIAS].astype(np.float64)
    ranked, shares = np.sort(values), np.sort(cumulative(values))[::-1]
    at = np.searchsorted(ranked, nodes.influence.astype(np.float64))
    share = shares[np.minimum(at, len(shares) - 1)] if len(shares) else np.ones(len(nodes))
    return np.where(np.isin(nodes.kind, (kinds.BIAS, kinds.REMAINDER)), 1.0, share)


def cantor(x: int, y: int) -> int:
    """Cantor's pairing, as the reference viewer numbers features: (layer, feature) -> one integer."""
    return (x + y) * (x + y + 1) // 2 + y


def _feature_number(kind: int, layer: int, position: int, feature: int) -> int:
    if kind == kinds.FEATURE:
        return cantor(layer, feature)
    if kind == kinds.EMBEDDING:
        return position
    return feature if kind == kinds.LOGIT else -1


def _slug(prompt: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60] or "graph"
