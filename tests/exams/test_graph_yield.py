"""Graph yield: pieces nobody chose, tests by their claims, a rate of all prompts."""

from __future__ import annotations

import numpy as np
import pytest

import cutaway as cw
from cutaway.core import InputError
from cutaway.exams.graph_yield import TESTS, YIELD, GraphYield, Outcome, graph_yield, judged


def test_every_test_finds_its_claim_in_a_trace():
    graph = cw.trace(cw.load("almanac"), "36 + 59 =", quick=True)
    passed = judged(graph)
    assert passed.keys() == TESTS.keys()
    held = next(e for e in graph.evidence if e.claim.startswith("With attention and norms held"))
    assert passed["held"] == (held.effect.value >= 0.7)
    assert passed["completeness"] == (graph.scores.completeness >= 0.8)
    assert passed["removed"]


def test_a_trace_without_its_claims_passes_only_its_scores():
    graph = cw.trace(cw.load("almanac"), "36 + 59 =", evidence=False)
    assert {name for name, passed in judged(graph).items() if passed} <= {"completeness", "replacement"}


def test_prompts_that_cannot_be_traced_count_against_the_yield():
    good = Outcome("a", dict.fromkeys(TESTS, True))
    some = Outcome("b", {**dict.fromkeys(TESTS, True), YIELD[0]: False})
    none = Outcome("c", {}, "no feature is active")
    found = GraphYield("m", "d", (good, some, none), ())
    assert found.rates(found.outcomes)["yield"].value == pytest.approx(1 / 3)
    assert found.rates(found.outcomes)["held"].value == pytest.approx(2 / 3)
    assert "no feature is active" in str(found)
    assert found.to_json()["twin"] is None


def test_nothing_held_is_reported_and_is_no_part_of_the_yield():
    assert Outcome("a", {**dict.fromkeys(TESTS, True), "free": False}).yields


def test_prompts_are_pieces_of_different_rows():
    model = cw.load("almanac")
    rows = np.asarray(cw.task("ioi", model, n=2).clean.ids)
    with pytest.raises(InputError, match="rows of at least"):
        graph_yield(model, "clt", rows[:, :5], 2)
    with pytest.raises(InputError, match="given"):
        graph_yield(model, "clt", np.zeros((1, 64), dtype=np.int64), 2)
