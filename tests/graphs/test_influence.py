"""Influence, pruning and scores against dense formulas; sums after pruning; effects that conserve the target."""

from __future__ import annotations

import numpy as np
import pytest
from graphs.random_case import IDS, dictionary, model
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_array

from cutaway.core import CutawayError, InputError
from cutaway.graphs import nodes as kinds
from cutaway.graphs.graph import AttributionGraph
from cutaway.graphs.influence import (
    _threshold,
    account,
    cumulative,
    influence,
    node_weights,
    prune,
    scores,
    total_effects,
)
from cutaway.graphs.nodes import concatenate, table
from cutaway.graphs.trace import graph_of


def small_graph(nodes, dense, n_layers=2, probabilities=(1.0,)):
    return AttributionGraph(
        nodes=nodes,
        edges=csr_array(np.array(dense, dtype=np.float32)),
        prompt="x",
        tokens=(1,),
        token_strings=("x",),
        logit_strings=tuple(str(i) for i in range(len(probabilities))),
        probabilities=np.array(probabilities, dtype=np.float32),
        weights=np.array(probabilities, dtype=np.float32),
        target={"kind": "likely", "position": 0, "tokens": [1]},
        accounting={"nodes": 0, "max_error": None},
        n_layers=n_layers,
        n_active=1,
    )


def toy():
    """token -> feature -> logit <- error, half of the logit's input each."""
    nodes = concatenate(
        [
            table(kinds.EMBEDDING, -1, 0, 1),
            table(kinds.ERROR, 0, 0, -1),
            table(kinds.FEATURE, 0, 0, 3, 2.0, 2.0),
            table(kinds.LOGIT, 1, 0, 1, 0.0, 2.0),
        ]
    )
    return small_graph(nodes, [[0, 0, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0], [0, 1, 1, 0]], n_layers=1)


def test_completeness_counts_only_targets_with_inputs():
    found = scores(toy())
    assert found.completeness == pytest.approx(2 / 3)
    assert found.completeness_as_published == pytest.approx(0.80)
    assert found.replacement == pytest.approx(0.5)


@pytest.fixture(scope="module", params=["llama-plt", "gpt2-clt", "gpt_neox-clt"])
def graph(request):
    family, kind = request.param.split("-")
    return graph_of(model(family), IDS, dictionary(family, kind))


def dense_influence(graph, biases):
    a = np.abs(graph.edges.toarray()).astype(np.float64)
    if not biases:
        a[:, graph.nodes.kind == kinds.BIAS] = 0
    a /= np.maximum(a.sum(1, keepdims=True), 1e-30)
    b = np.linalg.inv(np.eye(len(a)) - a) - np.eye(len(a))
    return a, node_weights(graph) @ b


@pytest.mark.parametrize("biases", [False, True])
def test_influence_is_the_sum_over_all_paths(graph, biases):
    _, wanted = dense_influence(graph, biases)
    found = influence(graph, biases=biases)
    plain = (graph.nodes.kind != kinds.BIAS) | biases
    assert np.allclose(found[plain], wanted[plain], atol=1e-9)


def test_scores_are_shares_of_influence(graph):
    kind = graph.nodes.kind
    for biases, suffix in ((False, ""), (True, "_with_biases")):
        a, power = dense_influence(graph, biases)
        explained = (kind == kinds.EMBEDDING) | ((kind == kinds.BIAS) & biases)
        replacement = power[explained].sum() / power[explained | (kind == kinds.ERROR)].sum()
        weight = (power + node_weights(graph)) * graph.nodes.has_inputs
        completeness = (weight * (1 - a[:, kind == kinds.ERROR].sum(1))).sum() / weight.sum()
        found = scores(graph)
        assert getattr(found, "replacement" + suffix) == pytest.approx(replacement, abs=1e-6)
        assert getattr(found, "completeness" + suffix) == pytest.approx(completeness, abs=1e-6)


def test_effects_of_sources_sum_to_the_target(graph):
    effect = total_effects(graph)
    target = graph.nodes.pre_activation[graph.logit_rows[np.argmax(graph.probabilities)]]
    sources = effect[~graph.nodes.has_inputs]
    assert sources.sum() == pytest.approx(float(target), abs=1e-4 * np.abs(sources).sum())


def test_effects_are_sums_over_signed_paths(graph):
    """F = (I - E^T D)^-1 E^T r with D = 1 / pre at features."""
    e = graph.edges.toarray().astype(np.float64)
    r = np.zeros(len(e))
    r[graph.logit_rows] = weights = np.linspace(-1, 1, graph.n_logits)
    d = np.where(graph.nodes.kind == kinds.FEATURE, 1 / graph.nodes.pre_activation.astype(np.float64), 0)
    wanted = np.linalg.solve(np.eye(len(e)) - e.T * d, e.T @ r)
    assert np.allclose(total_effects(graph, weights), wanted, atol=1e-8 * np.abs(wanted).max())


@pytest.mark.parametrize(("node", "edge"), [(0.8, 0.98), (0.5, 0.6), (0.98, 0.998)])
def test_pruned_sums_hold_with_remainders(graph, node, edge):
    cut = graph.pruned(node, edge)
    targets = cut.nodes.has_inputs
    assert cut.accounting["nodes"] == targets.sum()
    assert cut.accounting["max_error"] < 1e-5
    assert np.allclose(cut.edges.sum(1)[targets], cut.nodes.pre_activation[targets], atol=1e-3)
    assert len(cut.nodes) < len(graph.nodes) + targets.sum()
    assert (cut.nodes.kind == kinds.EMBEDDING).sum() == len(IDS)
    assert cut.n_logits == graph.n_logits
    rows = np.repeat(np.arange(len(cut.nodes)), np.diff(cut.edges.indptr))
    assert (cut.edges.indices < rows).all()
    whole = dict(zip(graph.nodes.ids(), graph.nodes.influence))
    names = cut.nodes.ids()
    assert all(cut.nodes.influence[i] == whole[n] for i, n in enumerate(names) if not n.startswith("R_"))
    assert {f"R_{names[t]}" for t in cut.nodes.feature[cut.nodes.kind == kinds.REMAINDER]} <= set(names)


def test_pruning_keeps_what_the_dense_definition_keeps(graph):
    """circuit-tracer's prune_graph in dense form, without bias nodes."""
    plain = graph.nodes.kind != kinds.BIAS
    a = graph.edges.toarray()[np.ix_(plain, plain)].astype(np.float64)
    kind, p = graph.nodes.kind[plain], node_weights(graph)[plain]

    def power(m):
        m = np.abs(m) / np.maximum(np.abs(m).sum(1, keepdims=True), 1e-10)
        return m, p @ (np.linalg.inv(np.eye(len(m)) - m) - np.eye(len(m)))

    def threshold(x, share):
        x = np.sort(x.reshape(-1))[::-1]
        return x[min(np.searchsorted(np.cumsum(x) / x.sum(), share), len(x) - 1)]

    fixed = (kind == kinds.EMBEDDING) | (kind == kinds.LOGIT)
    nodes = fixed | (power(a)[1] >= threshold(power(a)[1], 0.8))
    a = a * nodes[:, None] * nodes[None]
    share, through = power(a)
    strength = share * (through + p)[:, None]
    edges = strength >= threshold(strength, 0.98)
    while True:
        keep = nodes & (fixed | (edges.any(0) & (edges.any(1) | (kind != kinds.FEATURE))))
        if (keep == nodes).all():
            break
        nodes, edges = keep, edges & keep[:, None] & keep[None]
    cut = graph.pruned()
    kept = ~np.isin(cut.nodes.kind, (kinds.BIAS, kinds.REMAINDER))
    ids = np.array(graph.nodes.ids())[plain]
    assert set(np.array(cut.nodes.ids())[kept]) == set(ids[nodes])
    assert cut.edges[kept][:, kept].nnz == (edges & (strength > 0)).sum()


def test_a_subgraph_keeps_what_is_named_and_its_sums(graph):
    features = np.array(graph.nodes.ids())[graph.nodes.kind == kinds.FEATURE]
    some = graph.subgraph(list(features[::9]))
    assert set(features[::9]) <= set(some.nodes.ids())
    assert (some.nodes.kind == kinds.FEATURE).sum() == len(features[::9])
    assert some.accounting["max_error"] < 1e-5


def test_at_most_so_many_nodes(graph):
    cut = graph.pruned(0.99, 0.99, max_nodes=12)
    assert np.isin(cut.nodes.kind, (kinds.FEATURE, kinds.ERROR)).sum() <= 12


def test_pruning_twice_or_with_a_wrong_share_is_refused(graph):
    with pytest.raises(InputError, match="already"):
        graph.pruned().pruned()
    with pytest.raises(InputError, match=r"1\.5"):
        prune(graph, node=1.5)


def test_the_law_is_asserted(graph):
    broken = csr_array(graph.edges, copy=True)
    broken.data[-3:] *= 5
    with pytest.raises(CutawayError, match="sum to"):
        account(AttributionGraph(**{**vars(graph), "edges": broken}))


def test_a_graph_whose_errors_reach_nothing_scores_one(graph):
    edges = csr_array(graph.edges, copy=True)
    edges.data[graph.nodes.kind[edges.indices] == kinds.ERROR] = 0
    found = scores(AttributionGraph(**{**vars(graph), "edges": edges}))
    assert found.replacement == found.completeness == 1


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1e6, allow_nan=False, allow_subnormal=False)),
    st.floats(0.01, 1),
)
def test_a_threshold_keeps_the_fewest_values_that_hold_the_share(values, share):
    total = values.sum()
    kept = values[values >= _threshold(values, share)]
    assert kept.sum() >= share * total * (1 - 1e-9)
    if total > 0:  # without the smallest kept ones the share is not held
        less = kept[kept > kept.min()]
        assert less.sum() <= share * total * (1 + 1e-9)


def test_cumulative_shares_rise_with_rank():
    share = cumulative(np.array([1.0, 4.0, 3.0, 2.0]))
    assert np.allclose(share, [1.0, 0.4, 0.7, 0.9])
