"""Names, which edges exist, paths."""

import pytest
import torch

from cutaway.circuits.graph import graph_of
from cutaway.core import InputError, UnknownName


def test_names_are_those_of_the_field_and_kv_heads_are_their_own_under_gqa():
    plain, shared = graph_of([(2, 2)], [False]), graph_of([(4, 2)], [False])
    assert plain.destinations == (
        "a0.h0<q>",
        "a0.h1<q>",
        "a0.h0<k>",
        "a0.h1<k>",
        "a0.h0<v>",
        "a0.h1<v>",
        "m0",
        "logits",
    )
    assert {"a0.h3<q>", "a0.kv1<k>", "a0.kv1<v>"} <= set(shared.destinations)
    assert "a0.h3<k>" not in shared.destinations
    assert graph_of([(4, 2)], [False], split=False).destinations == ("a0.kv0", "a0.kv1", "m0", "logits")


def test_gpt2_small_has_the_edges_that_the_literature_counts():
    graph = graph_of([(12, 12)] * 12, [False] * 12)
    assert (len(graph.sources), graph.n_edges) == (157, 32491)


def test_no_edge_leads_from_a_head_to_the_mlp_beside_it():
    one, beside = graph_of([(2, 2)], [False]), graph_of([(2, 2)], [True])
    assert one.exists[one.source("a0.h0"), one.destination("m0")]
    assert not beside.exists[beside.source("a0.h0"), beside.destination("m0")]
    with pytest.raises(InputError, match="writes after"):
        beside.edge("a0.h0", "m0")
    with pytest.raises(UnknownName, match=r"a0\.h0"):
        one.edge("a0.h00", "m0")


def test_paths_lead_from_the_input_through_shared_keys_to_the_logits():
    graph = graph_of([(4, 2), (4, 2)], [False, False])
    way = [("input", "a0.kv1<v>"), ("a0.h2", "a1.h0<q>"), ("a1.h0", "logits")]
    dead = [("a0.h0", "m1"), ("input", "a1.kv1<k>")]  # nothing enters a0.h0; nothing leaves heads 2 and 3 of layer 1
    mask = graph.mask([*way, *dead])
    assert set(graph.pairs(graph.on_paths(mask))) == set(way)
    assert not graph.on_paths(graph.mask(dead)).any()


def test_scores_of_ports_add_up_where_a_head_is_one_destination():
    split, whole = graph_of([(4, 2)], [False]), graph_of([(4, 2)], [False], split=False)
    ports = torch.arange(float(len(split.ports))).expand(len(split.sources), -1)
    at = {name: i for i, name in enumerate(split.ports)}
    expected = sum(at[name] for name in ("a0.h0<q>", "a0.h1<q>", "a0.kv0<k>", "a0.kv0<v>"))
    assert whole.gathered(ports)[0, whole.destination("a0.kv0")] == expected
    assert torch.equal(split.gathered(ports), ports)
    assert torch.equal(whole.ported(whole.gathered(ports))[:, at["a0.kv1<k>"]], whole.gathered(ports)[:, 1])
