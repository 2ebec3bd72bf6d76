"""Dictionaries whose decoder needs what was encoded: normalised inputs, skips, one-point transcoders."""

import pytest
import torch
from model.families import close, ids, model

import cutaway as cw
from cutaway.features.sae import SAE


def sae(width: int, point: str, **more) -> SAE:
    draw = torch.Generator().manual_seed(0)
    return SAE(
        "relu", torch.randn(64, width, generator=draw) / width**0.5, torch.zeros(64),
        torch.randn(64, width, generator=draw) / 8, 0.1 * torch.randn(width, generator=draw), point=point, **more,
    )  # fmt: skip


CASES = {
    "normalised": ("resid_post.1", {"input_norm": "layer_norm"}),
    "skip": ("mlp_in.1", {"output_point": "mlp_out.1", "W_skip": "yes"}),
    "transcoder": ("mlp_in.1", {"output_point": "mlp_out.1"}),
}


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
@pytest.mark.parametrize("case", CASES)
def test_a_splice_is_the_reconstruction_at_its_point(family, case):
    m = model(family)
    point, more = CASES[case]
    more = dict(more)
    if "W_skip" in more:
        more["W_skip"] = torch.randn(m.facts.d_model, m.facts.d_model, generator=torch.Generator().manual_seed(1)) / 7
    made = sae(m.facts.d_model, point, **more)
    to = made.writes_to
    plain = m.run(ids(), [point, to])
    run = m.run(ids(), [to], interventions=[cw.splice(to, made, keep_error=False)])
    expected = made.decode(made.encode(plain[point]), plain[point])
    assert close(run[to], expected)
    kept = m.run(ids(), interventions=[cw.splice(to, made)])
    assert close(kept.logits, plain.logits)
    # Ablating a feature with the error kept takes away what it writes.
    a = made.encode(plain[point])
    feature = int((a > 0).flatten(0, 1).sum(0).argmax())
    off = a.clone()
    off[..., feature] = 0
    change = made.decode(off, plain[point]) - made.decode(a, plain[point])
    ablated = m.run(ids(), [to], interventions=[cw.ablate_features(to, made, feature)])
    assert close(ablated[to], plain[to] + change)
    assert change.abs().max() > 0


def test_circuit_tracers_name_of_a_layernorms_output():
    m = model("gpt2")
    assert m.hook_point("ln2.hook_normalized", 1, folded=False) == "mlp_in.1"
    assert m.hook_point("ln2.hook_normalized", 1, folded=True) == "mlp_normalized.1"
    assert model("llama").hook_point("ln2.hook_normalized", 1, folded=False) == "mlp_normalized.1"
    with pytest.raises(cw.core.InputError, match=r"mlp_normalized.1 is before, mlp_in.1 after"):
        m.hook_point("ln2.hook_normalized", 1)
