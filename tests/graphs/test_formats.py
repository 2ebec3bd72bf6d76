"""Files come back as they were written; what is not a graph, or not safe, is refused."""

from __future__ import annotations

import json
import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from graphs.random_case import IDS, dictionary, model

from cutaway.core import Estimate, Evidence, InputError
from cutaway.graphs import nodes as kinds
from cutaway.graphs.circuit_tracer import LogitTarget, read_pt, to_graph, write_pt
from cutaway.graphs.graph import AttributionGraph
from cutaway.graphs.trace import graph_of
from cutaway.graphs.viewer_json import cantor, read_viewer_json, viewer_json


@pytest.fixture(scope="module", params=["llama-plt", "gpt2-clt"])
def graph(request):
    family, kind = request.param.split("-")
    return graph_of(model(family), IDS, dictionary(family, kind))


def same(a, b):
    assert a.nodes.ids() == b.nodes.ids()
    for column in ("kind", "layer", "position", "feature", "activation", "influence", "effect"):
        assert np.array_equal(getattr(a.nodes, column), getattr(b.nodes, column)), column
    assert np.array_equal(a.nodes.pre_activation, b.nodes.pre_activation, equal_nan=True)
    assert (a.edges != b.edges).nnz == 0
    assert np.array_equal(a.probabilities, b.probabilities)


def test_a_saved_graph_comes_back(graph, tmp_path):
    record = Evidence(claim="c", effect=Estimate(name="e", value=1.0, n=3), how="h")
    with_evidence = graph.with_evidence((record,), ({"kind": "feature", "id": "0_1_2", "predicted": 1.0},))
    with_evidence.save(tmp_path, pt=True)
    back = AttributionGraph.load(tmp_path)
    same(graph, back)
    assert back.evidence == (record,)
    assert back.measurements == with_evidence.measurements
    assert str(back) == str(with_evidence)
    assert {p.name for p in tmp_path.iterdir()} == {"graph.safetensors", "graph.json", "evidence.json", "graph.pt"}
    json.loads((tmp_path / "graph.json").read_text())
    json.dumps(back.to_json(), allow_nan=False)


def test_a_pruned_graph_comes_back(graph, tmp_path):
    graph.pruned().save(tmp_path)
    same(graph.pruned(), AttributionGraph.load(tmp_path))


def test_a_folder_that_holds_no_graph_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a saved graph"):
        AttributionGraph.load(tmp_path)
    (tmp_path / "graph.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read"):
        AttributionGraph.load(tmp_path)


def test_viewer_json_comes_back_with_its_sums(graph):
    data = json.loads(json.dumps(viewer_json(graph), allow_nan=False))
    back, cut = read_viewer_json(data), graph.pruned(0.98, 0.998, 1500)
    assert back.accounting["nodes"] == cut.nodes.has_inputs.sum()
    rows = {name: row for row, name in enumerate(cut.nodes.ids())}
    order = np.array([rows[name] for name in back.nodes.ids()])
    assert len(order) == len(rows)
    assert np.allclose(back.edges.toarray(), cut.edges.toarray()[np.ix_(order, order)], atol=1e-6)
    again = viewer_json(back)
    assert [node["node_id"] for node in again["nodes"]] == [node["node_id"] for node in data["nodes"]]
    for one, other in zip(again["links"], data["links"], strict=True):
        assert one == {**other, "influence": pytest.approx(other["influence"])}


def test_viewer_json_is_what_the_reference_viewer_reads(graph):
    data = viewer_json(graph)
    assert data["metadata"]["schema_version"] == 1
    assert set(data) == {"metadata", "qParams", "nodes", "links"}
    by_id = {node["node_id"]: node for node in data["nodes"]}
    assert len(by_id) == len(data["nodes"])
    for node in data["nodes"]:
        assert isinstance(node["layer"], str)
        assert 0 <= node["influence"] <= 1
        if node["feature_type"] == "cross layer transcoder":
            layer, feature, position = map(int, node["node_id"].split("_"))
            assert node["feature"] == cantor(layer, feature)
            assert (node["layer"], node["ctx_idx"]) == (str(layer), position)
    assert all(link["source"] in by_id and link["target"] in by_id for link in data["links"])
    inputs = {name: node["remainder"] for name, node in by_id.items()}
    for link in data["links"]:
        inputs[link["target"]] += link["weight"]
    for name, node in by_id.items():
        if node["pre_activation"] is not None:
            assert inputs[name] == pytest.approx(node["pre_activation"], abs=1e-3)


def test_few_links_leave_the_rest_in_remainders(graph):
    data = viewer_json(graph, max_links=50)
    assert len(data["links"]) <= 50
    assert read_viewer_json(data).accounting["max_error"] < 1e-4


def test_json_of_the_reference_viewer_is_read():
    nodes = [
        {"node_id": "E_5_0", "feature": 0, "layer": "E", "ctx_idx": 0, "feature_type": "embedding"},
        {"node_id": "0_7_0", "feature": 35, "layer": "0", "ctx_idx": 0, "feature_type": "cross layer transcoder"},
        {"node_id": "0_1_0", "feature": -1, "layer": "1", "ctx_idx": 0, "feature_type": "mlp reconstruction error"},
        {"node_id": "3_9_0", "feature": 9, "layer": "3", "ctx_idx": 0, "feature_type": "logit", "token_prob": 0.9,
         "clerp": 'Output "x" (p=0.900)'},
    ]  # fmt: skip
    links = [
        {"source": "E_5_0", "target": "0_7_0", "weight": 1.5},
        {"source": "0_7_0", "target": "3_9_0", "weight": -2.0},
        {"source": "0_1_0", "target": "3_9_0", "weight": 0.5},
    ]
    metadata = {"slug": "s", "scan": "m", "prompt": "p", "prompt_tokens": ["p"], "node_threshold": 0.8}
    graph = read_viewer_json({"metadata": metadata, "nodes": nodes, "links": links})
    assert graph.nodes.ids() == ["E_5_0", "1_-1_0", "0_7_0", "3_9_0"]
    assert graph.edges.toarray()[3].tolist() == [0, 0.5, -2.0, 0]
    assert graph.scores.replacement > 0
    for broken in ({}, {"metadata": {}, "nodes": [{}], "links": []}, {"metadata": {}, "nodes": nodes, "links": [{}]}):
        with pytest.raises(InputError, match="no attribution graph"):
            read_viewer_json(broken)


def test_pt_comes_back_without_biases(graph, tmp_path):
    write_pt(graph, tmp_path / "g.pt")
    peer = read_pt(tmp_path / "g.pt")
    back = to_graph(peer, graph.token_strings)
    plain = graph.nodes.kind != kinds.BIAS
    assert back.nodes.ids() == [name for name, keep in zip(graph.nodes.ids(), plain) if keep]
    assert np.array_equal(back.edges.toarray(), graph.edges.toarray()[np.ix_(plain, plain)])
    assert back.scores.replacement == pytest.approx(graph.scores.replacement, abs=1e-6)
    assert back.pruned().accounting["nodes"] == 0  # it knows no pre-activations
    # The peer's order: features by (layer, position, feature), errors by (layer, position), tokens, logits.
    assert (np.diff(peer.active_features.numpy() @ [10**6, 10**3, 1]) > 0).all()
    n, last = len(peer.selected_features), int(graph.logit_rows[0])
    error = graph.row("1_-1_3")
    first_logit = n + (graph.n_layers + 1) * len(IDS)
    assert float(peer.adjacency[first_logit, n + len(IDS) + 3]) == float(graph.edges[[last]].toarray()[0, error])


def old_file(path, **changes):
    """A file as versions before 0.5 wrote them: token ids for logits, no vocab_size."""
    n = 2 + 2 * 3 + 3 + 1
    data = {
        "input_string": "a b c",
        "adjacency_matrix": torch.arange(n * n).reshape(n, n).float(),
        "cfg": {"n_layers": 2, "d_vocab": 9},
        "active_features": torch.tensor([[0, 1, 5], [1, 2, 6], [1, 2, 8]]),
        "selected_features": torch.tensor([0, 2]),
        "activation_values": torch.tensor([0.5, 0.6, 0.7]),
        "logit_tokens": torch.tensor([4]),
        "logit_probabilities": torch.tensor([0.9]),
        "input_tokens": torch.tensor([1, 2, 3]),
        "scan": None,
    }
    torch.save({**data, **changes}, path)


def test_older_pt_files_are_read(tmp_path):
    old_file(tmp_path / "old.pt")
    peer = read_pt(tmp_path / "old.pt")
    assert peer.logit_targets == (LogitTarget("", 4),)
    graph = to_graph(peer)
    assert graph.n_unexplored == 1
    assert {"0_5_1", "1_8_2", "3_4_2", "E_2_1", "1_-1_2"} <= set(graph.nodes.ids())


class _Malicious:
    def __reduce__(self):
        return os.system, ("touch /tmp/cutaway-was-here",)


@pytest.mark.parametrize("how", ["inside", "alone", "as a stand-in's state"])
def test_a_malicious_pickle_is_refused_and_does_not_run(how, tmp_path):
    path = tmp_path / "evil.pt"
    if how == "alone":
        path.write_bytes(pickle.dumps(_Malicious()))
    elif how == "inside":
        old_file(path, scan=_Malicious())
    else:
        old_file(path, cfg=SimpleNamespace(n_layers=2))
    with pytest.raises(InputError, match="read safely"):
        read_pt(path)
    assert not os.path.exists("/tmp/cutaway-was-here")


def test_what_is_no_graph_is_refused(tmp_path):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="lacks adjacency_matrix"):
        read_pt(tmp_path / "w.pt")
    old_file(tmp_path / "d.pt", input_tokens=torch.tensor([1, 2]))
    with pytest.raises(InputError, match="damaged"):
        read_pt(tmp_path / "d.pt")
    with pytest.raises(InputError, match="no file"):
        read_pt(tmp_path / "none.pt")


def test_a_pruned_graph_is_no_pt(graph, tmp_path):
    with pytest.raises(InputError, match="pruned"):
        write_pt(graph.pruned(), tmp_path / "p.pt")
