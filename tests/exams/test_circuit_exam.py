"""A fast part of the exam of circuits."""

import pytest

from cutaway.exams.circuit_laws import laws
from cutaway.exams.circuit_subjects import Subject, Trained
from cutaway.exams.circuits import _nodes, _one, _score
from cutaway.toys.rasp import compile_program, program


@pytest.fixture(scope="module")
def subjects():
    return [Subject(compile_program(program(name)), 256, 0) for name in ("hist", "shift")]


def test_the_laws_hold_on_programs(subjects):
    rows = laws(subjects)
    assert [row["passed"] for row in rows] == [True] * len(rows)
    assert rows[-1]["truth"] == rows[-1]["estimate"] == 6


@pytest.mark.parametrize("method", ["exact", "acdc", "subnetwork-probing"])
def test_methods_that_ablate_or_search_find_the_causal_edges(subjects, method):
    for subject in subjects:
        found = _score(subject, method, 0)
        area, precision = found["causal"]
        assert area.value == precision.value == 1.0
        assert _one(subject, method, found)["estimate"] == 1.0


def test_random_rankings_are_at_a_half(subjects):
    for subject in subjects:
        area, _ = _score(subject, "random", 0)["causal"]
        assert abs(area.value - 0.5) < 0.1


def test_a_trained_networks_nodes_are_found_by_gradients():
    subject = Trained("shift", 64, 0)
    for method in ("eap", "relp", "exact"):
        area, precision = _nodes(subject, method, 0)["nodes of the circuit"]
        assert area.value == precision.value == 1.0
    by_chance, _ = _nodes(subject, "random", 0)["nodes of the circuit"]
    assert by_chance.value < 0.7
