"""How much each node and edge matters to the logits: influence, pruning, scores, and signed total effects.

Influence ("Circuit Tracing", Anthropic, 2025): |edges| with each target's inputs divided by their sum, S; influence of
a node is its share of the logits' input over paths of any length, p (S + S^2 + …), p the logit nodes' weights.

**Biases** are left out of S, so that figures can be compared with published ones (whose graphs have no bias nodes); the
scores with biases counted as explained input stand beside. A bias node's influence is what it would carry on the same
scale: sum over targets t of |edge| / (sum of t's |inputs| without biases) * (influence of t + p_t).

**Completeness** counts only targets that have inputs; circuit-tracer credits embeddings and errors, which have none, in
full (reference: a toy of four nodes, 0.80 against 0.667). Unexplored features are part of the error nodes.

Everything is a product of a sparse matrix with a vector: edges point from lower rows to higher, so paths end.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from cutaway.core import CutawayError, InputError
from cutaway.graphs import nodes as kinds
from cutaway.graphs.graph import AttributionGraph
from cutaway.graphs.nodes import concatenate, table

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_BINS = 64 * 60  # sixty octaves below the largest value
_NOTHING = 1e-30  # a target whose inputs are all biases has no other input to share in


@dataclass(frozen=True)
class Scores:
    """Shares of influence in [0, 1]; NaN where nothing flows.

    replacement: embeddings' influence over embeddings' and errors'. completeness: the share of non-error input of
    targets with inputs, weighted by their influence (logits: plus p). `_with_biases`: bias nodes counted as explained.
    completeness_as_published: circuit-tracer's definition, which counts nodes without inputs in full. unexplored:
    active features that are no nodes, counted as error.
    """

    replacement: float
    completeness: float
    replacement_with_biases: float
    completeness_with_biases: float
    completeness_as_published: float
    active_features: int
    unexplored: int

    def to_json(self) -> dict[str, Any]:
        return {name: None if value != value else value for name, value in asdict(self).items()}


def rated(graph: AttributionGraph) -> AttributionGraph:
    """The graph with its nodes' `influence` and `effect` columns filled in."""
    power, effect = influence(graph).astype(np.float32), total_effects(graph).astype(np.float32)
    return replace(graph, nodes=replace(graph.nodes, influence=power, effect=effect))


def node_weights(graph: AttributionGraph) -> Vector:
    """p as a vector over all nodes: the logit nodes' weights, 0 elsewhere."""
    weights = np.zeros(len(graph.nodes))
    weights[graph.logit_rows] = graph.weights
    return weights


def influence(graph: AttributionGraph, *, biases: bool = False) -> Vector:
    """[N] influence of each node on the logits; with `biases`, biases share in every target's input."""
    flows, size = _flows(graph, biases)
    weights = node_weights(graph)
    total = _influence(graph, flows, size, weights)
    if not biases:
        bias = graph.nodes.kind == kinds.BIAS
        per_target = np.where(size > _NOTHING, (total + weights) / size, 0.0)
        total[bias] = (abs(graph.edges).T @ per_target)[bias]
    return total


def edge_influence(graph: AttributionGraph, node_influence: Vector) -> Vector:
    """One value an edge, in the order of `graph.edges.data`: S[t, s] (influence_t + p_t)."""
    _, size = _flows(graph, biases=False)
    per_target = np.where(size > _NOTHING, (node_influence + node_weights(graph)) / size, 0.0)
    values: Vector = np.abs(graph.edges.data) * np.repeat(per_target, np.diff(graph.edges.indptr))
    return values


def total_effects(graph: AttributionGraph, weights: npt.ArrayLike | None = None) -> Vector:
    """Signed effect of each node on the target over all paths, [N]; in the target's units (logits).

    F = E^T r, with r = 1 (or `weights`, one a logit node) at logits and r_u = F_u / pre_u at features: the effect
    passes through a feature in proportion, which is exact for ReLU, JumpReLU and TopK as long as the same features
    stay active, and what leaves a feature is what came in. So the effects of embeddings, errors and biases sum to the
    target's value. By default the logit node of highest probability.
    """
    r = np.zeros(len(graph.nodes))
    if weights is None:
        r[graph.logit_rows[int(np.argmax(graph.probabilities))]] = 1.0
    else:
        r[graph.logit_rows] = np.asarray(weights)
    pre = graph.nodes.pre_activation.astype(np.float64)
    through = (graph.nodes.kind == kinds.FEATURE) & (np.abs(pre) > 0)  # False for NaN: then no effect passes
    gain = np.zeros(len(graph.nodes))
    gain[through] = 1 / pre[through]
    back = cast(csr_array, graph.edges.T)
    effect = back @ r
    for _ in range(graph.n_layers + 1):
        new = back @ (r + gain * effect)
        if np.allclose(new, effect, rtol=1e-9, atol=0):
            return cast(Vector, new)
        effect = new
    return cast(Vector, effect)


def scores(graph: AttributionGraph) -> Scores:
    """Replacement and completeness of the graph as it is, pruned or whole."""
    kind, weights = graph.nodes.kind, node_weights(graph)
    values: dict[bool, tuple[float, float, float]] = {}
    for biases in (False, True):
        flows, size = _flows(graph, biases)
        node = _influence(graph, flows, size, weights)
        # Pruned inputs are no explanation: they count as error.
        error = (kind == kinds.ERROR) | (kind == kinds.REMAINDER)
        explained = (kind == kinds.EMBEDDING) | ((kind == kinds.BIAS) if biases else False)
        unexplained_share = (flows @ error.astype(np.float64)) / size
        weight = node + weights
        targets = graph.nodes.has_inputs & (np.diff(graph.edges.indptr) > 0)
        published = weight[~((kind == kinds.BIAS) | (kind == kinds.REMAINDER))].sum()
        values[biases] = (
            _ratio(node[explained].sum(), node[explained].sum() + node[error].sum()),
            _ratio(((1 - unexplained_share) * weight)[targets].sum(), weight[targets].sum()),
            _ratio(published - (unexplained_share * weight)[targets].sum(), published),
        )
    return Scores(
        replacement=values[False][0],
        completeness=values[False][1],
        replacement_with_biases=values[True][0],
        completeness_with_biases=values[True][1],
        completeness_as_published=values[False][2],
        active_features=graph.n_active,
        unexplored=graph.n_unexplored,
    )


def prune(
    graph: AttributionGraph, node: float = 0.8, edge: float = 0.98, max_nodes: int | None = None
) -> AttributionGraph:
    """Keep the nodes that carry `node` of the influence, then the edges that carry `edge` of it among them.

    Embeddings and logits stay; features without kept inputs or outputs, and errors without outputs, go, repeatedly.
    Bias edges stay where they pass the edges' threshold. Each target whose inputs were cut gets a remainder node that
    carries their sum, so that the law holds: it is asserted again. `max_nodes` bounds features and errors, the most
    influential.
    """
    for name, value in (("node", node), ("edge", edge)):
        if not 0 < value <= 1:
            raise InputError(f"The {name} threshold is a share of influence in (0, 1]; {value} was given.")
    if graph.pruning:
        raise InputError("This graph is pruned already; prune the whole graph.")
    kind = graph.nodes.kind
    of_nodes = influence(graph)
    is_bias = kind == kinds.BIAS
    always = (kind == kinds.EMBEDDING) | (kind == kinds.LOGIT)
    ranked = np.where(is_bias, 0.0, of_nodes)
    kept = always | (ranked >= _threshold(ranked, node))
    if max_nodes is not None and (kept & ~always).sum() > max_nodes:
        candidates = np.where(kept & ~always, ranked, -1.0)
        least = np.partition(candidates, -max_nodes)[-max_nodes]
        kept = always | (kept & (ranked >= least))

    targets = np.repeat(np.arange(len(kind)), np.diff(graph.edges.indptr))
    sources = graph.edges.indices
    inside = kept[targets] & (kept[sources] | is_bias[sources])
    within = _with_edges(graph, inside)
    of_edges = np.zeros(len(sources))
    of_edges[inside] = edge_influence(within, influence(within))
    plain = inside & ~is_bias[sources]
    keep = inside & (of_edges >= _threshold(of_edges[plain], edge))
    kept |= is_bias
    while True:  # drop what leads nowhere or comes from nowhere
        has_output = np.bincount(sources[keep], minlength=len(kind)) > 0
        has_input = np.bincount(targets[keep & ~is_bias[sources]], minlength=len(kind)) > 0
        ok = always | (has_output & (has_input | (kind != kinds.FEATURE)))
        if not (kept & ~ok).any():
            break
        kept &= ok
        keep &= kept[targets] & kept[sources]
    return _cut(graph, kept, keep, {"node": node, "edge": edge, "max_nodes": max_nodes})


def _cut(graph: AttributionGraph, kept: Mask, keep: Mask, pruning: dict[str, Any]) -> AttributionGraph:
    """The graph of the kept nodes and edges, with a remainder node for every target whose inputs were cut."""
    n = len(graph.nodes)
    targets = np.repeat(np.arange(n), np.diff(graph.edges.indptr))
    weight = graph.edges.data.astype(np.float64)
    lost = _remainders(graph, targets, weight, keep)
    was_cut = np.bincount(targets[~keep], minlength=n) > 0
    with_remainder = np.flatnonzero(kept & was_cut & graph.nodes.has_inputs)
    first_target = int(np.argmax(graph.nodes.has_inputs)) if graph.nodes.has_inputs.any() else n
    rows = np.flatnonzero(kept)
    before, after = rows[rows < first_target], rows[rows >= first_target]

    new = np.full(n, -1)
    new[before] = np.arange(len(before))
    new[after] = len(before) + len(with_remainder) + np.arange(len(after))
    nodes = graph.nodes
    remainder = table(kinds.REMAINDER, nodes.layer[with_remainder], nodes.position[with_remainder], new[with_remainder])
    row = np.concatenate([new[targets[keep]], new[with_remainder]])
    column = np.concatenate([new[graph.edges.indices[keep]], len(before) + np.arange(len(with_remainder))])
    data = np.concatenate([graph.edges.data[keep], lost[with_remainder].astype(np.float32)])
    size = len(rows) + len(with_remainder)
    edges = csr_array((data, (row, column)), shape=(size, size))
    edges.sort_indices()
    parts = [nodes[before], remainder, nodes[after]] if len(with_remainder) else [nodes[before], nodes[after]]
    cut = replace(graph, nodes=concatenate(parts), edges=edges, pruning=pruning, accounting=graph.accounting)
    return replace(cut, accounting=account(cut))


def _remainders(graph: AttributionGraph, targets: npt.NDArray[np.int64], weight: Vector, keep: Mask) -> Vector:
    """What each target's kept inputs lack of its pre-activation, [N]: the sum of its pruned inputs.

    The two are compared, at the scale of all of its inputs: where large inputs cancel and were pruned, their sum is
    rounding next to a small pre-activation, and the sums of the pruned graph would hold only to that.
    """
    n, pre = len(graph.nodes), graph.nodes.pre_activation.astype(np.float64)
    lost = np.bincount(targets[~keep], weights=weight[~keep], minlength=n)
    rest = pre - np.bincount(targets[keep], weights=weight[keep], minlength=n)
    size = np.maximum(np.abs(pre), np.bincount(targets, weights=np.abs(weight), minlength=n))
    agree = np.abs(rest - lost) <= 1e-4 * np.maximum(size, 1e-30)
    return np.where(agree, rest, lost)  # where they do not agree, or nothing is known to sum to, `account` decides


def account(graph: AttributionGraph, tolerance: float = 1e-4) -> dict[str, Any]:
    """The law, for every feature and logit of a graph: {"nodes", "max_error"}. Raises CutawayError where it fails."""
    # A graph read from another tool knows no pre-activations.
    rows = np.flatnonzero(graph.nodes.has_inputs & np.isfinite(graph.nodes.pre_activation))
    if not len(rows):
        return {"nodes": 0, "max_error": None}
    data = csr_array((graph.edges.data.astype(np.float64), graph.edges.indices, graph.edges.indptr), graph.edges.shape)
    total, size = data.sum(1)[rows], abs(data).sum(1)[rows]
    pre = graph.nodes.pre_activation[rows].astype(np.float64)
    error = np.abs(total - pre) / np.maximum(np.maximum(np.abs(pre), size), 1e-30)
    worst = int(error.argmax())
    if not error[worst] <= tolerance:
        raise CutawayError(
            f"The inputs of node {graph.nodes[rows].ids()[worst]} sum to {total[worst]:.6g}; its pre-activation is "
            f"{pre[worst]:.6g} (relative error {error[worst]:.2g}, at most {tolerance:g})."
        )
    return {"nodes": len(rows), "max_error": float(error[worst])}


def cumulative(values: Vector) -> Vector:
    """For each value, the share of the total held by it and all larger ones: what a viewer's slider compares with."""
    order = np.argsort(-values, kind="stable")
    total = values.sum()
    share = np.empty(len(values))
    share[order] = np.cumsum(values[order]) / total if total > 0 else 1.0
    return np.minimum(share, 1.0)


def subgraph(graph: AttributionGraph, node_ids: list[str]) -> AttributionGraph:
    """The graph of the named nodes, the embeddings and the logits, everything else in remainders."""
    kept = (graph.nodes.kind == kinds.EMBEDDING) | (graph.nodes.kind == kinds.LOGIT)
    kept[[graph.row(name) for name in node_ids]] = True
    targets = np.repeat(np.arange(len(kept)), np.diff(graph.edges.indptr))
    keep = kept[targets] & kept[graph.edges.indices]
    return _cut(graph, kept, keep, {**graph.pruning, "subgraph": list(node_ids)})


def _flows(graph: AttributionGraph, biases: bool) -> tuple[csr_array, Vector]:
    """(|edges| without those from biases unless wanted, each target's sum of them, at least a tiny number)."""
    data = np.abs(graph.edges.data).astype(np.float64)
    if not biases:
        data[graph.nodes.kind[graph.edges.indices] == kinds.BIAS] = 0
    flows = csr_array((data, graph.edges.indices, graph.edges.indptr), shape=graph.edges.shape)
    return flows, np.maximum(flows.sum(1), _NOTHING)


def _influence(graph: AttributionGraph, flows: csr_array, size: Vector, weights: Vector) -> Vector:
    back = cast(csr_array, flows.T)
    total, step = np.zeros(len(weights)), weights
    for _ in range(graph.n_layers + 1):
        step = back @ (step / size)
        if not step.any():
            break
        total = total + step
    return total


def _threshold(values: Vector, share: float) -> float:
    """The smallest value among the largest ones that together hold `share` of the sum."""
    largest, total = float(values.max(initial=0.0)), float(values.sum())
    if total <= 0:
        return 0.0
    wanted = share * total * (1 - 1e-12)
    # Bins of 1/64 of an octave narrow the search in one pass; only the bin that the sum crosses is sorted.
    with np.errstate(divide="ignore"):
        bins = np.minimum(-64 * np.log2(values / largest), _BINS).astype(np.int32)
    running = np.bincount(bins, weights=values, minlength=_BINS + 1).cumsum()
    at = int(np.searchsorted(running, wanted))
    inside = np.sort(values[bins == min(at, _BINS)])[::-1]
    above = running[at - 1] if at else 0.0
    return float(inside[min(int(np.searchsorted(above + np.cumsum(inside), wanted)), len(inside) - 1)])


def _with_edges(graph: AttributionGraph, keep: Mask) -> AttributionGraph:
    targets = np.repeat(np.arange(len(graph.nodes)), np.diff(graph.edges.indptr))[keep]
    pointers = np.concatenate([[0], np.bincount(targets, minlength=len(graph.nodes)).cumsum()])
    edges = csr_array((graph.edges.data[keep], graph.edges.indices[keep], pointers), shape=graph.edges.shape)
    return replace(graph, edges=edges)


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b > 0 else float("nan")
