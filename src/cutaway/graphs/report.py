"""A graph as a readable table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cutaway.graphs import nodes as kinds

if TYPE_CHECKING:
    from cutaway.graphs.graph import AttributionGraph


def label(graph: AttributionGraph, row: int) -> str:
    """A node in words: `L2 #814 at 'shop'`, `token 'Mary'`, `error L3 at 'a'`, `output ' John'`."""
    nodes = graph.nodes
    kind, layer, position = int(nodes.kind[row]), int(nodes.layer[row]), int(nodes.position[row])
    feature = int(nodes.feature[row])
    at = f"at {position} {graph.token_strings[position]!r}" if position >= 0 else "(all positions)"
    if kind == kinds.EMBEDDING:
        return f"token {graph.token_strings[position]!r} {at.split(' ')[0]} {position}"
    if kind == kinds.FEATURE:
        return f"L{layer} #{feature} {at}"
    if kind == kinds.ERROR:
        return f"error L{layer} {at}"
    if kind == kinds.LOGIT:
        return f"output {graph.logit_strings[int(np.searchsorted(graph.logit_rows, row))]!r}"
    if kind == kinds.REMAINDER:
        return f"pruned inputs of {label(graph, feature)}"
    return f"bias {kinds.BIASES[feature]}{f' L{layer}' if layer >= 0 else ''} {at}"


def top_paths(graph: AttributionGraph, n: int = 5, width: int = 200) -> list[tuple[float, list[int]]]:
    """The paths from an embedding to a logit that carry most influence: [(share, rows from source to logit)].

    A beam search backwards from the logits; a path's share is the product of its edges' shares of their target's input.
    """
    from cutaway.graphs.influence import node_weights

    weights = node_weights(graph)
    beam: list[tuple[float, list[int]]] = [(float(weights[row]), [int(row)]) for row in graph.logit_rows]
    done: list[tuple[float, list[int]]] = []
    while beam:
        longer: list[tuple[float, list[int]]] = []
        for share, path in beam:
            sources, data = graph.inputs(path[0])
            plain = graph.nodes.kind[sources] != kinds.BIAS
            sources, part = sources[plain], np.abs(data[plain])
            part = share * part / max(float(part.sum()), 1e-30)
            for at in np.argsort(-part)[: max(n * 4, 16)]:
                step = (float(part[at]), [int(sources[at]), *path])
                kind = graph.nodes.kind[sources[at]]
                if kind == kinds.EMBEDDING:
                    done.append(step)
                elif kind == kinds.FEATURE:
                    longer.append(step)
        beam = sorted(longer, key=lambda item: -item[0])[:width]
    return sorted(done, key=lambda item: -item[0])[:n]


def summary(graph: AttributionGraph, n_features: int = 40, n_paths: int = 10) -> dict[str, Any]:
    """The graph in short, as JSON."""
    nodes, ids = graph.nodes, graph.nodes.ids()
    rows = np.flatnonzero(nodes.kind == kinds.FEATURE)
    rows = rows[np.argsort(-nodes.influence[rows], kind="stable")][:n_features]
    counts = np.bincount(nodes.kind, minlength=len(kinds.KINDS)).tolist()
    features = [
        {
            "id": ids[row],
            "layer": int(nodes.layer[row]),
            "feature": int(nodes.feature[row]),
            "position": int(nodes.position[row]),
            "token": graph.token_strings[int(nodes.position[row])],
            "activation": float(nodes.activation[row]),
            "influence": float(nodes.influence[row]),
            "effect": float(nodes.effect[row]),
        }
        for row in rows.tolist()
    ]
    return {
        "prompt": graph.prompt,
        "tokens": list(graph.token_strings),
        "model": graph.model,
        "dictionary": {"name": graph.dictionary, "kind": graph.dictionary_kind},
        "target": dict(graph.target),
        "logits": [[text, p] for text, p in zip(graph.logit_strings, graph.probabilities.tolist())],
        "scores": graph.scores.to_json(),
        "accounting": dict(graph.accounting),
        "nodes": dict(zip(kinds.KINDS, counts)),
        "edges": int(graph.edges.nnz),
        "features": features,
        "paths": [{"share": share, "nodes": [ids[row] for row in path]} for share, path in top_paths(graph, n_paths)],
        "evidence": [item.to_json() for item in graph.evidence],
        "controls": dict(graph.controls),
    }


def describe(graph: AttributionGraph, n_features: int = 12, n_paths: int = 5) -> str:
    """Prompt, logits, scores, the most influential features with their strongest input and output, and paths."""
    lines = [f"attribution graph of {graph.prompt!r}"]
    if graph.model:
        lines.append(f"  {graph.model}, {graph.dictionary_kind or 'dictionary'} {graph.dictionary}".rstrip())
    outputs = ", ".join(f"{s!r} {p:.3f}" for s, p in zip(graph.logit_strings, graph.probabilities.tolist()))
    lines.append(f"  output     {outputs}")
    found = graph.scores
    lines.append(
        f"  scores     replacement {found.replacement:.3f}, completeness {found.completeness:.3f}"
        f" (biases counted as explained: {found.replacement_with_biases:.3f}, {found.completeness_with_biases:.3f})"
    )
    counts = np.bincount(graph.nodes.kind, minlength=len(kinds.KINDS))
    parts = ", ".join(f"{count} {name}" for name, count in zip(kinds.KINDS, counts.tolist()) if count)
    lines.append(f"  nodes      {parts}; {graph.edges.nnz} edges" + (" (pruned)" if graph.pruning else ""))
    if graph.n_unexplored:
        lines.append(f"             {graph.n_unexplored} of {graph.n_active} active features are unexplored: error")
    lines.append(
        f"  accounting {graph.accounting['nodes']} nodes: inputs sum to the pre-activation within "
        f"{graph.accounting['max_error']:.1e}"
    )
    power, effect = graph.nodes.influence, graph.nodes.effect
    rows = np.flatnonzero(graph.nodes.kind == kinds.FEATURE)
    rows = rows[np.argsort(-power[rows], kind="stable")][:n_features]
    if len(rows):
        lines.append("  influence  effect  feature                          strongest input -> strongest output")
    by_source = graph.edges.tocsc()
    for row in rows.tolist():
        sources, weights = graph.inputs(row)
        into = label(graph, int(sources[np.abs(weights).argmax()])) if len(sources) else "-"
        start, end = by_source.indptr[row], by_source.indptr[row + 1]
        strongest = by_source.indices[start:end][np.abs(by_source.data[start:end]).argmax()] if end > start else -1
        out = label(graph, int(strongest)) if strongest >= 0 else "-"
        lines.append(f"  {power[row]:9.3f} {effect[row]:+7.2f}  {label(graph, row):32} {into} -> {out}")
    for share, path in top_paths(graph, n_paths):
        lines.append(f"  path {share:6.3f} {' -> '.join(label(graph, row) for row in path)}")
    for item in graph.evidence:
        lines.append("  " + str(item).replace("\n", "\n  "))
    return "\n".join(lines)
