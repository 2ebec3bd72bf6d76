"""Graphs as the JSON of the reference viewer and of Neuronpedia, with our additions beside their fields.

`viewer_json` writes, `read_viewer_json` reads both ours and theirs. circuit-tracer's `.pt` is in `circuit_tracer.py`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from cutaway import __version__
from cutaway.core import InputError
from cutaway.graphs import nodes as kinds
from cutaway.graphs.graph import AttributionGraph
from cutaway.graphs.influence import account, cumulative, edge_influence, influence
from cutaway.graphs.nodes import Nodes, concatenate, table
from cutaway.graphs.report import label

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
    pruned = shown(graph, node, edge, max_nodes)
    nodes, ids = pruned.nodes, pruned.nodes.ids()
    # The share held in the whole graph by this node and the stronger ones, as circuit-tracer writes it.
    share = cumulative_of(graph, nodes)

    targets = np.repeat(np.arange(len(nodes)), np.diff(pruned.edges.indptr))
    sources, weight = pruned.edges.indices, pruned.edges.data
    strength = edge_influence(pruned, influence(pruned))
    is_remainder = nodes.kind[sources] == kinds.REMAINDER
    linked = ~is_remainder
    if linked.sum() > max_links:
        linked &= strength >= np.partition(strength[linked], -max_links)[-max_links]
    remainder = np.bincount(targets[~linked], weights=weight[~linked].astype(np.float64), minlength=len(nodes))
    link_share = cumulative(strength[linked])

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
            sources[linked].tolist(),
            targets[linked].tolist(),
            weight[linked].astype(float).tolist(),
            link_share.tolist(),
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


def read_viewer_json(data: Mapping[str, Any]) -> AttributionGraph:
    """A graph from viewer JSON, ours, circuit-tracer's or Neuronpedia's. It is a pruned graph.

    Inputs that were cut come back as remainder nodes where the file says what they summed to (ours does), and then the
    law is asserted again. Raises InputError where the file lacks what makes a graph.
    """
    try:
        metadata, listed, links = data["metadata"], data["nodes"], data["links"]
        ours = metadata.get("cutaway", {})
        # Features in the order in which edges point forward; the rest as the file has it.
        placed = sorted((_read_node(node) for node in listed), key=lambda item: item[0][: 4 if item[0][0] == 3 else 1])
        ids = [node["node_id"] for _, node in placed]
        columns = [(*key[1:5], node) for key, node in placed]
        kind, position, layer, feature = (np.array(c, dtype=np.int64) for c in zip(*[row[:4] for row in columns]))
        given = [row[4] for row in columns]
        numbers = {
            name: np.array([_number(node.get(name), empty) for node in given], dtype=np.float32)
            for name, empty in (("activation", 0), ("pre_activation", np.nan), ("influence_share", 0), ("effect", 0))
        }
        row_of = {name: row for row, name in enumerate(ids)}
        ends = [(row_of[link["target"]], row_of[link["source"]], float(link["weight"])) for link in links]
        left = np.array([_number(node.get("remainder"), 0) for node in given])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"This JSON is no attribution graph as viewers read them: {error!r}.") from error
    nodes = Nodes(kind, layer, position, feature, *numbers.values())
    row, column = (np.array([end[side] for end in ends], dtype=np.int64) for side in (0, 1))
    weight = np.array([end[2] for end in ends])
    # A remainder node stands before the first target, so that edges still point to higher rows.
    cut = np.flatnonzero((left != 0) & nodes.has_inputs)
    first = int(np.argmax(nodes.has_inputs)) if nodes.has_inputs.any() else len(nodes)
    moved = np.where(np.arange(len(nodes)) < first, np.arange(len(nodes)), np.arange(len(nodes)) + len(cut))
    remainder = table(kinds.REMAINDER, layer[cut], position[cut], moved[cut])
    size = len(nodes) + len(cut)
    edges = csr_array(
        (
            np.concatenate([weight, left[cut]]).astype(np.float32),
            (np.concatenate([moved[row], moved[cut]]), np.concatenate([moved[column], first + np.arange(len(cut))])),
        ),
        shape=(size, size),
    )
    edges.sort_indices()
    logits = [given[row] for row in np.flatnonzero(kind == kinds.LOGIT).tolist()]
    probabilities = np.array([_number(node.get("token_prob"), 0) for node in logits], dtype=np.float32)
    strings = tuple(str(token) for token in metadata.get("prompt_tokens", ()))
    named = [str(text) for text, _ in ours.get("logits", ())]
    graph = AttributionGraph(
        nodes=concatenate([nodes[:first], remainder, nodes[first:]]),
        edges=edges,
        prompt=str(metadata.get("prompt", "")),
        tokens=tuple(int(token) for token in ours.get("tokens", ())),
        token_strings=strings,
        logit_strings=tuple(named or [str(node.get("clerp", "")) for node in logits]),
        probabilities=probabilities,
        weights=np.ones(1, dtype=np.float32) if len(logits) == 1 else probabilities,
        target=dict(ours.get("target", {"kind": "likely", "position": len(strings) - 1, "tokens": []})),
        accounting=dict(ours.get("accounting", {"nodes": 0, "max_error": None})),
        n_layers=int(ours.get("n_layers", layer.max(initial=0))),
        n_active=int((ours.get("scores") or {}).get("active_features", 0)),
        n_unexplored=int((ours.get("scores") or {}).get("unexplored", 0)),
        model=str(metadata.get("scan") or ""),
        dictionary=str(ours.get("dictionary", "")),
        dictionary_kind=str(ours.get("dictionary_kind", "")),
        pruning=dict(ours.get("pruning") or {"node": metadata.get("node_threshold", 1.0)}),
        controls=dict(ours.get("controls", {})),
    )
    return replace(graph, accounting=account(graph)) if ours else graph


def _read_node(node: Mapping[str, Any]) -> tuple[tuple[int, int, int, int, int], Mapping[str, Any]]:
    """((order among kinds, kind, position, layer, feature), the node)."""
    name, what = str(node["node_id"]), node.get("kind") or _KIND_OF_TYPE[node["feature_type"]]
    kind, parts = kinds.KINDS.index(what), name.split("_")
    position, layer = int(node["ctx_idx"]), -1 if node["layer"] == "E" else int(node["layer"])
    if kind == kinds.EMBEDDING:
        return (0, kind, position, -1, int(parts[1])), node
    if kind == kinds.BIAS:
        return (1, kind, -1 if parts[-1] == "*" else position, layer, kinds.BIASES.index(parts[2])), node
    if kind == kinds.ERROR:
        return (2, kind, position, layer, -1), node
    if kind == kinds.FEATURE:
        return (3, kind, position, layer, int(parts[1])), node
    return (4, kind, position, layer - 1, int(parts[1])), node


_KIND_OF_TYPE = {name: kinds.KINDS[kind] for kind, name in _TYPES.items()}


def _number(value: Any, empty: float) -> float:
    return empty if value is None else float(value)


def shown(
    graph: AttributionGraph, node: float = 0.98, edge: float = 0.998, max_nodes: int = MAX_NODES
) -> AttributionGraph:
    """The graph whose nodes viewers get: a pruned one as it is, a whole one pruned generously."""
    return graph if graph.pruning else graph.pruned(node, edge, max_nodes)


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
