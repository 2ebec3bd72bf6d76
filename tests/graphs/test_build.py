"""Every node's inputs sum to its pre-activation, and every edge is the Jacobian of the frozen model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from graphs.random_case import FAMILIES, IDS, built, dictionary, path
from model.families import module

from cutaway.core import CutawayError, InputError
from cutaway.graphs import nodes as kinds
from cutaway.graphs import targets
from cutaway.graphs.build import build

WAYS = {
    "plt": ("plt", False, "mlp_in", "mlp_out"),
    "clt": ("clt", False, "mlp_in", "mlp_out"),
    "skip": ("plt", True, "mlp_in", "mlp_out"),
    "un-normed input, normed output": ("clt", True, "resid_mid", "mlp_out_post"),
    "before the gain": ("plt", True, "mlp_normalized", "mlp_out"),
}


PARALLEL = ("gpt_neox", "falcon")  # no stream between attention and MLP


def way(family, name):
    kind, skip, read, write = WAYS[name]
    return kind, skip, "mlp_in" if family in PARALLEL and read == "resid_mid" else read, write


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("family", [*FAMILIES, "falcon", "olmo2", "bloom", "opt", "granite"])
def test_inputs_sum_to_the_pre_activation_of_every_node(family, name):
    if name == "before the gain" and family == "olmo2":
        pytest.skip("no norm before the MLP")
    graph = built(family, *way(family, name))
    targets_ = graph.nodes.has_inputs
    assert graph.accounting.nodes == targets_.sum() > 40
    assert graph.accounting.max_error < 1e-6
    total = graph.adjacency.sum(1)[targets_]
    assert np.allclose(total, graph.nodes.pre_activation[targets_], atol=1e-3)  # columns are float32
    assert (graph.nodes.position[graph.nodes.kind == kinds.FEATURE] == 0).any()
    source = np.repeat(np.arange(len(graph.nodes)), np.diff(graph.adjacency.indptr))
    assert (graph.adjacency.indices < source).all()  # edges point forward


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_edges_are_jacobians_of_the_frozen_model(family, name):
    kind, skip, read, write = way(family, name)
    here, graph = path(family, read, write), built(family, kind, skip, read, write)
    coder, nodes = dictionary(family, kind, skip, read, write), graph.nodes
    rows = np.flatnonzero(nodes.kind == kinds.FEATURE)
    layer, position, feature = (torch.tensor(c[rows]) for c in (nodes.layer, nodes.position, nodes.feature))
    activation = torch.stack([coder.activations(m, here.mlp_input(m)) for m in range(here.n_layers)])

    # The frozen model as a function of how strongly each active feature and each error writes; all 1 on the prompt.
    strength = torch.ones(len(rows), dtype=torch.float64, requires_grad=True)
    errors = torch.ones(here.n_layers, len(IDS), dtype=torch.float64, requires_grad=True)

    def written(to):
        total = torch.zeros(len(IDS), here.d_model, dtype=torch.float64)
        for m in range(to + 1):
            if to in coder.writes(m):
                at = (layer == m).nonzero().flatten()
                a = activation[m, position[at], feature[at]] * strength[at]
                total = total.index_add(0, position[at], a[:, None] * coder.decoder_rows(m, feature[at], to))
        return total + coder.output_bias(to)

    inputs = []

    def mlp(to, x):
        inputs.append(x)
        skipped = coder.skip(to)
        extra = 0 if skipped is None else skipped
        error = here.mlp_output(to) - written(to).detach()
        if skipped is not None:
            error = error - here.mlp_input(to) @ extra.T
        return written(to) + errors[to][:, None] * error + (x @ extra.T if skipped is not None else 0)

    _, logits = here.forward(mlp)
    above = rows[nodes.layer[rows] > 0]  # on a parallel block's first layer nothing but the embedding has an effect
    for row in np.random.default_rng(0).choice(above, 6, replace=False):
        m, p, f = int(nodes.layer[row]), int(nodes.position[row]), int(nodes.feature[row])
        pre = inputs[m][p] @ coder.W_enc[m][f] + coder.b_enc[m][f]
        assert float(pre.detach()) == pytest.approx(float(nodes.pre_activation[row]), rel=1e-5)
        compare(graph, row, rows, pre, strength, errors)
    for row in np.flatnonzero(nodes.kind == kinds.LOGIT)[:2]:
        value = logits[-1, nodes.feature[row]] - logits[-1].mean()
        compare(graph, row, rows, value, strength, errors)


def compare(graph, row, features, value, strength, errors):
    """The row of the adjacency against gradients with respect to every feature's and error's strength."""
    by_feature, by_error = torch.autograd.grad(value, (strength, errors), retain_graph=True, allow_unused=True)
    dense = graph.adjacency[[row]].toarray()[0]
    scale = np.abs(dense).max()
    wanted = np.zeros(len(features)) if by_feature is None else by_feature.numpy()
    assert np.allclose(dense[features], wanted, atol=1e-6 * scale)
    error_rows = np.flatnonzero(graph.nodes.kind == kinds.ERROR)
    wanted = np.zeros((errors.shape[0], errors.shape[1])) if by_error is None else by_error.numpy()
    assert np.allclose(dense[error_rows], wanted.T.reshape(-1), atol=1e-6 * scale)


def test_doubling_a_source_moves_each_target_by_its_edge():
    here, graph, coder = path("llama"), built("llama", "clt"), dictionary("llama", "clt")
    nodes = graph.nodes
    row = int(np.flatnonzero((nodes.kind == kinds.FEATURE) & (nodes.layer == 0) & (nodes.position == 2))[0])
    feature, activation = torch.tensor([nodes.feature[row]]), float(nodes.activation[row])
    inputs = []

    def doubled(to, x):
        inputs.append(x)
        y = here.mlp_output(to).clone()
        y[2] += activation * coder.decoder_rows(0, feature, to)[0]
        return y

    _, logits = here.forward(doubled)
    column = graph.adjacency[:, [row]].toarray()[:, 0]
    for target in np.flatnonzero(nodes.kind == kinds.FEATURE):
        layer, position = int(nodes.layer[target]), int(nodes.position[target])
        moved = (inputs[layer][position] - here.mlp_input(layer)[position]) @ coder.W_enc[layer][nodes.feature[target]]
        assert float(moved) == pytest.approx(float(column[target]), abs=1e-5)
    moved = (logits - here.logits)[-1]
    logit = np.flatnonzero(nodes.kind == kinds.LOGIT)[0]
    assert float(moved[nodes.feature[logit]] - moved.mean()) == pytest.approx(float(column[logit]), abs=1e-5)


def test_a_contrast_is_the_difference_of_two_targets():
    here, coder = path("gpt2"), dictionary("gpt2", "clt")
    a, b = (build(here, coder, targets.token(here, token)).adjacency[[-1]].toarray()[0] for token in (5, 9))
    both = build(here, coder, targets.contrast(here, 5, 9)).adjacency[[-1]].toarray()[0]
    assert np.allclose(both, a - b, atol=1e-6 * np.abs(a).max())


def test_logit_nodes_are_the_smallest_set_with_the_mass():
    here = path("llama")
    p = here.logits[-1].softmax(-1).sort(descending=True).values
    few = targets.likely(here, mass=float(p[:3].sum()) - 1e-6, at_most=10)
    assert len(few.tokens) == 3
    assert len(targets.likely(here, mass=0.999999, at_most=10).tokens) == 10
    assert torch.allclose(few.probabilities, p[:3])


def test_unexplored_features_count_as_error_and_sums_still_hold():
    here, coder = path("gemma2"), dictionary("gemma2", "clt")
    logits = targets.likely(here)
    whole, part = build(here, coder, logits), build(here, coder, logits, max_features=25)
    assert part.accounting.max_error < 1e-6
    assert (part.nodes.kind == kinds.FEATURE).sum() == 25
    assert part.n_unexplored == part.n_active - 25 > 0
    names = {name: row for row, name in enumerate(whole.nodes.ids())}
    rows = np.array([names[name] for name in part.nodes.ids()])
    a, b = part.adjacency.toarray(), whole.adjacency[rows].toarray()
    plain = part.nodes.kind != kinds.ERROR
    assert np.allclose(a[:, plain], b[:, rows[plain]], atol=1e-6)
    hidden = np.setdiff1d(np.flatnonzero(whole.nodes.kind == kinds.FEATURE), rows)
    for column in np.flatnonzero(~plain):
        at = hidden[
            (whole.nodes.layer[hidden] == part.nodes.layer[column])
            & (whole.nodes.position[hidden] == part.nodes.position[column])
        ]
        assert np.allclose(a[:, column], b[:, rows[column]] + b[:, at].sum(1), atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_chunks_and_threads_change_nothing(threads):
    here, coder = path("llama"), dictionary("llama", "plt", True)
    before, whole = torch.get_num_threads(), built("llama", "plt", True)
    torch.set_num_threads(threads)
    try:
        small = build(here, coder, targets.likely(here), max_bytes=1)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert np.allclose(small.adjacency.toarray(), whole.adjacency.toarray(), atol=1e-7)


def test_ids_are_unique_and_say_what_a_node_is():
    names = built("gpt2", "clt").nodes.ids()
    assert len(set(names)) == len(names)
    assert {"E_7_0", "E_3_1", "E_3_4", "0_-1_0", "2_-1_6", "B_0_attn_*", "B_E_position_3"} <= set(names)


def test_a_broken_encoder_is_told_by_its_node():
    here, coder = path("llama"), dictionary("llama", "plt")

    class Broken(type(coder)):
        def pre_activations(self, layer, x):
            return super().pre_activations(layer, x) + (0.5 if layer == 1 else 0)

    with pytest.raises(CutawayError, match="of layer 1 at position"):
        build(here, Broken("plt", 3, 48, 48), targets.likely(here))


def test_a_dictionary_of_another_shape_is_refused():
    here = path("llama")
    with pytest.raises(InputError, match="2 layers; this one has 3"):
        build(here, type(dictionary("llama", "plt"))("plt", 2, 48, 48), targets.likely(here))
    with pytest.raises(InputError, match="vectors of 40"):
        build(here, type(dictionary("llama", "plt"))("plt", 3, 40, 48), targets.likely(here))


def test_targets_outside_the_vocabulary_or_prompt_are_refused():
    here = path("llama")
    with pytest.raises(InputError, match="vocabulary of 101"):
        targets.token(here, 101)
    with pytest.raises(InputError, match="different tokens"):
        targets.contrast(here, 4, 4)
    with pytest.raises(InputError, match="7 tokens"):
        targets.likely(here, position=7)


def test_an_input_at_a_right_angle_to_a_feature_is_no_failure_of_the_sums():
    """In float32 such a pre-activation is rounding alone, and so is the sum of its inputs: they agree in no digit."""
    import cutaway as cw
    from cutaway.graphs.influence import account

    model = cw.load(module("gpt_neox").float())
    x = model.run(IDS[None], read=["mlp_in.0"])["mlp_in.0"][0, 3]
    weight, bias = (
        model.hf.gpt_neox.layers[0].mlp.dense_h_to_4h.weight,
        model.hf.gpt_neox.layers[0].mlp.dense_h_to_4h.bias,
    )
    with torch.no_grad():
        weight -= torch.outer(weight @ x, x) / (x @ x)
        bias.zero_()
    graph = cw.trace(model, IDS[None], dictionary="neurons", quick=True)
    assert graph.accounting["max_error"] < 1e-4
    assert account(graph) == graph.accounting  # as a reader of the file will check it
