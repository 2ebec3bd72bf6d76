"""Faithfulness, curves, random circuits, stability, the bound of the audit, known truth."""

from math import comb

import pytest
import torch
from circuits.circuit_case import model_of, task_of
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.circuits import (
    against_truth,
    audit,
    average_precision,
    curve,
    faithfulness,
    opened,
    precision_recall,
    random_circuits,
    score_edges,
    stability,
)
from cutaway.circuits.faithfulness import Curve
from cutaway.circuits.judge import upper_bound
from cutaway.core import InputError


@pytest.fixture(scope="module")
def scored():
    wires, task = opened(model_of("gpt2")), task_of(n=6)
    return wires, task, score_edges(wires, task, "eap")


def test_the_whole_graph_is_faithful_under_every_ablation_and_nothing_is_not(scored):
    wires, task, circuit = scored
    for ablation in ("resample", "mean", "zero"):
        found = faithfulness(wires, circuit, task, ablation)
        assert found.estimate.value == pytest.approx(1.0)
        assert found.per_item[found.per_item.isfinite()] == pytest.approx(1.0)
    with pytest.raises(InputError, match="empty"):
        faithfulness(wires, circuit.only(circuit.members & False), task)


def test_a_curve_ends_at_the_model_and_its_areas_are_those_of_trapezoids(scored):
    wires, task, circuit = scored
    found = curve(wires, circuit, task, shares=(0.1, 0.5, 1.0))
    assert found.absolute[-1] == found.signed[-1] == pytest.approx(1.0)
    made = Curve("resample", 1, (1, 10, 100), (0.01, 0.1, 1.0), (0.5, 1.0, 1.0), (0.5, 1.5, 1.0))
    assert made.area("cpr") == pytest.approx((0.09 * 1.0 + 0.9 * 1.25) / 0.99)
    assert made.area("cmd") == pytest.approx(0.09 * 0.25 / 0.99)
    assert made.area("cpr", "log") == pytest.approx((1.0 + 1.25) / 2)
    assert made.area("cmd", "log") == pytest.approx(0.25 / 2)


def test_random_circuits_have_the_size_and_those_of_paths_lie_on_paths(scored):
    _, _, circuit = scored
    graph, like = circuit.graph, circuit.top(40)
    paths, edges = random_circuits(graph, like, 20, seed=1), random_circuits(graph, like, 20, seed=1, draw="edges")
    for drawn in (paths, edges):
        assert set(drawn.sum((1, 2)).tolist()) == {40}
        assert not (drawn & ~graph.exists).any()
        assert len({tuple(one.flatten().tolist()) for one in drawn}) == 20
    # The last path alone may be unfinished.
    assert all(int((graph.on_paths(one) ^ one).sum()) < 7 for one in paths)


def test_stability_is_one_where_all_items_agree_and_chance_where_they_do_not(scored):
    from dataclasses import replace

    _, _, circuit = scored
    alike = replace(circuit.top(20), per_item=circuit.scores[None].expand(6, -1, -1))
    assert stability(alike, resamples=20).effect.value == 1.0
    noise = torch.randn(6, *circuit.scores.shape, generator=torch.Generator().manual_seed(0))
    apart = stability(replace(circuit.top(20), per_item=noise), resamples=20)
    assert apart.effect.value < 0.6
    with pytest.raises(InputError, match="single items"):
        stability(replace(circuit, per_item=None))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.data())
def test_the_bound_is_the_most_hits_that_the_sample_does_not_rule_out(population, data):
    drawn = data.draw(st.integers(1, population))
    hits = data.draw(st.integers(0, drawn))

    def at_most(k):  # P(sample holds at most `hits` of k)
        ways = (comb(k, i) * comb(population - k, drawn - i) for i in range(hits + 1) if drawn - i <= population - k)
        return sum(ways) / comb(population, drawn)

    allowed = [k for k in range(hits, population - (drawn - hits) + 1) if at_most(k) >= 0.05 - 1e-12]
    assert upper_bound(hits, drawn, population) == max(allowed)


def test_an_audit_of_every_edge_leaves_nothing_open(scored):
    wires, task, _ = scored
    few = task.take(range(2))
    exact = score_edges(wires, few, "exact")
    top = exact.top(30)
    found = audit(wires, top, few, sample=100_000, matters=0.02)
    assert len(found.edges) == top.graph.n_edges
    torch.testing.assert_close(found.measured, found.estimated)
    outside = exact.scores.abs()[top.graph.exists & ~top.members]
    assert found.missed == int((outside >= found.matters).sum())
    assert found.evidence[0].effect.value == pytest.approx(1.0)


def test_average_precision_is_one_for_a_perfect_ranking_and_the_share_of_truth_for_none():
    exists = torch.ones(1, 200, dtype=torch.bool)
    truth = torch.arange(200)[None] < 20
    found, chance = average_precision(-(200.0 - torch.arange(200.0))[None], exists, truth)
    assert found.value == pytest.approx(1.0)
    assert chance.value == pytest.approx(0.1, abs=0.05)
    tied, _ = average_precision(torch.zeros(1, 200), exists, truth)
    assert tied.value == pytest.approx(0.1)
    # By hand: true edges at ranks 1 and 3 of 4.
    few = torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.ones(1, 4, dtype=torch.bool)
    some = torch.tensor([[True, False, True, False]])
    assert average_precision(*few, some)[0].value == pytest.approx((1 + 2 / 3) / 2)
    precision, recall = precision_recall(*few, some)
    assert precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert recall.tolist() == [0.5, 0.5, 1.0, 1.0]
    with pytest.raises(InputError, match="no edge is true"):
        average_precision(*few, some & False)


def test_truth_is_ranked_by_size_and_ties_count_by_half():
    exists = torch.ones(1, 6, dtype=torch.bool)
    truth = torch.tensor([[True, True, False, False, False, False]])
    area, precision = against_truth(torch.tensor([[-3.0, 2.0, 0.5, 0.0, 0.0, 0.0]]), exists, truth)
    assert (area.value, precision.value) == (1.0, 1.0)
    area, precision = against_truth(torch.zeros(1, 6), exists, truth)
    assert area.value == 0.5
    assert precision.value == pytest.approx(2 / 6)
