"""Edges apart by position."""

from dataclasses import replace

import pytest
import torch
from circuits.circuit_case import model_of, task_of

from cutaway.circuits import Circuit, exact, measure, opened, path_patching, score_edges
from cutaway.circuits.attribution import eap, mask_ig
from cutaway.circuits.spans import span_labels, spans_of
from cutaway.core import InputError, UnknownName


def named(lengths=None):
    task = task_of(n=4, lengths=lengths)
    return replace(task, positions={**task.positions, "S2": torch.tensor([2, 1, 3, 2])})


def test_labels_follow_the_names_and_the_rest_is_the_rest():
    task = named([6, 5, 4, 6])
    spans = spans_of(task, ["S2", "end"])
    assert spans == ("S2", "end", "rest")
    labels = span_labels(task, spans)
    assert labels[1].tolist() == [2, 0, 2, 2, 1, 2]
    assert spans_of(task_of(), "each") == ("0", "1", "2", "3", "4", "5")
    with pytest.raises(InputError, match="several lengths"):
        spans_of(task, "each")
    with pytest.raises(UnknownName, match="S2"):
        spans_of(task, ["S3"])


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
@pytest.mark.parametrize("split", [True, False])
def test_spans_all_alike_are_the_whole_and_one_out_is_that_edge_at_those_positions(family, split):
    wires, task = opened(model_of(family)), named([6, 5, 4, 6])
    plain = wires.graph(split)
    graph = plain.at(("S2", "end", "rest"))
    assert graph.n_edges == 3 * plain.n_edges - 2 * int(plain.exists[:, -1].sum())
    drawn = torch.rand(plain.exists.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    whole = plain.ported(drawn).double()
    same = graph.gathered(torch.stack([whole] * 3)) > 0
    torch.testing.assert_close(
        measure(wires, graph, task, same, "resample"), measure(wires, plain, task, drawn, "resample"), rtol=0, atol=2e-6
    )
    index = graph.exists.nonzero()[::97]
    without = graph.exists.repeat(len(index), 1, 1)
    without[torch.arange(len(index)), index[:, 0], index[:, 1]] = False
    chosen = torch.zeros_like(graph.exists)
    chosen[index[:, 0], index[:, 1]] = True
    by_itself = exact(wires, graph, task, edges=chosen)[:, index[:, 0], index[:, 1]].T
    masked = measure(wires, graph, task, graph.exists, "resample") - measure(wires, graph, task, without, "resample")
    torch.testing.assert_close(masked, by_itself, rtol=0, atol=1e-5)
    assert by_itself.abs().max() > 1e-4


def test_an_edge_at_a_position_is_path_patching_at_that_position():
    wires, task = opened(model_of("gpt2")), named()
    graph = wires.graph().at(("S2", "rest"))
    edge = graph.mask([("m0", "a2.h1<k>@S2")])
    found = exact(wires, graph, task, edges=edge)[:, edge]
    other = path_patching(wires, task, ["m0"], ["a2.h1<k>"], through="residual", positions=["S2"], null=0)
    torch.testing.assert_close(found[:, 0], other.effect, rtol=0, atol=1e-9)


def test_gradient_scores_add_up_over_positions():
    wires, task = opened(model_of("llama")), named([6, 5, 4, 6])
    for method in (eap, mask_ig):
        torch.testing.assert_close(method(wires, task, spans=("S2", "rest")).sum(1), method(wires, task))


def test_a_circuit_of_positions_is_saved_and_says_them(tmp_path):
    wires, task = opened(model_of("gpt2")), named()
    circuit = score_edges(wires, task, "eap", positions="named").top(9)
    assert circuit.choices["positions"] == ["end", "S2", "rest"]
    circuit.save(tmp_path / "circuit.json")
    again = Circuit.load(tmp_path / "circuit.json")
    assert [edge[:2] for edge in again.edges] == [edge[:2] for edge in circuit.edges]
    assert again.graph.spans == ("end", "S2", "rest")
    assert torch.equal(again.graph.exists, circuit.graph.exists)
    assert "positions end, S2, rest" in str(circuit)
    with pytest.raises(UnknownName, match="S2"):
        score_edges(wires, task, "eap", positions=["S9"])
