"""Neurons as sources of their own, beside the rest of their MLP."""

from dataclasses import replace

import pytest
import torch
from circuits.circuit_case import model_of, task_of

import cutaway as cw
from cutaway.circuits import (
    Circuit,
    discover,
    exact,
    faithfulness,
    measure,
    measure_nodes,
    opened,
    path_patching,
    score_edges,
    score_neurons,
)
from cutaway.circuits.attribution import eap, eap_ig_activations, mask_ig
from cutaway.circuits.masked import masked_logits
from cutaway.circuits.optimal import optimal_constants
from cutaway.circuits.senders import ablated, record
from cutaway.core import InputError

NAMES = ("m0.n3", "m0.n11", "m1.n7")


@pytest.fixture(scope="module", params=["gpt2", "llama", "gpt_neox", "gemma2", "falcon", "olmo2"])
def models(request):
    model = model_of(request.param)
    return opened(model), opened(model, NAMES)


def test_messages_of_an_mlp_and_its_neurons_add_up(models):
    plain, apart = models
    assert apart.split.neurons == NAMES
    assert set(apart.split.feeds[apart.split.source("m0.n3")]) == {apart.split.destination("m0")}
    task = task_of()
    whole, parts = record(plain, task.clean).messages(plain), record(apart, task.clean).messages(apart)
    for layer in range(2):
        own = [s for s, name in enumerate(apart.split.sources) if name.partition(".n")[0] == f"m{layer}"]
        torch.testing.assert_close(parts[:, own].sum(1), whole[:, plain.split.source(f"m{layer}")])


def test_the_neuron_out_everywhere_is_the_neuron_patched(models):
    _, apart = models
    graph, task, model = apart.graph(), task_of(), apart.model
    if apart.layers[0].neurons.after is not None:
        return  # patching a neuron moves the scale of the norm after the MLP, its edges out do not
    out = graph.exists.clone()
    out[graph.source("m0.n11")] = False
    keep = torch.ones(1, len(graph.nodes), dtype=torch.bool)
    keep[0, graph.source("m0.n11")] = False
    other = model.run(task.counterfactual, read=["mlp_act.0"])["mlp_act.0"][..., 11:12]
    patched = model.run(task.clean, interventions=[cw.patch("mlp_act.0", other, neuron=11)])
    expected = task.metric(task.at_end(patched)).double()
    torch.testing.assert_close(measure(apart, graph, task, out, "resample"), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(measure_nodes(apart, task, keep, "resample")[0], expected, rtol=0, atol=1e-6)
    clean = task.metric(task.at_end(model.run(task.clean))).double()
    assert (clean - expected).abs().max() > 1e-7


@pytest.mark.parametrize("how", ["resample", "mean", "zero"])
def test_with_an_mlp_and_its_neurons_in_or_out_together_nothing_is_new(models, how):
    plain, apart = models
    task = task_of(lengths=[6, 5, 4])
    mask = torch.rand(plain.split.exists.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    owner = [plain.split.source(name.partition(".n")[0]) for name in apart.split.sources]
    torch.testing.assert_close(
        measure(apart, apart.split, task, mask[owner], how), measure(plain, plain.split, task, mask, how),
        rtol=0, atol=1e-6,
    )  # fmt: skip


def test_scores_of_the_parts_add_up_to_the_mlps(models):
    plain, apart = models
    task = task_of()
    owner = torch.tensor([plain.split.source(name.partition(".n")[0]) for name in apart.split.sources])
    for method in (eap, lambda w, t: eap_ig_activations(w, t, steps=2), lambda w, t: mask_ig(w, t, steps=2)):
        parts = method(apart, task)
        total = parts.new_zeros(len(task), len(plain.split.sources), parts.shape[-1]).index_add_(1, owner, parts)
        torch.testing.assert_close(total, method(plain, task), rtol=0, atol=1e-5)
        assert parts[:, apart.split.source("m0.n3")].abs().max() > 0


def test_a_neurons_edge_ablated_is_its_mask_out_and_its_path(models):
    plain, apart = models
    graph, task = apart.graph(), task_of()
    edges = graph.mask([("m0.n3", "logits"), ("m0.n11", "a2.h0<q>"), ("m1", "logits")])
    found = exact(apart, graph, task, edges=edges)[:, edges].T
    masks = torch.stack([graph.exists & ~graph.mask([pair]) for pair in graph.pairs(edges)])
    lost = measure(apart, graph, task, graph.exists, "resample") - measure(apart, graph, task, masks, "resample")
    torch.testing.assert_close(found, lost, rtol=0, atol=1e-6)
    path = path_patching(apart, task, ["m0.n3"], ["logits"], through="residual", null=0)
    torch.testing.assert_close(path.effect, found[graph.pairs(edges).index(("m0.n3", "logits"))], rtol=0, atol=1e-6)
    together = path_patching(apart, task, ["m0", "m0.n3", "m0.n11"], ["logits", "m2"], positions=["end"], null=0)
    whole = path_patching(plain, task, ["m0"], ["logits", "m2"], positions=["end"], null=0)
    torch.testing.assert_close(together.effect, whole.effect, rtol=0, atol=1e-6)
    known, at_end = record(apart, task.clean), torch.tensor([5, 5, 5])
    other, rows = ablated(apart, task, "resample")(torch.arange(3)), masks.double()
    straight = masked_logits(apart, task.clean, other, graph.ported(rows[0]), at_end)
    gone_on = masked_logits(apart, task.clean, other, graph.ported(rows[0]), at_end, known=known, first=1)
    torch.testing.assert_close(gone_on, straight, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["eap-qk", "atp-star", "relp", "hisp", "activation-patching", "information-flow"])
def test_every_other_method_scores_neurons(models, method):
    _, apart = models
    circuit = score_edges(apart, task_of(2), method, steps=2)
    assert bool(torch.isfinite(circuit.scores).all())
    scores = circuit.scores[circuit.graph.source("m0.n3")]
    assert bool(scores.any()) or method == "information-flow"


def test_a_circuit_with_the_best_neurons_is_found_judged_saved_and_measured_again(tmp_path):
    model, task = model_of("gpt2", double=False), task_of(n=12)
    found = discover(model, task, "eap", neurons=3, size=20, check="quick")
    best = [name for name, _ in score_neurons(model, task.take(_first_half(12)), check=0).top(3)]
    assert sorted(found.choices["neurons"]) == sorted(best)
    found.save(tmp_path / "circuit.json")
    again = Circuit.load(tmp_path / "circuit.json")
    assert again.graph.neurons == found.graph.neurons
    assert "neurons apart" in str(found)
    value = faithfulness(model, again, task).estimate.value
    assert value == pytest.approx(faithfulness(opened(model, best), found, task).estimate.value)
    with pytest.raises(InputError, match="components"):
        faithfulness(opened(model), found, task)


def _first_half(n):
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[: n // 2].sort().values


@pytest.mark.parametrize(
    ("name", "said"),
    [("n3", "named m2.n17"), ("m9.n1", "no layer 9"), ("m0.n99999", "no neuron m0.n99999"), ("a0.h1", "named m2.n17")],
)
def test_a_neuron_that_is_not_there_is_said(name, said):
    with pytest.raises(InputError, match=said):
        opened(model_of("gpt2"), [name])


def test_optimal_constants_are_had_for_neurons_too():
    wires, task = opened(model_of("llama", double=False), NAMES), task_of(2)
    wires.constants[task.name] = optimal_constants(wires, task, steps=2)
    found = score_edges(wires, task, "eap", ablation="optimal")
    assert bool(torch.isfinite(found.scores).all())
    assert bool(found.scores[found.graph.source("m0.n3")].any())


def test_experts_have_no_neurons_and_a_number_is_none_below_zero():
    with pytest.raises(InputError, match="no neurons in layer 0"):
        opened(model_of("mixtral"), ["m0.n1"])
    with pytest.raises(InputError, match="from 0"):
        discover(model_of("gpt2"), replace(task_of()), "eap", neurons=-2)
