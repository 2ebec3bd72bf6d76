"""The strongest edges ablated for real: exactly what `exact` measures."""

from __future__ import annotations

import pytest

import cutaway as cw
from cutaway.circuits.exact import exact
from cutaway.circuits.masked import opened
from cutaway.circuits.measured import measured_edges


def test_the_strongest_edges_have_their_exact_effects() -> None:
    model = cw.load("almanac")
    task = cw.task("ioi", model, n=6)
    circuit = cw.discover(model, task, "eap", size=12, check="none")
    found = measured_edges(opened(model), circuit, task, most=5)
    assert [(s, d) for s, d, _, _ in found.rows] == [(s, d) for s, d, _ in circuit.edges[:5]]
    graph = circuit.graph
    every = exact(opened(model), graph, task, "resample", edges=circuit.members).mean(0)
    for source, destination, score, measured in found.rows:
        wanted = float(every[graph.sources.index(source), graph.destinations.index(destination)])
        assert measured.value == pytest.approx(wanted, rel=1e-5, abs=1e-6)
        assert measured.n == len(task)
        assert score == pytest.approx(
            float(circuit.scores[graph.sources.index(source), graph.destinations.index(destination)])
        )
    assert [row["exact"]["value"] for row in found.to_json()] == [row[3].value for row in found.rows]
    assert "ablated alone" in str(found)
