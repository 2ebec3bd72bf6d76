"""Patterns and norms held while generating, and over the source of an encoder-decoder; reads kept small there."""

import pytest
import torch
from model.families import close, ids, model, prompt

import cutaway as cw
from cutaway.core import InputError

FAMILIES = ("gpt2", "llama", "gpt_neox", "gptj")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_of_the_same_prompt_held_changes_nothing(family):
    m = model(family)
    held = cw.freeze(m.run(ids()), "pattern", "norm")
    plain, frozen = m.generate(ids(), 4, stop=()), m.generate(ids(), 4, stop=(), freeze=held)
    assert frozen.new_tokens == plain.new_tokens
    assert close(frozen.logits, plain.logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prompt_is_held_and_new_tokens_are_not(family):
    m = model(family)
    other = cw.freeze(m.run(ids(seed=5)), "pattern")
    made = m.generate(ids(), 4, stop=(), freeze=other, read=["attn_probs.1"])
    length = ids().shape[1]
    stored = other.values["attn_probs.1"]
    torch.testing.assert_close(made["attn_probs.1"][:, :, :length, :length], stored)
    # The first new token is the one that a run of the prompt, so held, predicts.
    assert close(made.logits[:, 0], m.run(ids(), freeze=other).logits[:, -1])
    # New tokens attend as they compute it: the prompt's patterns being set is all that is different.
    whole = made.tokens[:, :-1]
    pattern = made["attn_probs.1"][:, :, :length, : whole.shape[1]]
    changes = []
    for layer in range(m.facts.n_layers):
        there = torch.zeros(len(whole), m.facts.n_heads, whole.shape[1], whole.shape[1])
        there[:, :, :length, :length] = other.values[f"attn_probs.{layer}"]
        changes.append(cw.patch(f"attn_probs.{layer}", there, positions=range(length)))
    again = m.run(whole, ["attn_probs.1"], interventions=changes)
    assert close(again.logits[:, length - 1 :], made.logits)
    torch.testing.assert_close(again["attn_probs.1"][:, :, :length], pattern)


def test_what_cannot_be_held_is_named():
    m = model("gpt2")
    held = cw.freeze(m.run(ids()))
    for more, message in (
        ({"freeze": "pattern"}, "what cw.freeze"),
        ({"freeze": held, "cache": False}, "cache=False"),
        ({"freeze": cw.freeze(m.run(ids(positions=5)))}, "tokens"),
        ({"freeze": cw.freeze(model("llama").run(ids()))}, "another model"),
    ):
        with pytest.raises(InputError, match=message):
            m.generate(ids(), 3, **more)
    with pytest.raises(InputError, match="would change nothing"):
        m.generate(ids(), 3, [cw.zero("attn_scores.0")], when="prompt", freeze=held)


@pytest.mark.parametrize("family", FAMILIES)
def test_reads_are_projected_token_by_token(family):
    m = model(family)
    onto = torch.randn(3, m.facts.d_model, generator=torch.Generator().manual_seed(0))
    whole = m.generate(ids(), 4, stop=(), read=["resid_post.1"])["resid_post.1"]
    small = m.generate(
        ids(), 4, stop=(), read={"resid_post.1": cw.reduce(project=onto), "z.0": cw.reduce(dtype="bfloat16")}
    )
    torch.testing.assert_close(small["resid_post.1"], whole @ onto.T, rtol=1e-4, atol=1e-4)
    assert small["z.0"].dtype == torch.bfloat16
    for how in (cw.reduce(mean=True), cw.reduce(position=-1)):
        with pytest.raises(InputError, match="while generating"):
            m.generate(ids(), 2, read={"resid_post.1": how})


@pytest.mark.parametrize("family", ["t5", "t5_gated"])
def test_both_patterns_of_an_encoder_decoder_are_held(family):
    m = model(family)
    one, other = prompt(family), prompt(family, seed=3)
    held = cw.freeze(m.run(other), "pattern")
    assert {name.split(".")[0] for name in held.values} == {"attn_probs", "cross_probs"}
    run = m.run(one, ["attn_probs.1", "cross_probs.1"], freeze=held)
    for name in ("attn_probs.1", "cross_probs.1"):
        torch.testing.assert_close(run[name], held.values[name])
    patched = [cw.patch(name, value) for name, value in held.values.items()]
    assert close(run.logits, m.run(one, interventions=patched).logits)
    assert close(m.run(one, freeze=cw.freeze(m.run(one), "pattern")).logits, m.run(one).logits)
    shorter = m.batch(one.ids, source=one.source.ids[:, :4])
    with pytest.raises(InputError, match="source"):
        m.run(shorter, freeze=held)


def test_a_run_says_what_it_holds():
    m = model("gpt2")
    run = m.run(ids(), ["resid_post.1"])
    assert "resid_post.1" in run
    assert "blocks.1.hook_resid_post" in run
    assert "lm_head" not in run
    assert "mlp_pre_linear.1" not in run  # a point that the family has not
    assert "logits" in run
    assert "logits" not in m.run(ids(), ["resid_post.1"], logits=False)
    with pytest.raises(InputError, match="resid_post"):
        assert "resid_pst.1" not in run


def test_what_fired_prints_alike_in_a_run_and_in_a_generation():
    m = model("gpt2")
    run, made = m.run(ids(), interventions=[cw.zero("z.0", head=1)]), m.generate(ids(), 2, [cw.zero("z.0", head=1)])
    assert "zero z.0 head=1" in str(run.fired)
    assert "prompt + new 1" in str(made)
    assert str(run.fired).splitlines()[0].replace("times", "").split() == [
        "intervention",
        "at",
        "entries",
        "rms",
        "change",
    ]
