"""A fast part of the exam of circuits."""

import pytest

from cutaway.exams import circuits as exam
from cutaway.exams.circuit_laws import held, laws
from cutaway.exams.circuits import Program, Trained, circuits_exam


@pytest.fixture(scope="module")
def subjects():
    return [Program(name, 256, 0) for name in ("hist", "shift")]


def test_the_laws_hold_on_programs(subjects):
    each = [held(subject) for subject in subjects]
    assert all(one.ok for one in each)
    rows = laws(each)
    assert [row["passed"] for row in rows] == [True] * len(rows)
    assert rows[-1]["truth"] == rows[-1]["estimate"] == 6


def test_a_law_that_does_not_hold_fails(subjects):
    from dataclasses import replace

    one = held(subjects[0])
    assert not replace(one, wrongly=1).ok
    assert [row["passed"] for row in laws([replace(one, found=one.found - 1, apart_in=0.1)])].count(False) == 2


@pytest.mark.parametrize("method", ["exact", "acdc", "subnetwork-probing"])
def test_methods_that_ablate_or_search_find_the_causal_edges(subjects, method):
    for subject in subjects:
        found, _ = exam._score(subject, method, 0)
        area, precision = found["causal edges"]
        assert area.value == precision.value == 1.0


def test_methods_of_nodes_are_held_to_nodes_alone():
    subject = Trained("shift", 64, 0)
    found, _ = exam._score(subject, "activation-patching", 0)
    assert list(found) == ["nodes of the circuit"]
    assert found["nodes of the circuit"][0].value == 1.0


def test_exact_patching_ranks_causal_edges_first_where_few_pairs_differ():
    """Of 64 pairs of `detect_pattern` drawn blindly two change the output; those that do are taken first."""
    subject = Program("detect_pattern", 512, 0)
    few = subject.items(16)
    after = subject.model.run(few.counterfactual).logits[range(16), few.positions["end"]].argmax(-1)
    assert (after != few.answers).all()
    found, _ = exam._score(subject, "exact", 0)
    assert found["causal edges"][0].value == 1.0


def test_random_rankings_are_at_a_half(subjects):
    for subject in subjects:
        found, _ = exam._score(subject, "random", 0)
        assert abs(found["causal edges"][0].value - 0.5) < 0.1


def test_a_trained_networks_nodes_are_found_by_gradients():
    subject = Trained("shift", 64, 0)
    for method in ("eap", "relp", "exact"):
        area, precision = exam._score(subject, method, 0)[0]["nodes of the circuit"]
        assert area.value == precision.value == 1.0
    by_chance, _ = exam._score(subject, "random", 0)[0]["nodes of the circuit"]
    assert by_chance.value < 0.7


def test_the_whole_of_it_says_a_line_a_subject_and_goes_on_where_it_was(monkeypatch, tmp_path):
    import json

    import cutaway.circuits

    monkeypatch.setattr(exam, "QUICK", ("length", "hist"))
    monkeypatch.setattr(exam, "QUICK_TRAINED", ("shift",))
    monkeypatch.setattr(
        cutaway.circuits, "METHODS", {m: cutaway.circuits.METHODS[m] for m in ("eap", "attribution-patching", "random")}
    )
    said = []
    rows = circuits_exam(quick=True, say=said.append, keep=tmp_path)
    assert len(said) == 3
    assert "laws hold" in said[0]
    json.dumps(rows, allow_nan=False)
    assert all({"name", "truth", "estimate", "interval", "tolerance", "passed"} <= set(row) for row in rows)
    # No edge of `length` is causal, and every node of `hist`: there is nothing to tell apart.
    assert not any(row["name"].startswith("hist, attribution-patching") for row in rows)
    assert any(row["name"] == "length, eap: AUROC, structural edges" for row in rows)
    # What is kept is not examined again, and gives the same rows.
    monkeypatch.setattr(exam, "_score", None)
    assert circuits_exam(quick=True, keep=tmp_path) == rows
