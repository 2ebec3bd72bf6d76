"""The frozen path gives back the run it was read from, its transposes are transposes, and the rest is refused."""

from __future__ import annotations

import pytest
import torch
from graphs.random_case import IDS, model, path
from model.families import FAMILIES, module

import cutaway as cw
from cutaway.core import InputError
from cutaway.model.frozen import frozen_path

SERVED = sorted(set(FAMILIES) - {"gptneo"})


@pytest.mark.parametrize("family", SERVED)
def test_the_frozen_forward_is_the_model(family):
    here = path(family)
    posts, logits = here.forward(lambda layer, _: here.mlp_output(layer))
    with torch.no_grad():
        truth = model(family).hf(IDS[None], output_hidden_states=True)
    scale = model(family).facts.logit_softcap
    capped = scale * torch.tanh(logits / scale) if scale else logits
    assert torch.allclose(capped, truth.logits[0], rtol=0, atol=1e-5)
    for layer in range(here.n_layers - 1):  # Hugging Face norms the last one
        assert torch.allclose(posts[layer], truth.hidden_states[layer + 1][0], rtol=0, atol=1e-5)
    assert here.max_error < 1e-6  # some norms compute in float32 whatever the model does


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "falcon", "olmo2"])
def test_transposes_are_the_gradients_of_attention(family):
    layer = path(family).layers[1]
    r = layer.resid_pre.clone().requires_grad_()
    g = torch.randn(len(IDS), 3, r.shape[1], dtype=r.dtype, generator=torch.Generator().manual_seed(0))
    truth = [torch.autograd.grad((layer.attend(r) * g[:, n]).sum(), r)[0] for n in range(3)]
    assert torch.allclose(layer.attend_transpose(g), torch.stack(truth, 1), atol=1e-10)
    one = torch.zeros_like(g)
    one[4] = g[4]
    assert torch.allclose(layer.attend_transpose_from(g[4], 4), layer.attend_transpose(one)[:5], atol=1e-10)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2", "olmo2"])
@pytest.mark.parametrize("point", ["mlp_in", "mlp_normalized"])
def test_input_points_are_the_models_own(family, point):
    if model(family).refuses(f"{point}.0"):
        pytest.skip(f"{family} has no {point}")
    here = frozen_path(model(family), IDS, point)
    run = model(family).run(IDS[None], read=[f"{point}.*", "mlp_out_post.*", "mlp_out.*"])
    for layer in range(here.n_layers):
        assert torch.allclose(here.mlp_input(layer), run[f"{point}.{layer}"][0], atol=1e-5)
        assert torch.allclose(here.layers[layer].mlp_out_post, run[f"mlp_out_post.{layer}"][0], atol=1e-5)
        assert torch.allclose(here.layers[layer].mlp_out, run[f"mlp_out.{layer}"][0], atol=1e-5)


def test_reading_leaves_the_model_as_it_was():
    hf = module("llama")
    loaded = cw.load(hf)
    hf.train()
    before, hooks = hf.config._attn_implementation, len(hf.model.layers[0]._forward_hooks)
    frozen_path(loaded, IDS)
    assert hf.config._attn_implementation == before
    assert hf.training
    assert len(hf.model.layers[0]._forward_hooks) == hooks


def test_what_cannot_be_frozen_is_refused_with_the_reason():
    with pytest.raises(InputError, match="side by side"):
        frozen_path(model("gpt_neox"), IDS, "resid_mid")
    with pytest.raises(InputError, match="nearest: mlp_in"):
        frozen_path(model("llama"), IDS, "mlp_inn")
    with pytest.raises(InputError, match="one prompt"):
        frozen_path(model("llama"), IDS[None].expand(2, -1))
    with pytest.raises(InputError, match=r"torch\.float32"):
        frozen_path(cw.load(module("llama").to(torch.bfloat16)), IDS)


def test_weights_that_are_not_finite_are_refused():
    loaded = cw.load(module("llama"))
    with torch.no_grad():
        loaded.hf.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        frozen_path(loaded, IDS)


def test_attention_to_later_positions_is_refused():
    loaded = cw.load(module("llama", attn_implementation="eager"))
    for config in {id(m.config): m.config for m in loaded.hf.modules() if hasattr(m, "config")}.values():
        config.is_causal = False
    for layer in loaded.hf.model.layers:
        layer.self_attn.is_causal = False
    with pytest.raises(InputError, match="causal"):
        frozen_path(loaded, IDS)
