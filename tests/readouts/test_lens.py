"""The logit lens ends in the model's own logits; what it reports of a reading is what the reading holds."""

import numpy as np
import pytest
import torch
from model.families import close, ids, model, module

import cutaway as cw
from cutaway.core import Estimate, InputError
from cutaway.evidence import rerandomise
from cutaway.model import load
from cutaway.readouts import TunedLens, lens
from cutaway.readouts.reading import read_lens
from cutaway.readouts.seeds import beside_seeds
from cutaway.readouts.unembed import unembedding

FAMILIES = ("gpt2", "llama", "gpt_neox", "gemma2", "granite", "qwen3_moe", "opt", "bloom")
PROMPT = "When Mary and John went to the shop, John gave a book to"


@pytest.mark.parametrize("family", FAMILIES)
def test_at_the_last_layer_the_lens_is_the_model(family: str) -> None:
    """Through final norm, scale and cap: gemma2 caps its logits, granite divides them."""
    m = model(family)
    last = f"resid_post.{m.facts.n_layers - 1}"
    run = m.run(ids(), read=[last])
    assert close(unembedding(m)(run[last]), run.logits)


def test_what_lies_between_is_refused() -> None:
    """OPT with a narrower embedding projects the stream down after its final norm: no lens reads what it reads."""
    odd = load(module("opt", word_embed_proj_dim=24))
    with pytest.raises(InputError, match="between"):
        unembedding(odd)


def test_a_bare_module_has_no_lens() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        unembedding(load(torch.nn.Sequential(torch.nn.Embedding(7, 4), torch.nn.Linear(4, 7))))


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_a_reading_holds_what_it_says(family: str) -> None:
    m = model(family)
    batch, answers = m.batch(ids(3, 8)), torch.tensor([5, 6, 7])
    r = read_lens(m, batch, ["resid_pre.0", "resid_post.0", "resid_post.1"], answers=answers, top=4)
    assert r.points[-1] == "logits"
    assert np.allclose(r.kl[-1], 0)
    assert (r.kl >= 0).all()
    assert (r.target[r.last] == answers.numpy()).all()
    run = m.run(batch, read="resid_post.1")
    lp = unembedding(m)(run["resid_post.1"]).log_softmax(-1)[1, -1]
    at = r.last[1]
    assert r.rank[2, at] == int((lp > lp[6]).sum()) + 1
    assert np.isclose(r.log_p[2, at], float(lp[6]), atol=1e-5)
    final = run.logits[1, -1].log_softmax(-1)
    assert np.isclose(r.kl[2, at], float((final.exp() * (final - lp)).sum()), atol=1e-5)
    for n, depth in enumerate(r.depth):
        assert r.agrees[depth:, n].all()
        assert depth == 0 or not r.agrees[depth - 1, n]


def test_a_padded_batch_reads_as_each_prompt_alone() -> None:
    m = model("llama")
    rows = [ids(1, 4)[0].tolist(), ids(1, 9, seed=1)[0].tolist()]
    points = ["resid_post.0", "resid_post.1"]
    both = read_lens(m, m.batch(rows), points)
    for i, row in enumerate(rows):
        alone = read_lens(m, m.batch([row]), points)
        assert np.allclose(both.kl[:, both.row == i], alone.kl, atol=1e-4)
        assert (both.top[:, both.row == i, 0] == alone.top[:, :, 0]).all()


def test_the_identity_translator_is_the_logit_lens() -> None:
    m = model("gpt2")
    identity = TunedLens.identity(m)
    plain, tuned = lens(m, ids(2, 6), null_seeds=()), lens(m, ids(2, 6), tuned=identity, null_seeds=())
    assert np.allclose(plain.reading.kl, tuned.reading.kl[: len(plain.reading.points)], atol=1e-5)


def test_almanac_says_the_answer_before_its_last_layer(almanac: cw.Model) -> None:
    found = lens(almanac, [PROMPT, "the capital of the state containing Dallas is", "Mary went home because"])
    r, at = found.reading, found.reading.last[0]
    assert r.rank[-1, at] == 1
    assert r.rank[-2, at] == 1, "the stream after layer 2 has the answer on top"
    assert r.rank[0, at] > 1, "and the token 'to' alone has not"
    assert found.evidence[0].verdict == "distinguishable from null"
    assert "Mary" in str(found)
    assert "2 more prompts" in str(found)
    assert np.isfinite(found.null_kl).all()
    body = found.to_json()
    assert body["prompts"][0]["points"][-1]["answer_rank"] == 1
    assert len(body["evidence"]) == 2


def test_a_task_gives_prompts_and_answers(almanac: cw.Model) -> None:
    task = cw.task("ioi", almanac, n=12, seed=0)
    found = lens(almanac, task)
    assert (found.reading.target[found.reading.last] == task.answers.numpy()).all()
    assert found.evidence[1].effect.n == 12
    assert found.evidence[1].verdict == "distinguishable from null"


def test_one_prompt_settles_nothing_about_answers(almanac: cw.Model) -> None:
    record = lens(almanac, PROMPT).evidence[1]
    assert record.effect.n == 1
    assert record.effect.interval is None
    assert record.verdict == "not distinguishable from null"


def test_an_untrained_model_is_shown_as_one(almanac: cw.Model) -> None:
    """Its stream agrees with its own output no more than other random models' do."""
    found = lens(rerandomise(almanac, seed=9), [PROMPT, "the capital of the state containing Dallas is"])
    assert found.evidence[0].verdict == "not distinguishable from null"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"top": 0}, "top, the tokens shown a cell, is"),
        ({"at": "z.0"}, "residual stream"),
        ({"at": "final_norm"}, "residual stream"),
        ({"at": "resid_psot.*"}, "resid_post"),
        ({"at": "resid_post.7"}, "no layer 7"),
        ({"answer": "no such word"}, "not one token"),
        ({"answer": ["Mary", "John"]}, "2 answers for 1"),
        ({"answer": 10**6}, "not in the vocabulary"),
    ],
)
def test_bad_input(almanac: cw.Model, arguments: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        lens(almanac, "hi", **{"at": "resid_pre.*", **arguments})


def test_another_random_model_falls_into_the_nulls_interval() -> None:
    """The interval is that of a further draw: it holds one 95 % of the time, and widens as seeds get few."""
    rng = np.random.default_rng(0)
    for seeds in (2, 3, 5):
        draws = rng.normal(3.0, 0.5, size=(4000, seeds + 1))
        inside = 0
        for *known, other in draws[:1500]:
            found = beside_seeds(Estimate(name="x", value=other, n=1), known, "null", exact=True)
            assert found.difference is not None
            inside += not (found.difference.low > 0 or found.difference.high < 0)
        assert abs(inside / 1500 - 0.95) < 0.025
    alone = beside_seeds(Estimate(name="x", value=9.0, n=1), [1.0], "null", exact=True)
    assert alone.difference is not None
    assert np.isnan(alone.difference.low)
