"""Padding, early stopping, names, prompts: a prompt in a batch is that prompt alone."""

from __future__ import annotations

import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model.families import FAMILIES, close, ids, model

import cutaway.model as cw
from cutaway.core import InputError

ROWS = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [14, 15, 16, 17]]


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_in_a_padded_batch_is_that_prompt_alone(family: str, padding: str) -> None:
    m = model(family)
    reads = ["resid_post.*", "z.1"]
    together = m.run(ROWS, read=reads, padding=padding)
    for number, row in enumerate(ROWS):
        alone = m.run(row, read=reads)
        mine = together.mask[number]
        assert together.tokens[number][mine].tolist() == row
        assert close(together.logits[number][mine], alone.logits[0])
        for name in alone.reads:
            assert close(together[name][number][mine], alone[name][0])


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "mistral"])
def test_patterns_in_a_padded_batch_attend_to_no_padding(family: str, padding: str) -> None:
    m = model(family)
    together = m.run(ROWS, read=["attn_probs.*"], padding=padding)
    for number, row in enumerate(ROWS):
        alone = m.run(row, read=["attn_probs.*"])
        mine = together.mask[number]
        for name in alone.reads:
            assert close(together[name][number][:, mine][:, :, mine], alone[name][0])


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("position", [0, 1, -1, -2])
def test_positions_count_a_rows_own_tokens(padding: str, position: int) -> None:
    m, vector = model("llama"), torch.ones(48)
    for addition in (cw.add("resid_post.1", vector, positions=position), cw.zero("z.1", positions=position, head=2)):
        together = m.run(ROWS, ["resid_post.2"], [addition], padding=padding)
        for number, row in enumerate(ROWS):
            alone = m.run(row, ["resid_post.2"], [addition])
            assert close(together.at("logits", -1)[number], alone.logits[0, -1])
            assert close(together.at("resid_post.2", position)[number], alone.at("resid_post.2", position)[0])


@pytest.mark.parametrize("padding", ["right", "left"])
def test_grouped_additions_count_a_rows_own_tokens(padding: str) -> None:
    m = model("llama")
    additions = [
        cw.add("mlp_out.1", torch.full((48,), 1.0 + r), rows=r, positions=p) for r in range(3) for p in (-1, 0)
    ]
    together = m.run(ROWS, interventions=additions, padding=padding)
    for number, row in enumerate(ROWS):
        mine = [cw.add("mlp_out.1", torch.full((48,), 1.0 + number), positions=p) for p in (-1, 0)]
        assert close(together.at("logits")[number], m.run(row, interventions=mine).logits[0, -1])


def test_a_position_that_a_short_row_lacks_is_an_error() -> None:
    with pytest.raises(InputError, match="no position 3 in row 1, which has 2 tokens"):
        model("llama").run(ROWS, interventions=[cw.zero("resid_post.1", positions=3)])


@pytest.mark.parametrize("family", ["llama", "gemma2", "falcon"])
def test_stopping_early_reads_the_same_and_computes_no_more(family: str) -> None:
    m = model(family)
    reached: list[int] = []
    handles = [
        m.architecture.block(layer).register_forward_hook(lambda *_, layer=layer: reached.append(layer))  # type: ignore[union-attr]
        for layer in range(m.facts.n_layers)
    ]
    try:
        early = m.run(ids(), read=["resid_post.0", "mlp_out.1"], logits=False)
        assert max(reached) == 1
    finally:
        for handle in handles:
            handle.remove()
    whole = m.run(ids(), read=["resid_post.0", "mlp_out.1"])
    assert torch.equal(early["mlp_out.1"], whole["mlp_out.1"])
    with pytest.raises(InputError, match="logits=False"):
        _ = early.logits
    with torch.no_grad():
        assert torch.equal(m.hf(ids()).logits, whole.logits)  # nothing is left behind on the module


def test_no_hook_is_left_behind_after_an_error() -> None:
    m = model("llama")
    with pytest.raises(InputError):
        m.run(ids(), read=["attn_probs.*"], interventions=[cw.add("resid_post.1", torch.ones(5))])
    hooks = [n for n, part in m.hf.named_modules() if part._forward_hooks or part._forward_pre_hooks]
    assert hooks == []
    assert m.hf.config._attn_implementation == "sdpa"


# ---- names


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        ("blocks.1.hook_resid_pre", "resid_pre.1"),
        ("blocks.1.hook_resid_mid", "resid_mid.1"),
        ("blocks.1.hook_resid_post", "resid_post.1"),
        ("blocks.1.hook_mlp_out", "mlp_out.1"),
        ("blocks.1.mlp.hook_in", "mlp_in.1"),
        ("blocks.1.mlp.hook_post", "mlp_act.1"),
        ("blocks.1.ln2.hook_normalized", "mlp_normalized.1"),
        ("blocks.1.ln1.hook_scale", "attn_norm_scale.1"),
        ("blocks.1.attn.hook_z", "z.1"),
        ("blocks.1.attn.hook_q", "q.1"),
        ("blocks.1.attn.hook_rot_k", "k_rot.1"),
        ("blocks.1.attn.hook_pattern", "attn_probs.1"),
        ("ln_final.hook_scale", "final_norm_scale"),
        ("unembed.hook_in", "final_norm"),
        ("hook_embed", "embeddings"),
        ("layers_output[1]", "resid_post.1"),
    ],
)
def test_other_frameworks_names_are_understood_and_reported_under_ours(foreign: str, ours: str) -> None:
    m = model("llama")
    assert m.addresses(foreign) == (ours,)
    run = m.run(ids(1), read=[foreign])
    assert run.reads == (ours,)
    assert torch.equal(run[foreign], run[ours])


def test_a_contribution_is_after_the_norm_where_a_family_has_one() -> None:
    assert model("gemma2").addresses("blocks.0.hook_mlp_out") == ("mlp_out_post.0",)
    assert model("llama").addresses("blocks.*.hook_resid_post") == ("resid_post.0", "resid_post.1", "resid_post.2")


def test_hook_names_as_dictionaries_carry_them() -> None:
    for name, ours in [
        ("hook_resid_mid", "resid_mid.2"),
        ("hook_mlp_out", "mlp_out.2"),
        ("mlp.hook_in", "mlp_in.2"),
        ("ln2.hook_normalized", "mlp_normalized.2"),
        ("mlp_in", "mlp_in.2"),
    ]:
        assert model("llama").hook_point(name, 2) == ours
    with pytest.raises(InputError):
        model("llama").hook_point("hook_nonsense", 2)


def test_names_that_mean_two_things_are_refused() -> None:
    with pytest.raises(InputError, match="BEFORE the block norm"):
        model("llama").addresses("blocks.1.hook_mlp_in")


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="ascii"), max_size=20))
def test_no_text_is_silently_taken_for_a_point(text: str) -> None:
    m = model("llama")
    with contextlib.suppress(InputError):
        assert set(m.addresses(text)) <= set(m.points())


def test_a_module_path_can_be_read_and_changed() -> None:
    m, tokens = model("llama"), ids()
    run = m.run(tokens, read=["path.model.layers.1.mlp.up_proj", "mlp_pre_linear.1"])
    assert torch.equal(run["path.model.layers.1.mlp.up_proj"], run["mlp_pre_linear.1"])
    zeroed = m.run(tokens, interventions=[cw.zero("path.model.layers.1.mlp")])
    assert close(zeroed.logits, m.run(tokens, interventions=[cw.zero("mlp_out.1")]).logits)
    with pytest.raises(InputError, match=r"path\.model\.layers\.1\.mlp"):
        m.run(tokens, read=["path.model.layers.1.mpl"])


# ---- prompts


def test_prompts_that_cannot_be_run_say_why() -> None:
    m = model("llama")
    for prompt, why in [
        ("", "no tokenizer"),
        ("text", "no tokenizer"),
        ([], "empty"),
        ([[]], "row 0 is empty"),
        (torch.zeros(1, 0, dtype=torch.long), "empty"),
        ([101], "101 is not in the vocabulary"),
        ([-1], "-1 is not in the vocabulary"),
        (torch.tensor([[1.0]]), "whole numbers"),
        (list(range(3)) * 30, "90 tokens long; the model takes at most 64"),
        (3, "text, token ids"),
        ([[1, "a"]], "row 0 holds"),
    ]:
        with pytest.raises(InputError, match=why):
            m.run(prompt)  # type: ignore[arg-type]


def test_a_run_prints_what_was_read_and_done() -> None:
    run = model("llama").run(ids(), read=["z.1"], interventions=[cw.zero("resid_post.1", positions=-1)])
    text = str(run)
    for part in ("2 rows", "9 positions", "z.1", "[2, 9, 6, 8]", "zero resid_post.1 positions=-1", "rms change"):
        assert part in text
    with pytest.raises(InputError, match=r"resid_post\.0 was not read.*z\.1"):
        run["resid_post.0"]
