"""Measured effects are what a hand-made ablation of the same module gives; frozen, they are the graph's edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from graphs.tiny_case import IDS, N_LAYERS, D, build_model, random_dictionary

from cutaway.graphs import measure as ms
from cutaway.graphs import nodes as kinds
from cutaway.graphs.trace import graph_of


@pytest.fixture(scope="module", params=["llama-plt", "llama-clt", "gpt2-clt"])
def case(request):
    family, kind = request.param.split("-")
    model, dictionary = build_model(family), random_dictionary(kind)
    graph = graph_of(model, IDS, dictionary, target=7)
    return model, dictionary, graph, ms.Readout(6, 7)


def features_of(graph):
    return np.flatnonzero(graph.nodes.kind == kinds.FEATURE)


def by_hand(model, dictionary, graph, features):
    """Logits with the features taken out by plain PyTorch hooks on the MLP modules."""
    mlps = [m for n, m in model.hf.named_modules() if n.endswith(".mlp")]
    removed = torch.zeros(N_LAYERS, IDS.shape[1], D)
    for f in features:
        layer, position, index, a = (getattr(graph.nodes, c)[f] for c in ("layer", "position", "feature", "activation"))
        for to in dictionary.writes(int(layer)):
            removed[to, position] += float(a) * dictionary.layers[layer].W_dec[index, to - layer]
    hooks = [m.register_forward_hook(lambda _, __, y, to=to: y - removed[to]) for to, m in enumerate(mlps)]
    try:
        return model.hf(IDS).logits
    finally:
        for hook in hooks:
            hook.remove()


def test_effects_on_the_target_are_those_of_a_hand_made_ablation(case):
    model, dictionary, graph, readout = case
    chosen = features_of(graph)[::5]
    measured = ms.measure_target(model, IDS, ms.ablations(dictionary, graph.nodes, chosen), readout)
    clean = readout(model.hf(IDS).logits)
    expected = [float(clean - readout(by_hand(model, dictionary, graph, [f]))) for f in chosen]
    assert measured == pytest.approx(expected, abs=2e-5)
    assert np.abs(measured).max() > 1e-3


def test_features_are_taken_out_together_where_they_share_a_row(case):
    model, dictionary, graph, readout = case
    chosen = features_of(graph)[:6]
    changes = ms.ablations(dictionary, graph.nodes, chosen, row=np.array([0, 0, 0, 1, 1, 2]))
    measured = ms.measure_probability(model, IDS, changes, readout)
    clean = model.hf(IDS).logits[0, 6].softmax(-1)[7]
    for row, group in enumerate((chosen[:3], chosen[3:5], chosen[5:])):
        ablated = by_hand(model, dictionary, graph, group)[0, 6].softmax(-1)[7]
        assert measured[row] == pytest.approx(float(clean - ablated), abs=1e-6)


def test_with_everything_frozen_the_edges_hold(case):
    model, dictionary, graph, _ = case
    source, target = edges_of(graph, 60)
    direct = ms.direct_effects(model, dictionary, IDS, graph.nodes, source, target)
    weight = np.asarray(graph.edges[target, source]).ravel().astype(float)
    assert direct == pytest.approx(weight, abs=1e-4 * float(np.abs(weight).max()))
    unfrozen = ms.measure_edges(model, dictionary, IDS, graph.nodes, source, target)
    assert np.abs(unfrozen - weight).max() > 0.01 * np.abs(weight).max()  # the real model does something else


def test_edges_are_measured_at_the_targets_encoder(case):
    model, dictionary, graph, _ = case
    source, target = edges_of(graph, 25)
    measured = ms.measure_edges(model, dictionary, IDS, graph.nodes, source, target)
    mlps = [m for n, m in model.hf.named_modules() if n.endswith(".mlp")]

    def pre_activations(features):
        seen = {}
        hooks = [m.register_forward_pre_hook(lambda _, a, i=i: seen.setdefault(i, a[0])) for i, m in enumerate(mlps)]
        by_hand(model, dictionary, graph, features)
        for hook in hooks:
            hook.remove()
        return [dictionary.pre_activations(i, seen[i][0]) for i in range(N_LAYERS)]

    clean = pre_activations([])
    for i in range(0, len(source), 6):
        layer, position, feature = (getattr(graph.nodes, c)[target[i]] for c in ("layer", "position", "feature"))
        moved = clean[layer] - pre_activations([source[i]])[layer]
        assert measured[i] == pytest.approx(float(moved[position, feature]), abs=2e-5)


def test_nothing_reaches_back_in_time_or_up_the_layers(case):
    model, dictionary, graph, _ = case
    nodes, every = graph.nodes, features_of(graph)
    source = every[nodes.position[every] == 4][:3]
    earlier = every[nodes.position[every] == 2][:3]
    assert ms.measure_edges(model, dictionary, IDS, nodes, source, earlier) == pytest.approx(0, abs=1e-6)
    last, first = every[nodes.layer[every] == N_LAYERS - 1][:3], every[nodes.layer[every] == 0][-3:]
    assert ms.measure_edges(model, dictionary, IDS, nodes, last, first) == pytest.approx(0, abs=1e-6)


def test_chunks_do_not_matter(case, monkeypatch):
    model, dictionary, graph, readout = case
    chosen = features_of(graph)[:20]
    changes = ms.ablations(dictionary, graph.nodes, chosen)
    whole = ms.measure_target(model, IDS, changes, readout)
    forwards = []
    run = type(model).run
    monkeypatch.setattr(type(model), "run", lambda self, p, *a, **k: forwards.append(p.shape) or run(self, p, *a, **k))
    small = [readout(r.logits) for _, r in ms.runs(model, IDS, changes, max_bytes=60_000)]
    assert len(forwards) > 3
    clean = readout(model.hf(IDS).logits)
    assert whole == pytest.approx((clean - torch.cat(small)).numpy(), abs=1e-5)


def test_random_directions_have_the_same_norms_at_the_same_places(case):
    _, dictionary, graph, _ = case
    chosen = features_of(graph)[:15]
    real = ms.ablations(dictionary, graph.nodes, chosen).dense(0, 15, 7)
    null = ms.ablations(dictionary, graph.nodes, chosen, directions="random", seed=3).dense(0, 15, 7)
    assert real.keys() == null.keys()
    for point in real:
        assert torch.allclose(real[point].norm(dim=-1), null[point].norm(dim=-1), rtol=1e-4, atol=1e-6)
        moved = real[point].norm(dim=-1) > 0
        assert torch.cosine_similarity(real[point][moved], null[point][moved]).abs().mean() < 0.5


def test_holding_patterns_and_norms_holds_them(case):
    """With both held, a last-layer feature reaches the logits along its direct edge alone."""
    model, dictionary, graph, readout = case
    every = features_of(graph)
    last = every[(graph.nodes.layer[every] == N_LAYERS - 1) & (graph.nodes.position[every] == 6)]
    held = ms.measure_target(model, IDS, ms.ablations(dictionary, graph.nodes, last), readout, hold=("pattern", "norm"))
    direct = graph.edges.toarray()[graph.logit_rows[0], last].astype(float)
    assert held == pytest.approx(direct, abs=1e-4)


def test_the_norm_of_what_is_written(case):
    _, dictionary, graph, _ = case
    chosen = features_of(graph)[:9]
    dense = ms.ablations(dictionary, graph.nodes, chosen).dense(0, 9, 7)
    whole = torch.stack(list(dense.values())).pow(2).sum((0, 2, 3)).sqrt()
    assert ms.written(dictionary, graph.nodes, chosen) == pytest.approx(whole.numpy(), rel=1e-5)


def test_the_readout_is_the_graphs_target():
    model, dictionary = build_model("llama"), random_dictionary("plt")
    logits = model.hf(IDS).logits
    against_mean = graph_of(model, IDS, dictionary, target=7)
    assert float(ms.Readout(6, 7)(logits)[0]) == pytest.approx(
        float(against_mean.nodes.pre_activation[against_mean.logit_rows[0]]), abs=1e-4
    )
    contrast = graph_of(model, IDS, dictionary, contrast=(7, 11))
    assert float(ms.Readout(6, 7, 11)(logits)[0]) == pytest.approx(
        float(contrast.nodes.pre_activation[contrast.logit_rows[0]]), abs=1e-4
    )
    capped = 30 * torch.tanh(logits / 30)
    assert float(ms.Readout(6, 7, softcap=30.0)(capped)) == pytest.approx(float(ms.Readout(6, 7)(logits)), abs=1e-4)


def edges_of(graph, count):
    """Some (source, target) pairs of features, the strongest and others."""
    edges = graph.edges.tocoo()
    both = (graph.nodes.kind[edges.row] == kinds.FEATURE) & (graph.nodes.kind[edges.col] == kinds.FEATURE)
    source, target, weight = edges.col[both], edges.row[both], np.abs(edges.data[both])
    order = np.argsort(-weight)
    picked = np.concatenate([order[: count // 2], order[:: max(1, len(order) // (count // 2))]])
    return source[picked].astype(np.int64), target[picked].astype(np.int64)
