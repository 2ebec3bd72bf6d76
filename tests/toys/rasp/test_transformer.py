"""The transformer class: identity norms, masks, and loading without remote code."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

import cutaway as cw
from cutaway.toys.rasp.transformer import IdentityNorm, RaspConfig, RaspForCausalLM

SIZES = {"vocab_size": 11, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "head_dim": 5,
         "intermediate_size": 13, "max_position_embeddings": 9}  # fmt: skip
POINTS = ("resid_pre", "resid_mid", "resid_post", "attn_scores", "attn_probs", "z", "q", "k", "value", "mlp_act",
          "mlp_out", "attn_out", "attn_in", "mlp_in")  # fmt: skip


def _module(causal: bool) -> RaspForCausalLM:
    torch.manual_seed(0)
    return RaspForCausalLM(RaspConfig(causal=causal, **SIZES)).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_norm_is_the_identity_bit_for_bit(dtype):
    x = (
        torch.randn(100, 24, dtype=dtype, generator=torch.Generator().manual_seed(0))
        * torch.logspace(-6, 6, 100)[:, None]
    )
    x = x.to(dtype).requires_grad_()
    out = IdentityNorm(24).to(dtype)(x)
    assert torch.equal(out, x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))


@pytest.mark.parametrize("causal", [True, False])
def test_every_point_is_there_and_holds_its_law(causal):
    model = cw.load(_module(causal))
    for name in POINTS:
        for layer in range(2):
            assert f"{name}.{layer}" in model.points()
    assert not any(check.failed for check in model.contract.checks)
    assert not model.contract.unfreezable


@pytest.mark.parametrize("causal", [True, False])
def test_later_tokens_matter_only_where_attention_is_bidirectional(causal):
    model = cw.load(_module(causal))
    a, b = model.run([[0, 2, 3, 4]]).logits, model.run([[0, 2, 3, 5]]).logits
    assert torch.equal(a[:, :3], b[:, :3]) == causal


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padding", ["left", "right"])
def test_padding_changes_nothing(causal, padding):
    model = cw.load(_module(causal))
    together = model.run([[0, 2, 3, 4, 5], [0, 7, 8]], padding=padding).logits
    alone = model.run([[0, 7, 8]]).logits
    part = together[1, -3:] if padding == "left" else together[1, :3]
    assert torch.allclose(part, alone[0], atol=1e-5)


def test_a_folder_loads_without_remote_code(tmp_path):
    module = _module(causal=False)
    module.save_pretrained(tmp_path)
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text())
    model = cw.load(tmp_path)
    assert model.hf.config.causal is False
    ids = torch.randint(11, (2, 6), generator=torch.Generator().manual_seed(1))
    assert torch.equal(model.run(ids).logits, module(ids).logits)


def test_a_process_that_never_heard_of_programs_loads_one(tmp_path):
    """load looks the folder's model type up; nothing of this room is imported before."""
    _module(causal=True).save_pretrained(tmp_path)
    code = (
        "import sys, cutaway as cw; cw.Model; assert not any('toys' in name for name in sys.modules);"
        f"print(cw.load({str(tmp_path)!r}).facts.family)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "cutaway_rasp", done.stderr
