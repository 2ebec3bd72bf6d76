"""Every method on one model of each group of families: it gives a finite score to every edge, or says why it cannot."""

import pytest
import torch
from circuits.circuit_case import model_of, task_of

from cutaway.circuits import METHODS, opened, score_edges
from cutaway.circuits.acdc import acdc
from cutaway.circuits.gates import edge_pruning, subnetwork_probing
from cutaway.core import InputError

GROUPS = ["gpt2", "llama", "mixtral", "gpt_neox", "gemma2"]  # plain, shared key heads, experts, parallel, norms after
SEARCHED = ("acdc", "acdc-metric", "subnetwork-probing", "edge-pruning")
REFUSED = {("mixtral", "relp"): "no rule"}


@pytest.fixture(scope="module", params=GROUPS)
def opened_model(request):
    return request.param, opened(model_of(request.param, double=False))


@pytest.mark.parametrize("method", [name for name in METHODS if name not in SEARCHED])
def test_a_method_scores_every_edge_or_says_why_not(opened_model, method):
    family, wires = opened_model
    if (family, method) in REFUSED:
        with pytest.raises(InputError, match=REFUSED[family, method]):
            score_edges(wires, task_of(2), method)
        return
    circuit = score_edges(wires, task_of(2), method, steps=2)
    assert bool(torch.isfinite(circuit.scores).all())
    assert bool(circuit.scores[circuit.graph.exists].any())
    assert not bool(circuit.scores[~circuit.graph.exists].any())


def test_searched_and_trained_methods_do_too(opened_model):
    _, wires = opened_model
    graph, task = wires.graph(split=False), task_of(2)
    for scores in (
        acdc(wires, graph, task, shares=(0.3,)),
        subnetwork_probing(wires, graph, task, steps=2),
        edge_pruning(wires, graph, task, steps=2),
    ):
        assert scores.shape == (1, *graph.exists.shape)
        assert bool(torch.isfinite(scores).all())
        assert bool(scores[0][graph.exists].any())
