"""True edges: read off the model's own weights, and by resampling in the model."""

from __future__ import annotations

import pytest
import torch

from cutaway.toys.rasp import Program, compile_program, indices, program, sequence_map, tokens
from cutaway.toys.rasp.resample import true_edges
from cutaway.toys.rasp.wiring import wiring

KNOWN = {"hist": (13, 4, 4), "double_hist": (32, 7, 7), "reverse": (34, 9, 2), "sort": (36, 9, 7)}
SMALL = ("length", "hist", "double_hist", "shift", "frac_prevs", "reverse", "sort_unique", "mod_sum", "equal_pairs")


@pytest.fixture(scope="module", params=SMALL)
def compiled(request):
    return compile_program(program(request.param), dtype="float64")


@pytest.mark.parametrize("name", KNOWN)
def test_counts_by_hand(name):
    edges = compile_program(program(name)).truth.edges
    assert (edges.count("exists"), edges.count("structural"), edges.count("causal")) == KNOWN[name]


def test_hist_edge_by_edge():
    """Queries and keys read the tokens, the MLP the head's 1 / (1 + width), the logits the MLP; values read BOS."""
    expected = {("tokens", "a0.h0<q>"), ("tokens", "a0.h0<k>"), ("a0.h0", "m0"), ("m0", "logits")}
    assert compile_program(program("hist")).truth.causal == expected


def test_causal_edges_are_structural_and_those_exist(compiled):
    e = compiled.truth.edges
    assert compiled.truth.causal <= compiled.truth.structural <= e.pairs("exists")
    assert e.proven.all()


def test_wires_are_the_model(compiled):
    wires = wiring(compiled.compiled, compiled.vocabulary)
    longest = max(len(given) for given in compiled.program.inputs())
    rows = [given for given in compiled.program.inputs() if len(given) == longest][:50]
    ids = compiled.ids(rows)
    assert torch.allclose(wires.logits(ids, wires.messages(ids)), compiled.model(ids).logits, atol=1e-8)


def test_structural_edges_are_in_the_models_weights(compiled):
    """W_read W_write of the assembled model, BOS apart, is zero exactly where there is no structural edge."""
    state, e = compiled.model.state_dict(), compiled.truth.edges
    d_head = compiled.model.config.head_dim
    embed = state["model.embed_tokens.weight"]
    clean = torch.eye(embed.shape[1], dtype=embed.dtype)
    clean -= torch.outer(embed[0], embed[0])  # the BOS direction

    def rows(component):
        head = int(component.split(".h")[1])
        return slice(head * d_head, (head + 1) * d_head)

    def block(component):
        return f"model.layers.{int(component[1:].split('.')[0])}"

    def read(name):
        if name == "logits":
            return state["lm_head.weight"]
        stem, _, port = name.partition("<")
        if port:
            return state[f"{block(stem)}.self_attn.{port[0]}_proj.weight"][rows(stem)]
        return state[f"{block(stem)}.mlp.up_proj.weight"]

    def written(name):
        if name == "tokens":
            return embed[2:].T
        if name == "positions":
            return state["model.embed_positions.weight"].T
        if name.startswith("m"):
            return state[f"{block(name)}.mlp.down_proj.weight"]
        return state[f"{block(name)}.self_attn.o_proj.weight"][:, rows(name)]

    for s, source in enumerate(e.sources):
        for d, destination in enumerate(e.destinations):
            if e.exists[s, d]:
                meets = (read(destination) @ clean @ written(source)).abs().max() > 1e-9
                assert bool(meets) == bool(e.structural[s, d]), (source, destination)


def test_resampling_an_edge_that_is_not_causal_changes_no_output(compiled):
    """On all pairs of short inputs: an edge that is not causal never changes an output."""
    wires, e, p = wiring(compiled.compiled, compiled.vocabulary), compiled.truth.edges, compiled.program
    rows = [given for given in p.inputs() if len(given) == max(3, p.shortest)][:27]
    ids = compiled.ids(rows)
    messages = wires.messages(ids)
    plain = wires.logits(ids, messages).argmax(-1)[:, 1:]
    for s, d in e.exists.nonzero().tolist():
        if e.causal[s, d]:
            continue
        for other in range(len(rows)):
            change = messages[e.sources[s]][other] - messages[e.sources[s]]
            logits = wires.logits(ids, dict(messages), e.destinations[d], change)
            assert torch.equal(logits.argmax(-1)[:, 1:], plain), (e.sources[s], e.destinations[d])


def test_a_message_that_varies_without_effect_is_tried_on_every_pair():
    """The token is read by the MLP and ignored: structural, not causal, and proven by exhaustion or left unproven."""
    ignores = sequence_map(lambda token, index: index, tokens, indices)
    p = Program("ignores", "", "", ignores, ("a", "b"), 3)
    c = compile_program(p)
    edge = c.truth.edges.sources.index("tokens"), c.truth.edges.destinations.index("m0")
    e = c.truth.edges
    assert (bool(e.structural[edge]), bool(e.causal[edge]), bool(e.proven[edge])) == (True, False, True)
    assert int(e.tried[edge]) >= sum(4**length for length in (1, 2, 3))
    few = true_edges(wiring(c.compiled, c.vocabulary), p, c.vocabulary, most=10)
    assert (bool(few.causal[edge]), bool(few.proven[edge])) == (False, False)
    assert "not found in" in str(few)


def test_merged_edges_are_the_union_of_both_embeddings(compiled):
    e = compiled.truth.edges
    joined = e.merged()
    assert joined.sources[0] == "input"
    for kind in ("exists", "structural", "causal"):
        expected = {("input" if s in ("tokens", "positions") else s, d) for s, d in e.pairs(kind)}
        assert joined.pairs(kind) == expected


def test_an_unknown_kind_is_refused(compiled):
    with pytest.raises(ValueError, match="structural"):
        compiled.truth.edges.pairs("true")
