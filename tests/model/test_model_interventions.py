"""What each intervention must do, whatever the family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model.families import FAMILIES, OPEN, REQUIRED, close, ids, model, module

import cutaway.model as cw
from cutaway.core import InputError

EVERYWHERE = tuple(FAMILIES)


@pytest.mark.parametrize("family", EVERYWHERE)
def test_a_patch_from_itself_changes_nothing(family: str) -> None:
    m, tokens = model(family), ids()
    clean = m.run(tokens, read=m.points())
    writable = [p for p in m.points() if m.site(p).writable and m.site(p).layer in (None, 1)]
    for address in writable:
        patched = m.run(tokens, interventions=[cw.patch(address, clean)])
        assert close(patched.logits, clean.logits, 1e-4), address
        assert len(patched.fired) == 1


@pytest.mark.parametrize("family", EVERYWHERE)
def test_every_writable_point_before_the_end_matters(family: str) -> None:
    """A point whose change leaves the logits as they were is not the place that its name says."""
    m, tokens = model(family), ids()
    clean = m.run(tokens, read=m.points())
    for address in m.points():
        site = m.site(address)
        if not site.writable or site.layer not in (None, 1):
            continue
        noise = torch.randn(clean[address].shape, generator=torch.Generator().manual_seed(1)) * 0.5
        shift = cw.patch(
            address,
            clean[address].clamp(min=-1e4) + noise.abs() + 0.1 if "scale" in address else clean[address] + noise,
        )
        moved = m.run(tokens, interventions=[shift])
        assert not close(moved.logits, clean.logits, 1e-4), address
        again = m.run(tokens, read=[address], interventions=[shift])
        wanted = shift.change(clean[address], _everything(address, m, clean[address]), address)
        assert close(again[address], wanted, 1e-5), address  # what is read is read after the change


def _everything(address: str, m: cw.Model, x: torch.Tensor) -> Any:
    run = m.run(ids())
    return cw.Selection().place(address, m.site(address).axes, tuple(x.shape), run.layout, x.device)


@pytest.mark.parametrize("family", EVERYWHERE)
def test_the_stream_taken_whole_from_another_run_gives_that_runs_logits(family: str) -> None:
    m = model(family)
    other = m.run(ids(seed=5), read=["resid_pre.*", "resid_post.*", "embeddings"])
    for layer in range(m.facts.n_layers):
        for name in ("resid_pre", "resid_post"):
            got = m.run(ids(), interventions=[cw.patch(f"{name}.{layer}", other)])
            assert close(got.logits, other.logits, 1e-5)


@pytest.mark.parametrize("family", [f for f in EVERYWHERE if model(f).refuses("resid_mid.0") is None])
def test_the_middle_of_a_block_carries_on_to_its_end(family: str) -> None:
    m = model(family)
    other = m.run(ids(seed=5), read=["resid_mid.*"])
    for layer in range(m.facts.n_layers):
        got = m.run(ids(), interventions=[cw.patch(f"resid_mid.{layer}", other)])
        assert close(got.logits, other.logits, 1e-4)


def test_the_middle_moves_the_stream_and_the_mlps_input_only_the_mlp() -> None:
    m, tokens = model("olmo2"), ids()  # both are one tensor there
    clean = m.run(tokens, read=["resid_mid.1", "mlp_in.1"])
    assert torch.equal(clean["resid_mid.1"], clean["mlp_in.1"])
    one, other = torch.randn(48), torch.randn(48)
    both = m.run(tokens, read=["resid_post.1"], interventions=[cw.add("resid_mid.1", one), cw.add("mlp_in.1", other)])
    into = m.run(tokens, read=["mlp_out_post.1"], interventions=[cw.add("mlp_in.1", one + other)])
    assert close(both["resid_post.1"], clean["resid_mid.1"] + one + into["mlp_out_post.1"])


def _output_weight(m: cw.Model, layer: int) -> tuple[torch.Tensor, bool]:
    """W_O as [in, out] (GPT-2's Conv1D keeps it so) or [out, in]."""
    projection = m.site(f"z.{layer}").module
    return projection.weight, type(projection).__name__ == "Conv1D"


@pytest.mark.parametrize("family", REQUIRED)
@pytest.mark.parametrize("head", [0, 5])
def test_zeroing_a_head_is_zeroing_its_slice_of_W_O(family: str, head: int) -> None:
    m, tokens = model(family), ids()
    zeroed = m.run(tokens, interventions=[cw.zero("z.1", head=head)])
    copy = cw.load(module(family))
    weight, transposed = _output_weight(copy, 1)
    width = m.run(tokens, read=["z.1"])["z.1"].shape[-1]
    part = slice(head * width, (head + 1) * width)
    with torch.no_grad():
        (weight[part] if transposed else weight[:, part]).zero_()
    assert close(zeroed.logits, copy.run(tokens).logits)
    assert zeroed.fired.rows[0].times == 1
    assert zeroed.fired.rows[0].rms > 0


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3"])
def test_a_key_value_head_serves_its_own_group_of_query_heads(family: str) -> None:
    m, tokens = model(family), ids()
    clean = m.run(tokens, read=["z.1"])
    zeroed = m.run(tokens, read=["z.1"], interventions=[cw.zero("value.1", head=1)])
    group = m.facts.n_heads // m.facts.n_kv_heads
    mine = slice(group, 2 * group)
    assert zeroed["z.1"][:, :, mine].abs().max() == 0
    rest = [h for h in range(m.facts.n_heads) if h not in range(*mine.indices(m.facts.n_heads))]
    assert close(zeroed["z.1"][:, :, rest], clean["z.1"][:, :, rest])


@pytest.mark.parametrize("family", OPEN)
def test_an_edge_of_attention_knocked_out(family: str) -> None:
    m, tokens = model(family), ids()
    run = m.run(
        tokens, read=["attn_probs.1"], interventions=[cw.add("attn_scores.1", -1e30, head=2, positions=5, keys=3)]
    )
    clean = m.run(tokens, read=["attn_probs.1"])["attn_probs.1"]
    pattern = run["attn_probs.1"]
    assert pattern[:, 2, 5, 3].abs().max() == 0
    assert close(pattern.sum(-1), torch.ones_like(pattern.sum(-1)))
    untouched = torch.ones_like(pattern, dtype=torch.bool)
    untouched[:, 2, 5] = False
    assert torch.equal(pattern[untouched], clean[untouched])


def test_positions_rows_and_masks_touch_only_themselves() -> None:
    m, tokens = model("llama"), ids(3, 7)
    clean = m.run(tokens, read=["resid_post.1"])["resid_post.1"]
    vector = torch.ones(48)
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[2, 4] = mask[0, 1] = True
    cases = [
        ({"positions": -2}, [(r, 5) for r in range(3)]),
        ({"positions": [0, 3], "rows": 1}, [(1, 0), (1, 3)]),
        ({"rows": [0, 2]}, [(r, p) for r in (0, 2) for p in range(7)]),
        ({"mask": mask}, [(2, 4), (0, 1)]),
        ({"mask": mask, "rows": 2}, [(2, 4)]),
    ]
    for where, touched in cases:
        run = m.run(tokens, read=["resid_post.1"], interventions=[cw.add("resid_post.1", vector, **where)])
        expected = clean.clone()
        for row, position in touched:
            expected[row, position] += 1
        assert close(run["resid_post.1"], expected)
        assert run.fired.rows[0].entries == len(touched) * 48
        assert run.fired.rows[0].rms == pytest.approx(1.0, rel=1e-5)


def test_many_additions_at_once_are_those_additions_one_by_one() -> None:
    m, tokens = model("gpt2"), ids(6, 8)
    generator = torch.Generator().manual_seed(3)
    additions = [
        cw.add(
            "mlp_out.1", torch.randn(48, generator=generator), positions=i % 8 - (8 if i % 3 == 0 else 0), rows=i % 6
        )
        for i in range(40)
    ]
    run = m.run(tokens, read=["mlp_out.1"], interventions=additions)
    x = m.run(tokens, read=["mlp_out.1"])["mlp_out.1"].clone()
    for addition in additions:
        (row,), (position,) = addition.select.rows or (), addition.select.positions or ()
        x[row, position] += addition.vector.tensor
    assert close(run["mlp_out.1"], x)
    for row, addition in zip(run.fired.rows, additions):
        assert row.rms == pytest.approx(float(addition.vector.tensor.pow(2).mean().sqrt()), rel=1e-4)
        assert row.entries == 48


def test_interventions_apply_in_the_order_of_the_list() -> None:
    m, tokens = model("llama"), ids()
    add, double = cw.add("resid_post.0", torch.ones(48)), cw.scale("resid_post.0", 2.0)
    clean = m.run(tokens, read=["resid_post.0"])["resid_post.0"]
    assert close(m.run(tokens, read=["resid_post.0"], interventions=[add, double])["resid_post.0"], (clean + 1) * 2)
    assert close(m.run(tokens, read=["resid_post.0"], interventions=[double, add])["resid_post.0"], clean * 2 + 1)


def test_no_run_writes_into_what_an_intervention_or_another_run_holds() -> None:
    for family in ("llama", "falcon"):
        m = model(family)
        other = m.run(ids(seed=5), read=["mlp_out.*", "resid_post.*"])
        held = {address: other[address].clone() for address in other.reads}
        changes = [c for address in other.reads for c in (cw.patch(address, other), cw.zero(address, positions=2))]
        m.run(ids(), interventions=changes)
        assert all(torch.equal(other[address], held[address]) for address in other.reads)


def test_mean_ablation_sets_the_mean_over_the_tokens_that_are_not_padding() -> None:
    m = model("llama")
    rows = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
    reference = m.run(rows, read=["z.1", "attn_probs.1"])
    alone = torch.cat([m.run(row, read=["z.1"])["z.1"][0] for row in rows])
    run = m.run(ids(), read=["z.1"], interventions=[cw.mean("z.1", over=reference, head=2)])
    assert close(run["z.1"][:, :, 2], alone[:, 2].mean(0).expand(2, 9, -1))
    even = m.run(ids(), read=["z.1", "attn_probs.1"])
    per_position = m.run(ids(seed=4), read=["z.1"], interventions=[cw.mean("z.1", over=even, per_position=True)])
    assert close(per_position["z.1"], even["z.1"].mean(0, keepdim=True).expand(2, -1, -1, -1))
    pattern = m.run(ids(seed=4), read=["attn_probs.1"], interventions=[cw.mean("attn_probs.1", over=even)])
    assert close(pattern["attn_probs.1"], even["attn_probs.1"].mean(0, keepdim=True).expand(2, -1, -1, -1))
    with pytest.raises(InputError, match="one length"):
        cw.mean("attn_probs.1", over=reference)


def test_resampling_draws_whole_rows_by_its_seed() -> None:
    m = model("gpt2")
    reference = m.run(ids(5, 11, seed=8), read=["resid_post.1"])
    rows = m.run(ids(4, 9), read=["resid_post.1"], interventions=[cw.resample("resid_post.1", reference, seed=3)])
    for row in rows["resid_post.1"]:
        assert any(torch.equal(row, other[:9]) for other in reference["resid_post.1"])
    again = m.run(ids(4, 9), read=["resid_post.1"], interventions=[cw.resample("resid_post.1", reference, seed=3)])
    assert torch.equal(again["resid_post.1"], rows["resid_post.1"])


def test_projecting_out_leaves_nothing_along_the_directions_and_the_rest_as_it_was() -> None:
    m, tokens = model("llama"), ids()
    directions = torch.randn(3, 48, generator=torch.Generator().manual_seed(0))
    clean = m.run(tokens, read=["resid_post.1"])["resid_post.1"]
    run = m.run(tokens, read=["resid_post.1"], interventions=[cw.project_out("resid_post.1", directions)])
    assert (run["resid_post.1"] @ directions.T).abs().max() < 1e-4
    null = torch.linalg.qr(torch.cat([directions, torch.randn(45, 48)]).T).Q[:, 3:]
    assert close(run["resid_post.1"] @ null, clean @ null)


def test_interchange_swaps_the_subspace_and_nothing_else() -> None:
    m, tokens = model("llama"), ids()
    basis = torch.randn(2, 48, generator=torch.Generator().manual_seed(0))
    other = m.run(ids(seed=9), read=["resid_post.1"])
    clean = m.run(tokens, read=["resid_post.1"])["resid_post.1"]
    run = m.run(tokens, read=["resid_post.1"], interventions=[cw.interchange("resid_post.1", basis, other)])
    assert close(run["resid_post.1"] @ basis.T, other["resid_post.1"] @ basis.T)
    null = torch.linalg.qr(torch.cat([basis, torch.randn(46, 48)]).T).Q[:, 2:]
    assert close(run["resid_post.1"] @ null, clean @ null)
    whole = m.run(tokens, interventions=[cw.interchange("resid_post.1", torch.eye(48), other)])
    assert close(whole.logits, other.logits, 1e-4)


class _Dictionary:
    """ReLU features with their own biases: reconstructs badly, as a fresh dictionary does."""

    n_features = 20

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(2)
        self.encoder = torch.randn(48, 20, generator=generator) * 0.2
        self.decoder = torch.randn(20, 48, generator=generator) * 0.2
        self.bias = torch.randn(48, generator=generator)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.encoder).relu()

    def decode(self, a: torch.Tensor) -> torch.Tensor:
        return a @ self.decoder + self.bias


def test_a_spliced_dictionary_keeps_its_error_unless_told_otherwise() -> None:
    m, tokens, d = model("llama"), ids(), _Dictionary()
    clean = m.run(tokens, read=["resid_post.1"])
    kept = m.run(tokens, interventions=[cw.splice("resid_post.1", d)])
    assert torch.equal(kept.logits, clean.logits)
    x = clean["resid_post.1"]
    dropped = m.run(tokens, read=["resid_post.1"], interventions=[cw.splice("resid_post.1", d, keep_error=False)])
    assert close(dropped["resid_post.1"], d.decode(d.encode(x)))

    def ablate(features: torch.Tensor) -> torch.Tensor:
        features = features.clone()
        features[..., 3] = 0
        return features

    edited = m.run(
        tokens, read=["resid_post.1"], interventions=[cw.splice("resid_post.1", d, edit=ablate, positions=4)]
    )
    expected = x.clone()
    expected[:, 4] -= d.encode(x)[:, 4, 3, None] * d.decoder[3]
    assert close(edited["resid_post.1"], expected)


def test_wildcards_touch_every_layer() -> None:
    m = model("gpt2")
    run = m.run(ids(), interventions=[cw.scale("mlp_out.*", 0.0)])
    assert [row.address for row in run.fired.rows] == ["mlp_out.0", "mlp_out.1", "mlp_out.2"]
