"""Head scores where attention is known; low-rank tricks against whole matrices; the depth that induction needs."""

import math

import numpy as np
import pytest
import torch
from model.families import ids, model, module

import cutaway as cw
from cutaway.core import InputError
from cutaway.model import load
from cutaway.readouts import composition, head_circuit, head_scores
from cutaway.readouts.composition import KINDS
from cutaway.readouts.head_weights import HeadWeights, head_weights
from cutaway.readouts.heads import KINDS as SCORES
from cutaway.readouts.low_rank import copying_scores, vocabulary

FAMILIES = ("gpt2", "llama", "gpt_neox", "gemma2", "qwen3", "falcon", "qwen3_moe")


# ---- weights


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral", "qwen3_moe", "olmo2"])
def test_the_weights_read_the_stream_and_write_to_it(family: str) -> None:
    """q = W_Q r / s and attn_out_post = sum_h W_O z / s', with the norms' denominators put back (no biases here)."""
    m, w = model(family), head_weights(model(family))
    normed = m.refuses("attn_norm_scale.1") is None
    post = m.refuses("attn_out_norm_scale.1") is None
    reads = ["resid_pre.1", "value.1", "z.1", "attn_out_post.1"]
    run = m.run(ids(), read=reads + ["attn_norm_scale.1"] * normed + ["attn_out_norm_scale.1"] * post)
    heads, r = m.facts.n_heads, run["resid_pre.1"]
    r = r / run["attn_norm_scale.1"] if normed else r
    mine = slice(heads, 2 * heads)
    value = torch.einsum("hcd,bpd->bphc", w.v[mine], r)
    groups = heads // m.facts.n_kv_heads
    assert torch.allclose(value, run["value.1"].repeat_interleave(groups, 2), atol=1e-4)
    wrote = torch.einsum("hdc,bphc->bpd", w.o[mine], run["z.1"])
    wrote = wrote / run["attn_out_norm_scale.1"] if post else wrote
    assert torch.allclose(wrote, run["attn_out_post.1"], atol=1e-4)


def test_query_heads_share_their_groups_keys() -> None:
    m, w = model("llama"), head_weights(model("llama"))  # 6 heads over 3
    assert w.kv_head[:6] == (0, 0, 1, 1, 2, 2)
    assert torch.equal(w.k[0], w.k[1])
    assert not torch.equal(w.k[1], w.k[2])
    assert not torch.equal(w.q[0], w.q[1])
    assert m.facts.n_kv_heads == 3


# ---- low-rank tricks


@pytest.mark.parametrize("family", FAMILIES)
def test_copying_scores_are_those_of_the_whole_matrix(family: str) -> None:
    m, w = model(family), head_weights(model(family))
    embedding, unembedding = vocabulary(m)
    scores = copying_scores(m, w)
    for i in (0, len(w.places) - 1):
        values = torch.linalg.eigvals((unembedding @ w.o[i] @ w.v[i] @ embedding.T).double())
        assert math.isclose(float(values.real.sum() / values.abs().sum()), float(scores[i]), abs_tol=1e-4)


def test_a_head_that_copies_scores_one() -> None:
    m = load(module("llama", tie_word_embeddings=True))
    with torch.no_grad():
        m.hf.model.norm.weight.fill_(1.0)
    w = head_weights(m)
    copier = HeadWeights(w.q, w.k, w.v, w.v.transpose(1, 2), w.places, w.kv_head, ())  # W_OV = V^T V
    assert torch.allclose(copying_scores(m, copier), torch.ones(len(w.places)), atol=1e-4)
    anti = HeadWeights(w.q, w.k, w.v, -w.v.transpose(1, 2), w.places, w.kv_head, ())
    assert torch.allclose(copying_scores(m, anti), -torch.ones(len(w.places)), atol=1e-4)


@pytest.mark.parametrize("kind", ["QK", "OV"])
def test_a_circuit_is_its_matrix(kind: str) -> None:
    m, w = model("llama"), head_weights(model("llama"))
    embedding, unembedding = vocabulary(m)
    i = w.index(1, 3)
    whole = embedding @ w.q[i].T @ w.k[i] @ embedding.T if kind == "QK" else unembedding @ w.o[i] @ w.v[i] @ embedding.T
    found = head_circuit(m, kind, 1, 3)  # type: ignore[arg-type]
    assert torch.allclose(found.entries([4, 9], [5, 6, 7]), whole[[4, 9]][:, [5, 6, 7]], atol=1e-3)
    assert math.isclose(found.norm(), float(whole.norm()), rel_tol=1e-4)
    column = whole[4] if kind == "QK" else whole[:, 4]
    assert found.top(4, 1)[0][0] == str(int(column.argmax()))
    with pytest.raises(InputError, match=r"no head 9\.9"):
        head_circuit(m, "OV", 9, 9)


@pytest.mark.parametrize("family", FAMILIES)
def test_composition_is_that_of_the_whole_matrices(family: str) -> None:
    w = head_weights(model(family))
    found = composition(model(family), draws=2, null_seeds=())
    later, earlier = len(w.places) - 1, 1
    qk, ov = w.q[later].T @ w.k[later], w.o[later] @ w.v[later]
    wrote = w.o[earlier] @ w.v[earlier]
    whole = {"Q": (qk.T @ wrote, qk), "K": (qk @ wrote, qk), "V": (ov @ wrote, ov)}
    for kind, (product, own) in whole.items():
        expected = float(product.norm() / (own.norm() * wrote.norm()))
        assert math.isclose(float(found.scores[kind][later, earlier]), expected, rel_tol=1e-3)
    layer = torch.tensor([place[0] for place in w.places])
    for kind in KINDS:
        assert (found.scores[kind][layer[:, None] <= layer[None]] == 0).all(), "only later heads read earlier ones"


def test_composition_needs_two_layers(one_layer: cw.Model) -> None:
    with pytest.raises(InputError, match="one layer"):
        composition(one_layer)


def test_almanac_composes_its_induction_head_of_a_previous_token_head(almanac: cw.Model) -> None:
    found = composition(almanac, draws=20)
    scores = head_scores(almanac, null_seeds=(0, 1))
    reads, writes, _ = found.top("K", 1)[0]
    assert reads in scores.found("induction")
    assert writes == scores.found("previous token")[0]
    assert found.evidence[1].verdict == "distinguishable from null"


# ---- scores by attention


def test_a_model_that_attends_evenly_scores_as_uniform_attention_does() -> None:
    hf = module("llama")
    with torch.no_grad():
        for layer in hf.model.layers:
            layer.self_attn.q_proj.weight.zero_()
    found = head_scores(load(hf), sequences=4, tokens=6, repeats=3, null_seeds=())
    for kind in SCORES:
        assert np.allclose(found.scores[kind], found.uniform[kind], atol=1e-5), kind
    assert found.evidence[0].verdict == "no null was run"


def test_almanac_has_induction_heads_and_its_one_layer_sibling_none(almanac: cw.Model, one_layer: cw.Model) -> None:
    deep, flat = head_scores(almanac), head_scores(one_layer)
    before, after = deep.found("previous token"), deep.found("prefix matching")
    assert after
    assert min(layer for layer, _ in after) > min(layer for layer, _ in before)
    index = deep.places.index(after[0])
    assert deep.copying[index] > 0.5, "an induction head copies what it finds"
    verdicts = {e.claim.split(" is ")[1]: e.verdict for e in deep.evidence[:4]}
    assert verdicts["a previous token head"] == verdicts["an induction head"] == "distinguishable from null"
    causal = deep.evidence[-1]
    assert causal.claim.startswith("Without the prefix-matching heads")
    assert causal.verdict == "distinguishable from null"
    assert flat.found("prefix matching") == flat.found("induction") == ()
    verdict = next(e for e in flat.evidence if "induction" in e.claim).verdict
    assert verdict in ("not distinguishable from null", "worse than null")
    drop = lambda scores: scores.loss[0] - scores.loss[1]  # noqa: E731
    assert drop(deep) > 2 > abs(drop(flat))


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2", "qwen3_moe"])
def test_scores_are_shares_of_attention(family: str) -> None:
    found = head_scores(model(family), sequences=4, tokens=5, repeats=2, null_seeds=(0, 1))
    assert len(found.places) == model(family).facts.n_layers * model(family).facts.n_heads
    for values in found.scores.values():
        assert ((values >= 0) & (values <= 1)).all()
    assert found.to_json()["heads"][0]["head"] == "0.0"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"sequences": 2}, "at least 4"),
        ({"repeats": 1}, "repeats is a whole number of at least 2"),
        ({"tokens": 60}, "do not fit"),
        ({"tokens": 10, "vocabulary": [3, 4]}, "fewer than"),
    ],
)
def test_bad_input(arguments: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        head_scores(model("llama"), **arguments)


def test_a_module_without_patterns_is_refused() -> None:
    with pytest.raises(InputError, match="patterns of"):
        head_scores(load(torch.nn.Sequential(torch.nn.Embedding(7, 4), torch.nn.Linear(4, 7))))
    with pytest.raises(InputError, match="no head score"):
        head_scores(model("llama"), sequences=4, tokens=5, null_seeds=()).found("inducton")
