"""Graphs of compiled programs: few active neurons or none, and inputs that nearly cancel."""

import math

import pytest

import cutaway as cw
from cutaway.toys.rasp import compile_program, program


@pytest.mark.parametrize("name", ["shift", "mod_sum"])
def test_a_trace_with_few_active_features_or_none_is_a_trace(name: str) -> None:
    source = program(name)
    model = compile_program(source).load()
    prompt = " ".join(str(token) for token in list(source.vocabulary)[:3])
    graph = cw.trace(model, prompt, dictionary="neurons")
    assert graph.accounting["max_error"] <= 1e-4
    together = graph.evidence[5]
    active = int(graph.n_active)
    assert together.effect.n == (1 if active else 0)
    assert math.isfinite(together.effect.value) == bool(active)
    assert str(graph)


def test_sums_hold_in_a_pruned_graph_whose_large_inputs_cancel() -> None:
    source = program("induction")
    model = compile_program(source, coldness=10).load()  # attention leaks: pre-activations of 5e-5 beside inputs of 2
    graph = cw.trace(model, " ".join(list(source.vocabulary)[:3] * 2), dictionary="neurons", evidence=False)
    small = abs(graph.nodes.pre_activation[graph.nodes.has_inputs]).min()
    assert small < 1e-3
    assert graph.pruned(node=0.5).accounting["max_error"] <= 1e-4
