"""A circuit as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.core.table import columns

if TYPE_CHECKING:
    from cutaway.circuits.circuit import Circuit

EDGES, NODES = 16, 24


def render(circuit: Circuit, edges: int = EDGES) -> str:
    """What it is of, its heads and MLPs, its strongest edges, what its scoring found, and the evidence."""
    c, graph = circuit.choices, circuit.graph
    unit = c.get("unit") or c.get("metric", "")
    on_paths = int(graph.on_paths(circuit.members).sum())
    size = (
        f"{circuit.size:,} of {graph.n_edges:,} edges ({circuit.share:.1%}), {on_paths:,} of them on a path from the "
        "input to the logits"
    )
    lines = [
        f"Circuit of {c.get('task')} in {c.get('model')}: {size if circuit.level == 'edge' else _whole(circuit)}",
        f"by {c.get('method')} on {c.get('n')} items; metric {c.get('metric')}, {c.get('ablation')} ablation, "
        f"{'queries, keys and values apart' if graph.split else 'a head as one destination'}, "
        f"{'all positions' if not graph.spans else 'positions ' + ', '.join(graph.spans)}, "
        f"seed {c.get('seed')}",
        "",
        *_nodes(circuit),
    ]
    if circuit.level == "edge":
        lines += _edges(circuit, edges, unit)
    for part in circuit.parts.values():
        lines += ["", str(part)]
    for item in circuit.evidence:
        lines += ["", str(item)]
    return "\n".join(lines)


def _whole(circuit: Circuit) -> str:
    """Of a circuit of whole nodes: how many, and what stays in beside them."""
    graph, fixed = circuit.graph, ["input", *circuit.choices.get("always_in", ())]
    free = [name.partition("@")[0] not in fixed for name in graph.nodes]
    count = sum(a and b for a, b in zip(free, graph.by_node(circuit.members).tolist()))
    return f"{count} of {sum(free)} nodes, with all their edges; always in: {', '.join(dict.fromkeys(fixed))}"


def _edges(circuit: Circuit, edges: int, unit: str) -> list[str]:
    c = circuit.choices
    lines = [
        "",
        f"Strongest edges; score: {c.get('score', 'what the metric is estimated to lose')}"
        + (f" (metric: {c.get('metric')}, {unit})" if unit else f" (metric: {c.get('metric')})"),
    ]
    shown = circuit.edges[:edges]
    rows = [("from", "to", "score"), *((s, d, f"{score:+.3g}") for s, d, score in shown)]
    lines += columns(rows, right=(2,))
    if circuit.size > len(shown):
        lines.append(f"  … and {circuit.size - len(shown):,} more (.edges has them all)")
    return lines


def _nodes(circuit: Circuit) -> list[str]:
    """Heads and MLPs on paths, each with how many of its edges are in, the strongest first."""
    graph = circuit.graph
    kept = graph.on_paths(circuit.members)
    scores = circuit.node_scores
    inside = [i for i in graph.by_node(kept).nonzero()[:, 0].tolist() if int(graph.source_of[i])]
    if not inside:
        return ["No path leads from the input to the logits: the circuit carries nothing."]
    inside.sort(key=lambda i: -abs(float(scores[i])))
    on = {int(graph.source_of[i]) for i in inside}
    parts = []
    kinds = [("input" if name == "input" else "n" if ".n" in name else name[0]) for name in graph.sources]
    for kind, what in (("a", "heads"), ("m", "MLPs"), ("n", "neurons apart")):
        every = [s for s, of in enumerate(kinds) if of == kind]
        parts += [f"{sum(s in on for s in every)} of {len(every)} {what}"] if every else []
    lines = [f"{', '.join(parts[:-1])} and {parts[-1]} lie on its paths"]
    rows = [("node", "edges out", "score")]
    out = [int((kept & (graph.node_of == i)).sum()) for i in inside[:NODES]]
    rows += [(graph.nodes[i], str(n), f"{float(scores[i]):+.3g}") for i, n in zip(inside, out)]
    lines += columns(rows, right=(1, 2))
    if len(inside) > NODES:
        lines.append(f"  … and {len(inside) - NODES} more")
    return lines
