"""Every family: what is read is what the name says, and what is written has the effect that the law says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model.families import (
    EVERY,
    FAMILIES,
    OTHERS,
    OWN_ATTENTION,
    POST_NORM,
    READING_SOURCE,
    close,
    ids,
    model,
    module,
    prompt,
)
from torch import Tensor

import cutaway.model as cw
from cutaway.core import InputError
from cutaway.model.frozen import frozen_path
from cutaway.model.observed import linear_map


def _own(m: cw.Model, batch: Any) -> Any:
    """What Hugging Face's module gives by itself."""
    with torch.no_grad():
        if batch.source is not None:
            return m.hf(batch.source.ids, decoder_input_ids=batch.ids, use_cache=False)
        return m.hf(batch.ids)


@pytest.mark.parametrize("family", OTHERS)
def test_outputs_are_hugging_faces_however_much_is_read(family: str) -> None:
    m, batch = model(family), prompt(family)
    own = _own(m, batch)
    expected = own.logits if hasattr(own, "logits") else own[0]
    assert torch.equal(m.run(batch).logits, expected)
    everything = m.run(batch, read=m.points())
    assert close(everything.logits, expected)
    assert set(everything.reads) == set(m.points())
    assert all(not check.failed for check in m.contract.checks)
    assert str(everything)


@pytest.mark.parametrize("family", OTHERS)
def test_every_point_has_the_shape_that_its_axes_say(family: str) -> None:
    m, batch = model(family), prompt(family, rows=3)
    run, f = m.run(batch, read=m.points()), m.facts
    positions = batch.mask.shape[1]
    sizes = {"batch": 3, "position": positions, "query": positions, "key": positions, "d_model": f.d_model, "one": 1}
    sizes |= {"head": f.n_heads, "kv_head": f.n_kv_heads, "d_head": f.d_head, "vocab": f.vocab_size, "source": 7}
    sizes |= {"neuron": f.d_mlp}
    for address in m.points():
        assert list(run[address].shape) == [sizes[axis] for axis in m.site(address).axes], address


@pytest.mark.parametrize("family", OTHERS)
def test_the_stream_is_what_the_kind_of_block_makes_it(family: str) -> None:
    m, batch = model(family), prompt(family)
    run = m.run(batch, read=m.points())
    for layer in range(m.facts.n_layers):
        middle, after = run[f"resid_mid.{layer}"], run[f"resid_post.{layer}"]
        if family in POST_NORM:
            block = m.architecture.block(layer)
            norms = [n for n in block.modules() if isinstance(n, torch.nn.LayerNorm)]
            assert close(norms[0](run[f"resid_pre.{layer}"] + run[f"attn_out.{layer}"]), middle)
            assert close(norms[1](middle + run[f"mlp_out.{layer}"]), after)
        else:
            cross = run[f"cross_out.{layer}"] if family in READING_SOURCE else 0
            assert close(run[f"resid_pre.{layer}"] + run[f"attn_out_post.{layer}"] + cross, middle)
            assert close(middle + run[f"mlp_out_post.{layer}"], after)
        if layer:
            assert torch.equal(run[f"resid_pre.{layer}"], run[f"resid_post.{layer - 1}"])


# Falcon with ALiBi is left out: asked for its patterns, Hugging Face adds the bias twice, and gives other logits too.
@pytest.mark.parametrize("family", [*OTHERS, *(f for f in OWN_ATTENTION if f != "falcon_alibi")])
def test_patterns_are_those_that_hugging_face_hands_out(family: str) -> None:
    m, batch = model(family), prompt(family)
    eager = module(family)
    if family not in OWN_ATTENTION:
        eager.set_attn_implementation("eager")
    elif "falcon" in family:
        eager.config._attn_implementation = "eager"
    with torch.no_grad():
        if batch.source is not None:
            out = eager(batch.source.ids, decoder_input_ids=batch.ids, output_attentions=True)
            expected = {"attn_probs": out.decoder_attentions, "cross_probs": out.cross_attentions}
        else:
            expected = {"attn_probs": eager(batch.ids, output_attentions=True).attentions}
    for name, patterns in expected.items():
        run = m.run(batch, read=[f"{name}.*", name.replace("probs", "scores") + ".*"])
        for layer, pattern in enumerate(patterns):
            assert close(run[f"{name}.{layer}"], pattern)
            assert close(run[f"{name.replace('probs', 'scores')}.{layer}"].softmax(-1), pattern)


@pytest.mark.parametrize("family", OWN_ATTENTION)
def test_queries_and_keys_inside_a_familys_own_attention_make_the_scores(family: str) -> None:
    """Scores = q k^T times the family's factor, plus what depends on positions alone."""
    m = model(family)
    one, two = (m.run(ids(1, seed=s), read=["q_rot.1", "k_rot.1", "attn_scores.1"]) for s in (1, 2))

    def product(run: cw.Run) -> Tensor:
        keys = run["k_rot.1"].repeat_interleave(m.facts.n_heads // m.facts.n_kv_heads, dim=2)
        return torch.einsum("bqhd,bkhd->bhqk", run["q_rot.1"], keys)

    factor = 1.0 if family == "gpt_neo" else m.facts.d_head**-0.5
    seen = one["attn_scores.1"] > -1e30
    assert torch.equal(seen, two["attn_scores.1"] > -1e30)
    bias = (one["attn_scores.1"] - product(one) * factor)[seen]
    assert close(bias, (two["attn_scores.1"] - product(two) * factor)[seen])
    assert bool(bias.abs().max() > 1e-3) == (m.facts.positions == "alibi")


@pytest.mark.parametrize("family", OWN_ATTENTION)
def test_a_familys_own_attention_is_left_as_it_was(family: str) -> None:
    m, tokens = model(family), ids()
    attention = m.architecture.attention(1)
    before = m.run(tokens).logits
    m.run(tokens, read=["attn_probs.1"])
    with pytest.raises(InputError):
        m.run(tokens, read=["attn_probs.1"], interventions=[cw.add("resid_post.1", torch.ones(5))])
    assert "forward" not in attention.__dict__
    assert torch.equal(m.run(tokens).logits, before)


@pytest.mark.parametrize("family", OWN_ATTENTION)
def test_what_others_write_inside_a_tapped_attention_is_not_taken_for_its_scores(family: str) -> None:
    """An intervention's own products run inside the module's forward too."""
    m, tokens = model(family), ids()
    direction = torch.randn(2, m.facts.d_head, generator=torch.Generator().manual_seed(0))
    change = cw.project_out("q.1", direction)
    plain = m.run(tokens, interventions=[change]).logits
    assert close(m.run(tokens, read=["attn_scores.1", "k_rot.1"], interventions=[change]).logits, plain)


@pytest.mark.parametrize("family", OWN_ATTENTION)
@pytest.mark.parametrize("part", ["pattern", "norm"])
def test_freezing_holds_in_families_with_their_own_attention(family: str, part: str) -> None:
    m = model(family)
    run = m.run(ids(), read=["attn_probs.*"])
    held = cw.freeze(run, part)
    assert close(m.run(ids(), freeze=held).logits, run.logits)
    if part == "pattern":
        other = m.run(ids(seed=3), read=["attn_probs.*"], freeze=held)
        for layer in range(m.facts.n_layers):
            assert close(other[f"attn_probs.{layer}"], run[f"attn_probs.{layer}"])


@pytest.mark.parametrize("family", ["gptj", "gpt_neo", "bloom", "falcon_alibi"])
def test_the_frozen_path_is_read_from_families_with_their_own_attention(family: str) -> None:
    assert frozen_path(model(family), ids(1)).max_error < 1e-4


# ---- writing


def _layer_points(m: cw.Model, layer: int) -> list[str]:
    return [a for a in m.points() if m.site(a).writable and m.site(a).layer in (None, layer)]


@pytest.mark.parametrize("family", OTHERS)
def test_every_writable_point_changes_what_comes_after_and_a_patch_from_itself_nothing(family: str) -> None:
    m, batch = model(family), prompt(family)
    clean = m.run(batch, read=m.points())
    for address in _layer_points(m, 1):
        same = m.run(batch, interventions=[cw.patch(address, clean)])
        assert close(same.logits, clean.logits, 1e-4), address
        noise = torch.randn(clean[address].shape, generator=torch.Generator().manual_seed(1)).abs() + 0.1
        written, hidden = clean[address] + noise, clean[address] < -1e30  # scores that are masked
        moved = m.run(batch, read=[address], interventions=[cw.patch(address, written)])
        assert not close(moved.logits, clean.logits, 1e-4), address
        assert close(moved[address][~hidden], written[~hidden]), address
        assert torch.equal(moved[address][hidden], clean[address][hidden]), address


@pytest.mark.parametrize("family", OTHERS)
def test_the_stream_taken_whole_from_another_run_gives_that_runs_output(family: str) -> None:
    m, batch = model(family), prompt(family)
    other_prompt = prompt(family, seed=5)
    if batch.source is not None:  # the decoder's stream does not carry the source, which every layer looks at
        other_prompt = m.batch(other_prompt.ids, source=batch.source.ids)
    other = m.run(other_prompt, read=["resid_pre.*", "resid_mid.*", "resid_post.*"])
    for layer in range(m.facts.n_layers):
        for name in ("resid_pre", "resid_mid", "resid_post"):
            got = m.run(batch, interventions=[cw.patch(f"{name}.{layer}", other)])
            assert close(got.logits, other.logits, 1e-4), name


@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("head", [0, 5])
def test_zeroing_a_head_takes_its_slice_of_W_O_out_of_what_attention_writes(family: str, head: int) -> None:
    m, batch = model(family), prompt(family)
    pairs = [("z", "attn_out")] + ([("cross_z", "cross_out")] if family in READING_SOURCE else [])
    for z, out in pairs:
        clean = m.run(batch, read=[f"{z}.1", f"{out}.1"])
        zeroed = m.run(batch, read=[f"{out}.1"], interventions=[cw.zero(f"{z}.1", head=head)])
        weight, _ = linear_map(m.site(f"{z}.1").module, m.facts.n_heads * m.facts.d_head)  # [d_model, head * d_head]
        part = weight.reshape(len(weight), m.facts.n_heads, -1)[:, head]
        contribution = torch.einsum("bpc,dc->bpd", clean[f"{z}.1"][:, :, head], part)
        assert contribution.abs().max() > 1e-3
        assert close(clean[f"{out}.1"] - zeroed[f"{out}.1"], contribution)


@pytest.mark.parametrize("family", EVERY)
def test_a_key_value_head_serves_its_own_group_of_query_heads(family: str) -> None:
    m, batch = model(family), prompt(family)
    heads, groups = m.facts.n_heads, m.facts.n_kv_heads
    last = groups - 1
    clean = m.run(batch, read=["z.1"])["z.1"]
    zeroed = m.run(batch, read=["z.1"], interventions=[cw.zero("value.1", head=last)])["z.1"]
    mine = torch.arange(heads) // (heads // groups) == last
    assert zeroed[:, :, mine].abs().max() == 0
    assert torch.equal(zeroed[:, :, ~mine], clean[:, :, ~mine])
    with pytest.raises(InputError, match="no kv_head"):
        m.run(batch, interventions=[cw.zero("value.1", head=groups)])


@pytest.mark.parametrize("family", EVERY)
def test_a_pattern_that_is_written_mixes_the_values(family: str) -> None:
    m, batch = model(family), prompt(family)
    run = m.run(batch, read=["attn_probs.1", "value.1"])
    pattern = torch.rand(run["attn_probs.1"].shape, generator=torch.Generator().manual_seed(2))
    z = m.run(batch, read=["z.1"], interventions=[cw.patch("attn_probs.1", pattern)])["z.1"]
    value = run["value.1"].repeat_interleave(m.facts.n_heads // m.facts.n_kv_heads, dim=2)
    assert close(z, torch.einsum("bhqk,bkhd->bqhd", pattern, value))


@pytest.mark.parametrize("family", EVERY)
def test_scores_that_are_written_go_through_the_softmax(family: str) -> None:
    m, batch = model(family), prompt(family)
    clean = m.run(batch, read=["attn_probs.1"])["attn_probs.1"]
    lifted = m.run(batch, read=["attn_probs.1"], interventions=[cw.add("attn_scores.1", 3.0, head=1)])["attn_probs.1"]
    assert close(lifted, clean)  # a constant in every row
    cut = cw.add("attn_scores.1", -1e30, head=2, positions=5, keys=4)
    pattern = m.run(batch, read=["attn_probs.1"], interventions=[cut])["attn_probs.1"]
    assert pattern[:, 2, 5, 4].abs().max() == 0
    rest = clean[:, 2, 5].clone()
    rest[:, 4] = 0
    assert close(pattern[:, 2, 5], rest / rest.sum(-1, keepdim=True))


@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("name", ["q_rot", "k_rot"])
def test_without_queries_or_keys_attention_looks_at_positions_alone(family: str, name: str) -> None:
    m = model(family)
    one, two = prompt(family), prompt(family, seed=9)
    blank = [cw.zero(f"{name}.1")]
    patterns = [m.run(b, read=["attn_probs.1"], interventions=blank)["attn_probs.1"] for b in (one, two)]
    assert close(patterns[0], patterns[1])
    if m.facts.positions not in ("alibi", "relative"):  # uniform over what can be seen
        seen = patterns[0] > 1e-6
        assert close(patterns[0], seen / seen.sum(-1, keepdim=True))


@pytest.mark.parametrize("family", [f for f in EVERY if model(f).refuses("mlp_act.1") is None])
def test_zeroing_a_neuron_takes_its_column_of_W_down_out_of_what_the_mlp_writes(family: str) -> None:
    m, batch = model(family), prompt(family)
    clean = m.run(batch, read=["mlp_act.1", "mlp_out.1"])
    neuron = int(clean["mlp_act.1"].abs().amax((0, 1)).argmax())
    zeroed = m.run(batch, read=["mlp_out.1"], interventions=[cw.zero("mlp_act.1", neuron=neuron)])
    weight, _ = linear_map(m.site("mlp_act.1").module, m.facts.d_mlp)
    contribution = clean["mlp_act.1"][..., neuron, None] * weight[:, neuron]
    assert close(clean["mlp_out.1"] - zeroed["mlp_out.1"], contribution)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["attn_out_post", "mlp_out_post"])
def test_what_a_sublayer_adds_moves_the_stream_by_as_much(family: str, name: str) -> None:
    m, vector = model(family), torch.randn(48, generator=torch.Generator().manual_seed(0))
    clean = m.run(ids(), read=["resid_post.1", "mlp_out_post.1"])
    moved = m.run(ids(), read=["resid_post.1", "mlp_out_post.1"], interventions=[cw.add(f"{name}.1", vector)])
    rest = moved["mlp_out_post.1"] - clean["mlp_out_post.1"] if name.startswith("attn") else vector
    expected = vector + rest if name.startswith("attn") else vector
    assert close(moved["resid_post.1"] - clean["resid_post.1"], expected, 1e-4)


# ---- experts


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_the_weights_of_experts_scale_what_experts_write(family: str) -> None:
    m = model(family)
    run = m.run(ids(), read=["router_logits.1", "expert_weights.1", "expert_indices.1", "mlp_out.1"])
    chosen = run["router_logits.1"].topk(2, dim=-1).indices
    assert torch.equal(chosen.sort(-1).values, run["expert_indices.1"].sort(-1).values)
    doubled = m.run(ids(), read=["mlp_out.1"], interventions=[cw.scale("expert_weights.1", 2.0)])
    assert close(doubled["mlp_out.1"], 2 * run["mlp_out.1"])
    without = m.run(ids(), read=["mlp_out.1"], interventions=[cw.zero("expert_weights.1")])
    assert without["mlp_out.1"].abs().max() == 0
    with pytest.raises(InputError, match="can be read but not changed"):
        m.run(ids(), interventions=[cw.zero("router_logits.1")])
    assert "experts" in (m.refuses("mlp_act.1") or "") or "MoE" in (m.refuses("mlp_act.1") or "")


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_an_expert_whose_weights_are_zeroed_is_an_expert_that_writes_nothing(family: str) -> None:
    m = model(family)
    chosen = m.run(ids(), read=["expert_indices.1"])["expert_indices.1"]  # [batch, position, chosen]
    without = m.run(ids(), interventions=[cw.zero("expert_weights.1", mask=chosen == 2)])
    hf = module(family)
    with torch.no_grad():
        hf.model.layers[1].mlp.experts.down_proj[2] = 0
        expected = hf(ids(), use_cache=False).logits
    assert (chosen == 2).any()
    assert close(without.logits, expected)
    assert not close(expected, m.run(ids()).logits, 1e-3)
