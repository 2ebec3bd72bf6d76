"""Set directly, features move the logits by their edges; set freely, as a hand-made hook does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from graphs.random_case import IDS, dictionary, model

from cutaway.core import InputError
from cutaway.graphs import nodes as kinds
from cutaway.graphs.interventions import SetFeature, feature_effects, set_features
from cutaway.graphs.trace import graph_of


@pytest.fixture(scope="module", params=["llama-plt", "gpt2-clt", "gpt_neox-clt"])
def case(request):
    family, kind = request.param.split("-")
    loaded, coder = model(family), dictionary(family, kind)
    return loaded, coder, graph_of(loaded, IDS, coder, contrast=(5, 9)), loaded.run(IDS[None])


def some_features(graph, n=12):
    rows = np.flatnonzero(graph.nodes.kind == kinds.FEATURE)
    rows = rows[:: max(1, len(rows) // n)]
    return rows, [
        SetFeature(int(graph.nodes.layer[r]), int(graph.nodes.position[r]), int(graph.nodes.feature[r])) for r in rows
    ]


def test_taken_out_directly_a_feature_moves_the_logits_by_its_edge(case):
    loaded, coder, graph, run = case
    rows, features = some_features(graph)
    moved = feature_effects(loaded, coder, run, features, "direct")
    edge = graph.edges[[int(graph.logit_rows[0])]].toarray()[0][rows]
    assert np.allclose((moved[:, 5] - moved[:, 9]).numpy(), -edge, atol=1e-4 * np.abs(edge).max())


def test_doubled_directly_it_moves_them_by_its_edge(case):
    loaded, coder, graph, run = case
    rows, features = some_features(graph, 5)
    doubled = [SetFeature(f.layer, f.position, f.feature, 2 * float(graph.nodes.activation[r]))
               for f, r in zip(features, rows)]  # fmt: skip
    moved = feature_effects(loaded, coder, run, doubled, "direct")
    edge = graph.edges[[int(graph.logit_rows[0])]].toarray()[0][rows]
    assert np.allclose((moved[:, 5] - moved[:, 9]).numpy(), edge, atol=1e-4 * np.abs(edge).max())


def mlps(loaded):
    return [loaded.architecture.block(layer).mlp for layer in range(loaded.facts.n_layers)]


def test_free_interventions_are_those_of_plain_hooks(case):
    """Two features of different layers: the upper one's activation is taken as the lower one has moved it."""
    loaded, coder, graph, run = case
    _, features = some_features(graph)
    chosen = [features[0], features[-1]]
    assert chosen[0].layer < chosen[1].layer or chosen[0].position < chosen[1].position
    chosen = [SetFeature(f.layer, f.position, f.feature, 1.5) for f in chosen]
    found = next(iter(set_features(loaded, coder, run, [chosen], attention_held=False)))[1].logits[0]

    pending, inputs, handles = {}, {}, []

    def before(layer):
        def hook(_, args):
            inputs[layer] = args[0][0]
            for item in (f for f in chosen if f.layer == layer):
                x = inputs[layer][item.position][None]
                step = item.value - coder.activations(layer, x)[0, item.feature]
                for to in coder.writes(layer):
                    row = step * coder.decoder_rows(layer, torch.tensor([item.feature]), to)[0]
                    pending.setdefault(to, []).append((item.position, row))

        return hook

    def after(layer):
        def hook(_, __, y):
            y = y.clone()
            for position, row in pending.get(layer, []):
                y[0, position] += row
            return y

        return hook

    for layer, mlp in enumerate(mlps(loaded)):
        handles += [mlp.register_forward_pre_hook(before(layer)), mlp.register_forward_hook(after(layer))]
    with torch.no_grad():
        wanted = loaded.hf(IDS[None]).logits[0]
    for handle in handles:
        handle.remove()
    assert torch.allclose(found, wanted, atol=1e-5)
    assert float((found - run.logits[0]).abs().max()) > 1e-3


def test_constrained_through_the_last_layer_holds_every_mlp(case):
    """Held patterns and outputs: MLP outputs are the prompt's own plus what the feature writes."""
    loaded, coder, graph, run = case
    rows, (feature, *_) = some_features(graph)
    points = [f"mlp_out.{layer}" for layer in range(coder.n_layers)]
    base = run.again(read=points)
    last = coder.n_layers - 1
    ((_, done),) = set_features(loaded, coder, run, [[feature]], "constrained", through=last, read=points)
    for to in range(feature.layer, coder.n_layers):
        moved = done[points[to]][0] - base[points[to]][0]
        wanted = torch.zeros_like(moved)
        if to in coder.writes(feature.layer):
            row = coder.decoder_rows(feature.layer, torch.tensor([feature.feature]), to)[0]
            wanted[feature.position] = -float(graph.nodes.activation[rows[0]]) * row
        assert torch.allclose(moved, wanted, atol=1e-4)


def test_rows_are_independent_however_they_are_batched(case):
    loaded, coder, graph, run = case
    _, features = some_features(graph)
    whole = feature_effects(loaded, coder, run, features)
    pieces = feature_effects(loaded, coder, run, features, batch=3)
    alone = feature_effects(loaded, coder, run, features[4:5])
    assert torch.allclose(whole, pieces, atol=1e-6)
    assert torch.allclose(whole[4], alone[0], atol=1e-6)


def test_setting_a_feature_to_its_own_value_changes_nothing(case):
    loaded, coder, graph, run = case
    rows, features = some_features(graph, 4)
    kept = [
        SetFeature(f.layer, f.position, f.feature, float(graph.nodes.activation[r])) for f, r in zip(features, rows)
    ]
    for mode in ("iterative", "constrained", "direct"):
        assert float(feature_effects(loaded, coder, run, kept, mode).abs().max()) < 1e-4


def test_what_lies_outside_is_refused(case):
    loaded, coder, _, run = case
    with pytest.raises(InputError, match="position must be 0 … 6"):
        feature_effects(loaded, coder, run, [SetFeature(0, 7, 1)])
    with pytest.raises(InputError, match="nearest: iterative"):
        feature_effects(loaded, coder, run, [SetFeature(0, 1, 1)], "iterativ")
    with pytest.raises(InputError, match="one prompt"):
        feature_effects(loaded, coder, loaded.run(IDS[None].expand(2, -1)), [SetFeature(0, 1, 1)])
