"""On every family: the logits are Hugging Face's, and what is read is what the names say."""

from __future__ import annotations

import pytest
import torch
from model.families import FAMILIES, OPEN, close, ids, model, module

from cutaway.core import InputError
from cutaway.model import load


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_hugging_faces_however_much_is_read(family: str) -> None:
    m, tokens = model(family), ids()
    with torch.no_grad():
        expected = m.hf(tokens, use_cache=False).logits
    assert torch.equal(m.run(tokens).logits, expected)
    everything = m.run(tokens, read=m.points())
    assert close(everything.logits, expected)
    assert set(everything.reads) == set(m.points())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_point_has_the_shape_that_its_axes_say(family: str) -> None:
    m, tokens = model(family), ids(2, 8)
    run = m.run(tokens, read=m.points())
    f = m.facts
    sizes = {"batch": 2, "position": 8, "query": 8, "key": 8, "d_model": f.d_model, "one": 1, "neuron": f.d_mlp}
    sizes |= {"head": f.n_heads, "kv_head": f.n_kv_heads, "d_head": f.d_head, "vocab": f.vocab_size}
    for address in m.points():
        axes = m.site(address).axes
        if "width" not in axes:
            assert list(run[address].shape) == [sizes[axis] for axis in axes], address


@pytest.mark.parametrize("family", FAMILIES)
def test_the_residual_stream_is_the_sum_of_what_is_added_to_it(family: str) -> None:
    m = model(family)
    run = m.run(ids(), read=["resid_pre.*", "attn_out_post.*", "mlp_out_post.*", "resid_post.*"])
    for layer in range(m.facts.n_layers):
        total = run[f"resid_pre.{layer}"] + run[f"attn_out_post.{layer}"] + run[f"mlp_out_post.{layer}"]
        assert close(total, run[f"resid_post.{layer}"], 1e-4)
        if layer:
            assert torch.equal(run[f"resid_pre.{layer}"], run[f"resid_post.{layer - 1}"])


@pytest.mark.parametrize("family", OPEN)
def test_patterns_are_those_of_the_familys_own_eager_attention(family: str) -> None:
    m, tokens = model(family), ids(2, 12)  # longer than the sliding windows
    run = m.run(tokens, read=["attn_probs.*", "attn_scores.*", "value.*", "z.*"])
    eager = module(family)
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        expected = eager(tokens, output_attentions=True).attentions
    for layer in range(m.facts.n_layers):
        pattern = run[f"attn_probs.{layer}"]
        assert close(pattern, expected[layer])
        assert close(run[f"attn_scores.{layer}"].softmax(-1), pattern)
        value = run[f"value.{layer}"].repeat_interleave(m.facts.n_heads // m.facts.n_kv_heads, dim=2)
        assert close(torch.einsum("bhqk,bkhd->bqhd", pattern, value), run[f"z.{layer}"], 1e-5)


@pytest.mark.parametrize("family", OPEN)
def test_the_model_keeps_its_own_attention_outside_a_run_and_where_nothing_is_read(family: str) -> None:
    m, tokens = model(family), ids()
    before = m.hf.config._attn_implementation
    m.run(tokens, read=["attn_probs.1"])
    assert m.hf.config._attn_implementation == before in ("sdpa", "eager")
    with torch.no_grad():
        assert torch.equal(m.hf(tokens).logits, m.run(tokens).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_norms_taken_apart_give_the_norms_output(family: str) -> None:
    m = model(family)
    run = m.run(ids(), read=m.points())
    found = 0
    for address, parts in m.norms.items():
        name, _, layer = address.partition(".")
        reads = {"attn_normalized": "attn_in", "mlp_normalized": "mlp_in", "final_normalized": "final_norm"}.get(name)
        if reads is None:
            continue
        target = run[f"{reads}.{layer}" if layer else reads]
        assert close(parts.output(run[address], target.dtype), target)
        found += 1
    assert found


@pytest.mark.parametrize("family", OPEN)
def test_queries_and_keys_make_the_scores(family: str) -> None:
    m = model(family)
    run = m.run(ids(1), read=["q_rot.1", "k_rot.1", "attn_scores.1"])
    keys = run["k_rot.1"].repeat_interleave(m.facts.n_heads // m.facts.n_kv_heads, dim=2)
    raw = torch.einsum("bqhd,bkhd->bhqk", run["q_rot.1"], keys)
    attention = m.site("attn_scores.1").module
    scores = raw * (1.0 if family == "opt" else attention.scaling)  # OPT scales its queries before it hands them on
    if cap := m.facts.attention_softcap:
        scores = cap * torch.tanh(scores / cap)
    seen = run["attn_scores.1"] > -1e30
    assert close(scores[seen], run["attn_scores.1"][seen])


def test_queries_before_rotation_are_the_rotated_ones_where_nothing_rotates() -> None:
    for family in ("gpt2", "opt"):
        run = model(family).run(ids(), read=["q.*", "k.*", "q_rot.*", "k_rot.*"])
        scale = 1.0
        for layer in range(3):
            if family == "opt":  # OPT scales its queries before it hands them on
                scale = model(family).facts.d_head ** -0.5
            assert close(run[f"q.{layer}"] * scale, run[f"q_rot.{layer}"]) or close(
                run[f"q.{layer}"], run[f"q_rot.{layer}"]
            )
            assert close(run[f"k.{layer}"], run[f"k_rot.{layer}"])


def test_queries_at_the_first_position_are_not_rotated() -> None:
    for family in ("llama", "gpt_neox", "phi3"):
        run = model(family).run(ids(), read=["q.*", "k.*", "q_rot.*", "k_rot.*"])
        for layer in range(3):
            for name in ("q", "k"):
                assert close(run[f"{name}.{layer}"][:, 0], run[f"{name}_rot.{layer}"][:, 0])


@pytest.mark.parametrize("family", FAMILIES)
def test_refusals_say_why_and_the_contract_prints(family: str) -> None:
    m = model(family)
    for reason in m.contract.refused.values():
        assert len(reason) > 20
    assert "worst error" in str(m.contract)
    assert str(m.facts.n_layers) in str(m)


def test_a_point_that_breaks_its_law_is_refused_with_the_measured_error() -> None:
    hf = module("llama")
    honest = type(hf.model.layers[1].mlp).forward
    hf.model.layers[1].mlp.forward = lambda x: 1.5 * honest(hf.model.layers[1].mlp, x)
    m = load(hf)
    assert close(m.run(ids()).logits, hf(ids()).logits)
    assert "W_down(mlp_act) = mlp_out fails in layer 1 by 3.3e-01" in (m.refuses("mlp_act.1") or "")
    assert m.refuses("mlp_act.0") is None
    assert m.addresses("mlp_act.*") == ("mlp_act.0", "mlp_act.2")
    assert "FAILS in [1]" in str(m.contract)


def test_a_norm_whose_arithmetic_is_unknown_is_neither_read_inside_nor_frozen() -> None:
    hf = module("llama")
    norm = hf.model.layers[1].input_layernorm
    norm.forward = lambda x: torch.nn.functional.normalize(x, p=1, dim=-1)
    m = load(hf)
    assert "arithmetic" in (m.refuses("attn_norm_scale.1") or "")
    with pytest.raises(InputError, match="input_layernorm"):
        m.run(ids(), freeze=("norm",))


def test_a_parallel_block_has_no_middle_and_says_so() -> None:
    for family in ("gpt_neox", "phi", "falcon"):
        reason = model(family).refuses("resid_mid.1")
        assert reason is not None
        assert "parallel" in reason


def test_experts_have_no_neurons_and_say_so() -> None:
    assert "MoE" in (model("qwen3_moe").refuses("mlp_act.0") or "")
