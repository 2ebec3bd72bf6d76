"""Edges of attention knocked out; patterns, norms, gates, routers and MLPs held."""

from __future__ import annotations

import pytest
import torch
from model.families import close, ids, model
from model.five import FIVE, double, five

import cutaway.model as cw
from cutaway.core import InputError


@pytest.mark.parametrize("family", FIVE)
def test_a_knocked_out_edge_is_a_masked_score(family: str) -> None:
    m, tokens = five(family), ids(2, 7)
    clean = m.run(tokens, read=["attn_probs.1", "z.1", "value.1"])
    edge = m.run(tokens, read=["attn_probs.1"], interventions=[cw.knock_out("attn_probs.1", head=2, query=5, key=3)])
    masked = m.run(tokens, interventions=[cw.add("attn_scores.1", -1e30, head=2, positions=5, keys=3)])
    assert close(edge.logits, masked.logits, 1e-5)
    pattern = edge["attn_probs.1"]
    assert pattern[:, 2, 5, 3].abs().max() == 0
    assert close(pattern.sum(-1), torch.ones_like(pattern.sum(-1)))

    plain = cw.knock_out("attn_probs.1", head=2, query=5, key=3, renormalise=False)
    run = m.run(tokens, read=["attn_probs.1", "z.1"], interventions=[plain])
    expected = clean["attn_probs.1"].clone()
    expected[:, 2, 5, 3] = 0
    assert close(run["attn_probs.1"], expected)
    # The head loses at this query what the edge carried: p v, v of the key's group.
    group = m.facts.n_heads // m.facts.n_kv_heads
    carried = clean["attn_probs.1"][:, 2, 5, 3, None] * clean["value.1"][:, 3, 2 // group]
    assert close(clean["z.1"][:, 5, 2] - run["z.1"][:, 5, 2], carried, 1e-5)


@pytest.mark.parametrize("family", FIVE)
def test_several_edges_heads_layers_and_rows(family: str) -> None:
    m, tokens = five(family), ids(2, 7)
    clean = m.run(tokens, read=["attn_probs.*"])
    change = cw.knock_out("attn_probs.*", head=[0, 3], query=slice(4, None), key=[1, -4], rows=1, renormalise=False)
    run = m.run(tokens, read=["attn_probs.0"], interventions=[change])
    expected = clean["attn_probs.0"].clone()
    for head in (0, 3):
        for query in (4, 5, 6):
            for key in (1, 3):
                expected[1, head, query, key] = 0
    assert close(run["attn_probs.0"], expected)
    assert len(run.fired) == m.facts.n_layers


@pytest.mark.parametrize("family", [*FIVE, "gptj", "gpt_neo", "bloom", "falcon", "mistral", "bert"])
def test_no_change_of_scores_shows_a_query_what_the_model_hides(family: str) -> None:
    """A later token, one outside the window, padding: whatever is done to scores, patterns stay at zero there."""
    m = model(family)
    long, short = ids(1, 9)[0].tolist(), ids(1, 5, seed=1)[0].tolist()
    read = ["attn_scores.*", "attn_probs.*"]
    other = m.run([long[::-1], long], read=read)
    anywhere = [
        cw.zero("attn_scores.*"),
        cw.scale("attn_scores.*", -1.0),
        cw.add("attn_scores.*", 1e9),
        cw.project_out("attn_scores.*", torch.ones(9)),
    ]
    from_a_run = [
        cw.mean("attn_scores.*", over=other),
        cw.resample("attn_scores.*", other, seed=0),
        cw.patch("attn_scores.*", other),
    ]
    for rows, padding, changes in (
        ([long, short], "left", anywhere),
        ([long, short], "right", anywhere),
        ([long, long], "right", anywhere + from_a_run),
    ):
        clean = m.run(rows, read=read, padding=padding)
        own = clean.mask[:, None, :, None]  # what a query of padding sees is nobody's business
        for change in changes:
            changed = m.run(rows, read=read, interventions=[change], padding=padding)
            for layer in range(m.facts.n_layers):
                before, after = clean[f"attn_probs.{layer}"], changed[f"attn_probs.{layer}"]
                assert after[(before == 0) & (clean[f"attn_scores.{layer}"] < -1e30) & own].abs().sum() == 0, change
                assert after.isfinite().all(), change
            assert all(row.rms < float("inf") for row in changed.fired.rows), change


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_scores_that_are_all_masked_are_none_to_change(family: str) -> None:
    with pytest.raises(InputError, match="masked"):
        model(family).run(ids(2, 7), interventions=[cw.zero("attn_scores.1", positions=1, keys=3)])


def test_edges_between_rows_own_tokens_in_a_padded_batch() -> None:
    m = five("llama")
    rows = [[5, 6, 7, 8, 9], [10, 11, 17], [12, 13, 14, 15]]
    subject = torch.tensor([1, 0, 2])
    for padding in ("left", "right"):
        change = cw.knock_out("attn_probs.1", head=1, query=-1, key=subject)
        run = m.run(rows, interventions=[change], padding=padding)
        for row, (prompt, key) in enumerate(zip(rows, subject.tolist())):
            alone = m.run(prompt, interventions=[cw.knock_out("attn_probs.1", head=1, query=-1, key=key)])
            assert close(run.at("logits")[row], alone.logits[0, -1], 1e-5)


def test_edges_that_carry_nothing_or_everything_are_refused() -> None:
    m, tokens = five("llama"), ids(1, 6)
    for change, match in [
        (cw.knock_out("attn_probs.1", query=2, key=4), "masked anyway"),
        (cw.knock_out("attn_probs.1", query=0, key=0), "no key to attend to"),
        (cw.knock_out("attn_scores.1", query=3, key=0), "attn_probs"),
        (cw.knock_out("resid_post.1", query=3, key=0), "attn_probs"),
        (cw.knock_out("attn_probs.1", head=6, query=3, key=0), "no head 6"),
        (cw.knock_out("attn_probs.1", query=9, key=0), "no position 9"),
    ]:
        with pytest.raises(InputError, match=match):
            m.run(tokens, interventions=[change])
    with pytest.raises(InputError, match="needs query= or key="):
        cw.knock_out("attn_probs.1", head=1)
    with pytest.raises(InputError, match="not both"):
        cw.knock_out("attn_probs.1", query=1, positions=2)


# ---- held


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3", "qwen3"])
def test_with_its_gate_held_an_mlp_is_linear_in_its_input(family: str) -> None:
    m, tokens = double(family), ids(2, 6)
    clean = m.run(tokens)
    frozen = cw.freeze(clean, "gate")
    assert close(m.run(tokens, freeze=frozen).logits, clean.logits, 1e-7)

    def out(vector: torch.Tensor | None) -> torch.Tensor:
        added = [] if vector is None else [cw.add("mlp_in.1", vector)]
        return m.run(tokens, read=["mlp_out.1"], interventions=added, freeze=frozen)["mlp_out.1"]

    a, b = torch.randn(2, 48, generator=torch.Generator().manual_seed(0)).double()
    assert (out(a) - out(None)).abs().max() > 1e-2
    assert close(out(2 * a - b) - out(None), 2 * (out(a) - out(None)) - (out(b) - out(None)), 1e-9)
    v = torch.randn(2, 6, 48, generator=torch.Generator().manual_seed(1)).double()
    product = cw.jvp(m, tokens, "mlp_in.1", "mlp_out.1", v, freeze=("gate",))
    held = [m.run(tokens, ["mlp_out.1"], [cw.add("mlp_in.1", s * v)], freeze=frozen)["mlp_out.1"] for s in (1.0, 0.0)]
    assert close(product, held[0] - held[1], 1e-9)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_with_its_router_held_each_token_keeps_its_experts_and_weights(family: str) -> None:
    m, tokens = double(family), ids(2, 6)
    clean = m.run(tokens, read=["expert_weights.1", "expert_indices.1", "mlp_in.1"])
    frozen = cw.freeze(clean, "router")
    assert close(m.run(tokens, freeze=frozen).logits, clean.logits, 1e-9)
    push = [cw.add("mlp_in.1", 3 * torch.randn(48, generator=torch.Generator().manual_seed(0)).double())]
    free = m.run(tokens, read=["expert_indices.1", "mlp_out.1"], interventions=push)
    held = m.run(tokens, read=["expert_indices.1", "mlp_out.1"], interventions=push, freeze=frozen)
    assert not torch.equal(free["expert_indices.1"], clean["expert_indices.1"])
    assert torch.equal(held["expert_indices.1"], clean["expert_indices.1"])
    assert not close(held["mlp_out.1"], free["mlp_out.1"], 1e-3)
    # By hand: the experts of the clean run, on the pushed input, in the clean run's mixture.
    block = m.site("mlp_out.1").module
    x = m.run(tokens, read=["mlp_in.1"], interventions=push, freeze=frozen)["mlp_in.1"].flatten(0, 1)
    mixed = block.experts(x, clean["expert_indices.1"].flatten(0, 1), clean["expert_weights.1"].flatten(0, 1))
    assert close(held["mlp_out.1"].flatten(0, 1), mixed, 1e-9)


@pytest.mark.parametrize("family", FIVE)
def test_held_mlps_answer_nothing_and_carry_no_gradient(family: str) -> None:
    m, tokens = five(family), ids(2, 6)
    clean = m.run(tokens, read=["mlp_out.*"])
    frozen = cw.freeze(clean, "mlp")
    push = cw.add("resid_pre.1", torch.ones(48))
    run = m.run(tokens, read=["mlp_out.*"], interventions=[push], freeze=frozen)
    assert all(torch.equal(run[a], clean[a]) for a in clean.reads)
    grad = m.run(tokens, grad=["mlp_in.1"], of=lambda x: x[:, -1, 3].sum(), freeze=("mlp",)).grad["mlp_in.1"]
    assert not grad.any()
    later = m.run(tokens, read=["mlp_out.1"], interventions=[cw.zero("mlp_out.1", positions=2)], freeze=frozen)
    assert not later["mlp_out.1"][:, 2].any()  # interventions come after what is held


def test_changes_that_a_held_part_makes_idle_are_refused() -> None:
    m, tokens = five("llama"), ids(2, 6)
    clean = m.run(tokens)
    for part, at in [("pattern", "q_rot.1"), ("mlp", "mlp_in.1"), ("mlp", "mlp_act.1")]:
        with pytest.raises(InputError, match=f"would change nothing: the .*{part} is frozen"):
            m.run(tokens, interventions=[cw.zero(at)], freeze=cw.freeze(clean, part))


def test_a_frozen_run_padded_otherwise_is_refused() -> None:
    m = five("llama")
    rows = [[5, 6, 7, 8], [9, 10]]
    frozen = cw.freeze(m.run(rows, padding="left"))
    assert close(m.run(rows, padding="left", freeze=frozen).at("logits"), m.run(rows).at("logits"), 1e-5)
    with pytest.raises(InputError, match="padded otherwise"):
        m.run(rows, freeze=frozen)
    with pytest.raises(InputError, match="padded otherwise"):
        m.run(rows, freeze=cw.freeze(m.run(rows[0])))
