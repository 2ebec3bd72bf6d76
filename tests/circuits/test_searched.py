"""ACDC, trained gates, information flow routes and optimal ablation."""

from dataclasses import replace

import pytest
import torch
from circuits.circuit_case import Wide, model_of, task_of

from cutaway.circuits import METHODS, discover, exact, measure, opened, score_edges
from cutaway.circuits.acdc import Search, acdc
from cutaway.circuits.gates import BETA, GAMMA, SHIFT, ZETA, edge_pruning, gate
from cutaway.circuits.masked import columns, masked_logits
from cutaway.circuits.methods import CircuitWarning
from cutaway.circuits.optimal import optimal_constants
from cutaway.circuits.routes import importance, information_flow
from cutaway.circuits.senders import ablated, constant_over, record
from cutaway.core import InputError
from cutaway.exams.circuit_subjects import Program
from cutaway.model.tokens import Batch


def one_at_a_time(search, threshold):
    kept, now = search.graph.exists.clone(), 0.0
    with torch.no_grad():
        for d in search._order():
            for s in search.graph.exists[:, d].nonzero()[:, 0].flip(0).tolist():
                kept[s, d] = False
                value = float(search._distances(kept[None], 0)[0])
                if value - now >= threshold:
                    kept[s, d] = True
                else:
                    now = value
    return kept


@pytest.mark.parametrize(("family", "distance"), [("llama", "metric"), ("gpt_neox", "kl")])
def test_several_tried_at_once_from_the_changed_layer_are_one_at_a_time_from_the_start(family, distance):
    wires, task = opened(model_of(family)), task_of(n=1, width=3)
    search = Search(wires, wires.graph(split=False), task, "resample", distance)
    kept, _ = search.run(0.05 * search.worst)
    assert 0 < int(kept.sum()) < search.graph.n_edges
    assert torch.equal(kept, one_at_a_time(search, 0.05 * search.worst))


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2", "olmo2"])
def test_going_on_from_a_layer_is_the_whole_forward(family):
    wires, task = opened(model_of(family)), task_of(lengths=[6, 4, 5])
    graph = wires.graph()
    other, known = ablated(wires, task, "resample")(torch.arange(3)), record(wires, task.clean)
    generator = torch.Generator().manual_seed(0)
    for first in range(len(wires.layers) + 1):
        late = torch.tensor([not (name[0] in "am" and int(name[1]) < first) for name in graph.ports])
        mask = (torch.rand(graph.exists.shape, generator=generator) < 0.5) | ~late
        mask = mask.double()
        with torch.no_grad():
            whole = masked_logits(wires, task.clean, other, mask, columns(task))
            rest = masked_logits(wires, task.clean, other, mask, columns(task), known=known, first=first)
        torch.testing.assert_close(rest, whole, rtol=0, atol=2e-6)  # RMSNorms compute in float32
    assert all("forward" not in block.__dict__ for block in wires.model.hf.modules())  # nothing is left behind


def test_at_threshold_zero_acdc_keeps_every_edge_and_near_zero_every_causal_one():
    subject = Program("hist", 64, 0)
    search = Search(subject.wires, subject.graph, subject.task, "resample")
    assert torch.equal(search.run(0.0)[0], subject.graph.exists)
    kept, _ = search.run(1e-9)
    assert bool(kept[subject.causal].all())
    assert float(search._distances(kept[None], 0)[0]) < 1e-6
    scores = acdc(subject.wires, subject.graph, subject.task)[0]
    assert float(scores[subject.causal].min()) > float(scores[subject.exists & ~subject.causal].max())


def test_gates_are_open_as_often_as_the_formula_says():
    alpha = torch.tensor([-2.0, 0.0, 1.5])
    u = torch.rand(20000, 3, generator=torch.Generator().manual_seed(0)).clamp(1e-6, 1 - 1e-6)
    z = gate(alpha, u)
    torch.testing.assert_close((z > 0).float().mean(0), torch.sigmoid(alpha - SHIFT), rtol=0, atol=0.02)
    assert float(z.min()) == 0.0
    assert float(z.max()) == 1.0
    assert pytest.approx((2 / 3, -0.1, 1.1)) == (BETA, GAMMA, ZETA)


def test_gates_trained_to_a_share_reach_it_and_keep_what_matters():
    subject = Program("sort", 16, 0)
    true = subject.causal
    target = float(true.sum()) / subject.graph.n_edges
    scores = edge_pruning(subject.wires, subject.graph, subject.task, target=target, steps=120)[0]
    assert abs(float(scores[subject.graph.exists].mean()) - target) < 0.1
    best = scores.flatten().argsort(descending=True)[: int(true.sum())]
    assert float(true.flatten()[best].float().mean()) >= 0.75
    with pytest.raises(InputError, match="share of the edges"):
        edge_pruning(subject.wires, subject.graph, subject.task, target=1.5)


def test_importance_of_terms_is_the_papers_formula():
    terms = torch.tensor([[3.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    found = importance(terms, terms.sum(0))  # the sum is [2, 1], of l1 norm 3
    # p = 3 - |[-1, 1]|, 3 - |[2, 0]|, 3 - |[3, 1]| cut at 0
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0, 0.0]) / 2)


def test_routes_need_no_counterfactual_and_widen_towards_the_logits():
    wires, task = opened(model_of("llama")), task_of(lengths=[6, 5, 4])
    graph = wires.graph()
    scores = information_flow(wires, task)
    assert bool(((scores >= 0) & (scores <= 1)).all())
    torch.testing.assert_close(scores[:, :, -1].sum(1), torch.ones(3, dtype=scores.dtype))  # into the logits: shares
    out = torch.stack([scores[:, s].amax(-1) for s in range(len(graph.sources))], 1)
    for s, name in enumerate(graph.sources[1:], 1):
        fed = [graph.ports.index(port) for port in graph.ports if port == name]
        for port in fed:  # an MLP is reached by no wider way than it is itself
            assert bool((scores[:, :, port].amax(1) <= out[:, s] + 1e-12).all())


def test_optimal_constants_hurt_no_source_more_than_its_mean_does():
    wires, task = opened(model_of("gpt2")), task_of(n=3, width=3)
    graph = wires.graph()
    found = optimal_constants(wires, task, steps=25, lr=0.1)
    mean = constant_over(record(wires, task.clean), task.clean.mask)
    reference = task.at_end(wires.model.run(task.clean)).log_softmax(-1)
    better = 0
    for s in range(len(graph.sources)):
        mask = graph.exists.double().clone()
        mask[s] = 0
        values = []
        for constants in (found, mean):
            other = constants.map(lambda x: x.expand(3, task.clean.ids.shape[1], *x.shape[2:]))
            with torch.no_grad():
                logits = masked_logits(wires, task.clean, other, mask, columns(task)).log_softmax(-1)
            values.append(float((reference.exp() * (reference - logits)).sum(-1).mean()))
        assert values[0] <= values[1] + 1e-9
        better += values[0] < 0.95 * values[1]
    assert better >= len(graph.sources) // 4


def test_optimal_ablation_stands_beside_the_others():
    wires, task = opened(model_of("gpt2")), task_of(n=2, width=3)
    graph = wires.graph()
    wires.constants[task.name] = optimal_constants(wires, task, steps=2)
    empty = measure(wires, graph, task, graph.exists & False, "optimal")
    torch.testing.assert_close(empty, empty[:1].expand_as(empty))  # constants only
    s, d = graph.edge("m2", "logits")
    effect = exact(wires, graph, task, "optimal", edges=graph.mask([("m2", "logits")]))[:, s, d]
    assert bool(effect.isfinite().all())


GRADIENTS = ("eap", "eap-ig", "eap-ig-activations", "mask-ig", "eap-qk", "atp-star", "relp", "exact", "acdc-metric",
             "attribution-patching", "activation-patching", "hisp")  # fmt: skip


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_names_the_items_that_are_wrong(method):
    wires, task = opened(model_of("gpt2")), task_of(n=3, width=4)
    same = replace(task, counterfactual=Batch(task.clean.ids.clone(), task.clean.mask))
    with pytest.raises(InputError, match=r"3 of 3 items .* \(items 0, 1, 2\)"):
        score_edges(wires, same, method)
    shorter = task.counterfactual.mask.clone()
    shorter[1, -1] = False
    with pytest.raises(InputError, match=r"another length .* \(items 1\)"):
        score_edges(wires, replace(task, counterfactual=Batch(task.counterfactual.ids, shorter)), method)
    with pytest.raises(InputError, match="position by position"):
        score_edges(wires, replace(task, counterfactual=task_of(n=3, width=5).counterfactual), method)


@pytest.mark.parametrize("method", GRADIENTS)
def test_a_constant_metric_is_refused_by_every_method_that_uses_it(method):
    wires, task = opened(model_of("gpt2")), task_of(n=2, width=3)

    def constant(logits, _):
        return logits[:, 7] * 0 + 1

    with pytest.raises(InputError, match=r"every edge scores zero|is what it was"):
        score_edges(wires, replace(task, metric=Wide("constant", constant, task.metric.target)), method)


def test_items_about_which_nothing_can_be_said_are_named():
    wires, task = opened(model_of("gpt2")), task_of(n=3)

    def partly(logits, target):
        return logits[:, 7] * torch.tensor([1.0, 0.0, 1.0], dtype=logits.dtype)[: len(logits)]

    with pytest.warns(CircuitWarning, match=r"1 of 3 items \(items 1\)"):
        score_edges(wires, replace(task, metric=Wide("partly", partly, task.metric.target)), "eap")
    with pytest.warns(CircuitWarning, match="whole graph"):
        discover(wires.model, task, "eap", size=wires.graph().n_edges, check="none")
    with pytest.raises(InputError, match="circuit of this graph has"):
        discover(wires.model, task, "eap", size=0, check="none")
