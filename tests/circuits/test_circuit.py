"""The circuit as a value: choosing, files, what it prints, what it refuses."""

import json

import pytest
import torch
from circuits.circuit_case import model_of, task_of

from cutaway.circuits import Circuit, score_edges
from cutaway.core import InputError, UnknownName


@pytest.fixture(scope="module")
def scored():
    return score_edges(model_of("llama"), task_of(), "eap", seed=3)


def test_top_takes_the_largest_and_signed_takes_the_highest(scored):
    everything = scored.scores[scored.graph.exists]
    by_size, by_score = scored.top(20), scored.top(20, by="signed")
    assert by_size.size == by_score.size == 20
    assert min(abs(x) for _, _, x in by_size.edges) == pytest.approx(float(everything.abs().sort().values[-20]))
    assert min(x for _, _, x in by_score.edges) == pytest.approx(float(everything.sort().values[-20]))
    assert [abs(x) for _, _, x in by_size.edges] == sorted((abs(x) for _, _, x in by_size.edges), reverse=True)
    level = float(everything.abs().sort().values[-20])
    assert scored.above(level * (1 - 1e-9)).size == 20
    assert not (by_size.members & ~scored.graph.exists).any()


def test_a_circuit_comes_back_from_its_file_with_its_choices(scored, tmp_path):
    circuit = scored.top(15)
    circuit.save(tmp_path / "circuit.json")
    again = Circuit.load(tmp_path / "circuit.json")
    assert torch.equal(again.members, circuit.members)
    assert again.graph.destinations == circuit.graph.destinations
    assert torch.equal(again.graph.exists, circuit.graph.exists)
    torch.testing.assert_close(again.scores, circuit.scores, rtol=1e-6, atol=1e-12)
    assert again.choices == json.loads(json.dumps(dict(circuit.choices)))
    for choice in ("metric", "ablation", "split", "positions", "seed", "data", "fingerprint", "method"):
        assert choice in again.choices
    (tmp_path / "other.json").write_text('{"schema": "something"}')
    with pytest.raises(InputError, match="no circuit"):
        Circuit.load(tmp_path / "other.json")


def test_a_node_is_in_with_all_its_edges():
    nodes = score_edges(model_of("gpt2"), task_of(), "attribution-patching").top(4)
    kept = nodes.members.any(1)
    assert int(kept.sum()) == 5  # and the input
    assert torch.equal(nodes.members, nodes.graph.exists & kept[:, None])


def test_it_prints_its_edges_choices_and_what_scores_mean(scored):
    text = str(scored.top(3))
    source, destination, score = scored.top(3).edges[0]
    assert f"3 of {scored.graph.n_edges} edges" in text
    assert source in text
    assert destination in text
    assert f"{score:+.3g}" in text
    assert "resample ablation" in text


def test_bad_input_is_named(scored):
    model, task = model_of("gpt2"), task_of()
    with pytest.raises(InputError, match=r"1 … \d+ edges; 0 were"):
        scored.top(0)
    with pytest.raises(InputError, match="no edge has a score above"):
        scored.above(1e9)
    with pytest.raises(UnknownName, match="eap-ig"):
        score_edges(model, task, "eap-gi")
    with pytest.raises(UnknownName, match="resample"):
        score_edges(model, task, ablation="resampled")
    same = task.clean.ids.clone()
    same[0] = task.counterfactual.ids[0]
    from dataclasses import replace

    with pytest.raises(InputError, match=r"1 of 3 items .*items 0"):
        score_edges(model, replace(task, clean=replace(task.clean, ids=same)))
    with pytest.raises(InputError, match="every edge scores zero"):
        score_edges(model, task.with_metric(lambda logits: logits.sum(-1) * 0), "eap")
