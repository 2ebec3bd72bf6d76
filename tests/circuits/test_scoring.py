"""Units, whole nodes, completeness, minimality, the five tests, frequencies, a circuit scored from its file."""

from dataclasses import replace

import pytest
import torch
from circuits.circuit_case import FAMILIES, model_of, task_of

import cutaway as cw
from cutaway.circuits import (
    Circuit,
    circuit_tests,
    completeness,
    discover,
    faithfulness,
    heads_circuit,
    measure,
    measure_nodes,
    minimality,
    opened,
    random_circuits,
    score_edges,
    units,
)
from cutaway.circuits.frequencies import frequencies
from cutaway.circuits.score import remade, score
from cutaway.core import InputError


@pytest.fixture(scope="module")
def scored():
    wires, task = opened(model_of("gpt2")), task_of(n=8)
    return wires, task, score_edges(wires, task, "eap")


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_nodes_in_a_plain_forward_are_the_masked_forward(family):
    wires, task = opened(model_of(family)), task_of(lengths=[6, 5, 6])
    graph = wires.graph()
    keep = torch.rand(5, len(graph.sources), generator=torch.Generator().manual_seed(1)) < 0.5
    for ablation in ("resample", "mean", "zero"):
        masked = measure(wires, graph, task, graph.exists & keep[:, :, None], ablation)
        torch.testing.assert_close(measure_nodes(wires, task, keep, ablation), masked, rtol=1e-5, atol=1e-5)


def test_units_are_taken_out_and_put_in(scored):
    _, _, circuit = scored
    small = circuit.top(12)
    edges, nodes = units(small), units(small, "node")
    assert len(edges.inside) == 12
    assert len(edges.inside) + len(edges.outside) == circuit.graph.n_edges
    assert not edges.without(small.members, edges.inside).any()
    assert torch.equal(edges.added(edges.without(small.members, edges.inside), edges.inside), small.members)
    assert torch.equal(edges.complement, circuit.graph.exists & ~small.members)
    assert {nodes.name(u) for u in nodes.inside} == {name for name, _, _ in small.edges} - {"input"}
    with pytest.raises(InputError, match="empty"):
        units(circuit.only(circuit.members & False))
    heads = heads_circuit(circuit.graph, ["a0.h1"], dict(circuit.choices))
    with pytest.raises(InputError, match="no edges"):
        units(heads, "edge")


def test_a_circuit_of_heads_keeps_the_input_and_mlps_and_so_do_its_random_ones(scored):
    wires, task, circuit = scored
    graph = circuit.graph
    heads = heads_circuit(graph, ["a0.h1", "a1.h0"], dict(circuit.choices))
    parts = units(heads)
    assert [parts.name(u) for u in parts.inside] == ["a0.h1", "a1.h0"]
    assert all(parts.name(u).startswith("a") for u in parts.outside)
    for members in random_circuits(graph, heads, 10):
        there = [name for name, yes in zip(graph.sources, members.any(1).tolist()) if yes]
        assert sum(name.startswith("a") for name in there) == 2
        assert {"input", "m0", "m1"} <= set(there)
    every = heads_circuit(graph, [s for s in graph.sources if s.startswith("a")], dict(circuit.choices))
    assert faithfulness(wires, every, task).estimate.value == pytest.approx(1.0)


def test_the_whole_model_is_complete_and_a_circuit_that_lacks_an_edge_need_not_be(scored):
    wires, task, circuit = scored
    whole = completeness(wires, circuit, task, draws=6, greedy=1, candidates=3, null_draws=2)
    assert max(abs(k.gap) for k in whole.knockouts) < 1e-9
    assert whole.evidence[0].effect.value == pytest.approx(0.0, abs=1e-9)
    others = task_of(n=5, seed=1)
    part = completeness(wires, circuit.top(12), task, draws=6, greedy=1, candidates=3, null_draws=2, choose_on=others)
    assert part.n == len(task) == 2 * whole.n  # where K is chosen on other items, all of these judge
    assert abs(part.worst.gap) > 1e-6
    assert part.knockouts[0] == part.worst
    # A gap is what its definition says, whatever found it.
    parts = units(circuit.top(12), "node")
    number = {parts.name(u): u for u in parts.inside}
    out = [number[name] for name in part.worst.names]
    masks = torch.stack([parts.without(parts.members, out), parts.without(circuit.graph.exists, out)])
    every = measure(wires, circuit.graph, task, masks, "resample")
    assert torch.isfinite(every).all()


def test_an_edge_that_carries_nothing_is_not_shown_to_be_needed(scored):
    wires, task, _ = scored
    exact = score_edges(wires, task, "exact")
    # Edges of no effect by themselves or with others: into a head whose every way out is left out.
    members = exact.top(10).members.clone()
    members[:, [exact.graph.destination("a1.h3<q>")]] = exact.graph.exists[:, [exact.graph.destination("a1.h3<q>")]]
    members[exact.graph.source("a1.h3")] = False
    found = minimality(wires, exact.only(members), task, draws=3, null_parts=4, most=100)
    into = [part for part in found.parts if part.name.endswith("a1.h3<q>")]
    assert into
    assert all(abs(part.score.value) < 1e-9 and not part.needed for part in into)
    assert set(found.idle) >= {part.name for part in into}
    assert found.evidence[0].nulls[0].estimate.n == 4


@pytest.fixture(scope="module", params=["hist", "frac_prevs"])
def program_circuit(request):
    """A compiled program with the circuit of its causal edges, all of them known."""
    from cutaway.exams.circuit_subjects import Program

    subject = Program(request.param, 128, 0)
    ranked = score_edges(subject.wires, subject.task, "change")
    return subject, ranked.only(subject.causal)


def test_every_edge_of_a_programs_true_circuit_is_needed_and_no_other(program_circuit):
    subject, true = program_circuit
    found = minimality(subject.wires, true, subject.task, draws=2, null_parts=12)
    assert found.idle == ()
    assert not any(part.needed for part in found.others)
    wider = true.only(true.members | subject.graph.exists & (torch.arange(len(true.graph.sources)) == 0)[:, None])
    idle = minimality(subject.wires, wider, subject.task, draws=3, null_parts=0).idle
    assert set(idle) == {f"{a}->{b}" for a, b, _ in wider.edges} - {f"{a}->{b}" for a, b, _ in true.edges}


def test_a_programs_true_circuit_is_complete_and_passes_what_it_can(program_circuit):
    subject, true = program_circuit
    gaps = completeness(subject.wires, true, subject.task, draws=5, greedy=1, null_draws=0)
    assert max(abs(k.gap) for k in gaps.knockouts) == pytest.approx(0.0, abs=1e-4)
    tests = circuit_tests(subject.wires, true, subject.task, draws=60, permutations=99)
    for name in ("equivalence", "sufficiency", "partial necessity"):
        assert tests[name].outcome == "passes", name
    assert tests["minimality"].outcome != "fails"
    assert all(t.p_holm >= t.p for t in tests.tests)


def test_without_one_of_its_edges_a_programs_circuit_fails(program_circuit):
    subject, true = program_circuit
    last = next((s, d) for s, d, _ in true.edges if d == "logits")
    broken = true.members.clone()
    broken[true.graph.edge(*last)] = False
    tests = circuit_tests(subject.wires, true.only(broken), subject.task, draws=60, permutations=99)
    assert tests["equivalence"].outcome == "fails"
    assert tests["sufficiency"].outcome != "passes"
    with pytest.raises(InputError, match="holds all"):
        circuit_tests(subject.wires, true.only(true.graph.exists), subject.task)


def test_a_random_circuit_does_not_pass_for_sufficient(scored):
    wires, task, circuit = scored
    drawn = circuit.only(random_circuits(circuit.graph, circuit.top(15), 1, seed=5)[0])
    found = circuit_tests(wires, drawn, task, draws=60, permutations=99, most=5)
    assert found["sufficiency"].outcome != "passes"


def test_frequencies_are_one_where_items_agree_and_spread_where_they_do_not(scored):
    _, _, circuit = scored
    alike = replace(circuit.top(10), per_item=circuit.scores[None].expand(6, -1, -1))
    found = frequencies(alike, resamples=20)
    assert found.sure == 10
    assert set(found.shares) == {1.0}
    noise = torch.randn(6, *circuit.scores.shape, generator=torch.Generator().manual_seed(0))
    spread = frequencies(replace(circuit.top(10), per_item=noise), resamples=50)
    assert sum(spread.shares) == pytest.approx(10)
    assert min(spread.shares) < 0.5
    with pytest.raises(InputError, match="single items"):
        frequencies(replace(circuit, per_item=None))


@pytest.fixture(scope="module")
def of_almanac():
    model = cw.load("almanac")
    return model, discover(model, cw.task("ioi", model, n=8, seed=3), size=5, check="none", seed=1)


def test_a_circuit_is_scored_again_from_its_file(of_almanac, tmp_path):
    model, circuit = of_almanac
    circuit.save(tmp_path / "circuit.json")
    read = Circuit.load(tmp_path / "circuit.json")
    found_on, judged_on = remade(model, read)
    assert found_on.fingerprint == circuit.choices["data"]
    assert not {item.clean for item in found_on.items} & {item.clean for item in judged_on.items}
    again = score(model, read, judged_on, found_on=found_on, quick=True)
    assert faithfulness(model, circuit, judged_on).estimate == again.parts["faithfulness"][0].estimate
    assert {"faithfulness", "minimality", "completeness", "tests", "curve", "audit"} <= set(again.parts)
    again.save(tmp_path / "again.json")
    assert Circuit.load(tmp_path / "again.json").choices == read.choices


def test_other_items_and_other_models_are_refused(of_almanac):
    model, circuit = of_almanac
    changed = replace(circuit, choices={**circuit.choices, "items": {**circuit.choices["items"], "seed": 4}})
    with pytest.raises(InputError, match="hash"):
        remade(model, changed)
    with pytest.raises(InputError, match="another model"):
        remade(model, replace(circuit, choices={**circuit.choices, "fingerprint": "0"}))
    with pytest.raises(InputError, match="does not say"):
        remade(model, replace(circuit, choices={}))
    other = cw.load("almanac-1l")
    with pytest.raises(InputError, match="other components"):
        score(other, circuit, cw.task("ioi", other, n=4))
