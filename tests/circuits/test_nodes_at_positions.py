"""Nodes apart by position: what a source writes in one span."""

from dataclasses import replace

import pytest
import torch
from circuits.circuit_case import model_of, task_of

import cutaway as cw
from cutaway.circuits import discover, faithfulness, measure, measure_nodes, opened, random_circuits, score_edges, units
from cutaway.circuits.nodes import activation_patching, attribution_patching
from cutaway.core import InputError

SPANS = ("S2", "end", "rest")


def named(lengths=None, n=4):
    task = task_of(n=n, lengths=lengths)
    return replace(task, positions={**task.positions, "S2": torch.tensor([2, 1, 3, 2] * (n // 4))})


@pytest.fixture(scope="module", params=["gpt2", "llama", "gpt_neox", "gemma2"])
def wires(request):
    return opened(model_of(request.param))


def test_what_nothing_reads_is_no_node_and_without_spans_sources_are_the_nodes(wires):
    plain = wires.graph()
    assert plain.nodes == plain.sources
    graph = plain.at(SPANS)
    last = len(wires.layers) - 1
    assert f"m{last}@end" in graph.nodes
    assert f"m{last}@S2" not in graph.nodes
    keep = torch.rand(7, len(graph.nodes), generator=torch.Generator().manual_seed(0)) < 0.5
    assert torch.equal(graph.by_node(graph.of_nodes(keep)), keep)
    assert torch.equal(graph.of_nodes(torch.ones(len(graph.nodes), dtype=torch.bool)), graph.exists)


@pytest.mark.parametrize("split", [True, False])
def test_a_plain_forward_of_nodes_is_the_masked_forward_of_their_edges(wires, split):
    task, graph = named([6, 5, 5, 6]), wires.graph(split).at(SPANS)
    keep = torch.rand(5, len(graph.nodes), generator=torch.Generator().manual_seed(1)) < 0.6
    plain = measure_nodes(wires, task, keep, "resample", graph=graph)
    masked = measure(wires, graph, task, graph.of_nodes(keep), "resample")
    torch.testing.assert_close(plain, masked, rtol=0, atol=1e-6)
    assert plain.std(0).min() > 1e-6  # the circuits differ


def test_a_node_at_a_position_is_the_intervention_there(wires):
    task, graph = named([6, 5, 5, 6]), wires.graph().at(SPANS)
    found = activation_patching(wires, graph, task)
    if wires.layers[0].attn_after is not None:
        return  # patching z moves the norm after attention, edges out do not
    where = task.positions["S2"]
    other = wires.model.run(task.counterfactual, read=["z.1"])["z.1"]
    clean = task.metric(task.at_end(wires.model.run(task.clean)))
    rows = torch.arange(len(task))
    for row in rows.tolist():
        at = int(where[row])
        one = task.take([row])
        change = cw.patch("z.1", other[row : row + 1, at : at + 1, 2:3], head=2, positions=[at])
        lost = clean[row] - one.metric(one.at_end(wires.model.run(one.clean, interventions=[change])))[0]
        edge = graph.edge("a1.h2", "m1@S2" if not wires.parallel else "m2@S2")
        assert float(found[row][edge]) == pytest.approx(float(lost), abs=1e-6)


def test_estimates_add_up_over_positions_and_are_one_for_a_nodes_edges(wires):
    task, graph = named([6, 5, 5, 6]), wires.graph()
    apart, whole = attribution_patching(wires, graph.at(SPANS), task), attribution_patching(wires, graph, task)
    at = graph.at(SPANS)
    total = torch.zeros(len(task), len(graph.sources), dtype=apart.dtype)
    for node, source in enumerate(at.source_of.tolist()):
        values = apart[:, at.node_of == node]
        assert bool((values == values[:, :1]).all())
        total[:, source] += values[:, 0]
    torch.testing.assert_close(total, whole[:, :, -1], rtol=0, atol=1e-6)


def test_a_circuit_of_nodes_at_positions_is_found_judged_and_saved(tmp_path):
    model, task = model_of("gpt2", double=False), named(n=16)
    found = discover(model, task, "attribution-patching", positions=["S2", "end"], size=6, check="quick")
    assert found.count == 6 == len(units(found).inside)
    assert all("@" in name for name in found.nodes)
    assert all("@" not in name for name in found.heads)
    assert "6 of" in str(found)
    assert "@end" in str(found)
    found.save(tmp_path / "circuit.json")
    again = type(found).load(tmp_path / "circuit.json")
    assert again.count == 6
    assert again.nodes == found.nodes
    whole = found.only(found.graph.exists)
    assert faithfulness(model, whole, task).estimate.value == pytest.approx(1, abs=1e-4)
    drawn = random_circuits(found.graph, found, 5)
    assert {int(found.graph.by_node(one)[found.graph.source_of > 0].sum()) for one in drawn} == {6}


def test_an_end_that_is_now_in_one_span_and_now_in_another_is_said():
    wires, task = opened(model_of("gpt2")), task_of(n=4)
    moving = replace(task, positions={**task.positions, "S2": torch.tensor([5, 1, 3, 2])})
    for method in ("attribution-patching", "hisp", "activation-patching"):
        with pytest.raises(InputError, match="1 of 4 items a named position is the end"):
            score_edges(wires, moving, method, positions=["S2"])
    score_edges(wires, moving, "hisp", positions=["S2", "end"])
