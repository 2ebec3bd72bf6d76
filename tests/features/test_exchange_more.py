"""Gemma Scope 2 by its own equations, and cards through Neuronpedia's JSON and back."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from cutaway.core import InputError
from cutaway.features import SAE, convert, load
from cutaway.features.exchange.gemma_scope_2 import module_of, point_of
from cutaway.features.exchange.neuronpedia import from_neuronpedia, to_neuronpedia


def written(folder, skip=False, **changes):
    g = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=g)

    tensors = {"w_enc": normal(6, 10), "w_dec": normal(10, 6), "b_enc": normal(10), "b_dec": normal(6),
               "threshold": normal(10).abs()}  # fmt: skip
    if skip:
        tensors["affine_skip_connection"] = normal(6, 6)
    config = {
        "hf_hook_point_in": "model.layers.9.mlp.input" if skip else "model.layers.9.output",
        "hf_hook_point_out": "model.layers.9.mlp.output" if skip else "model.layers.9.output",
        "width": 10, "model_name": "google/gemma-3-270m", "architecture": "jump_relu", "l0": 20,
        "affine_connection": skip, "type": "transcoder" if skip else "sae", **changes,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "params.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return tensors, config


@pytest.mark.parametrize("skip", [False, True])
def test_gemma_scope_2_computes_its_own_equations_and_is_written_back_bit_for_bit(tmp_path, skip):
    tensors, config = written(tmp_path / "a", skip)
    sae = load(tmp_path / "a")
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    pre = x @ tensors["w_enc"] + tensors["b_enc"]
    a = pre.relu() * (pre > tensors["threshold"])
    y = a @ tensors["w_dec"] + tensors["b_dec"] + (x @ tensors["affine_skip_connection"] if skip else 0)
    torch.testing.assert_close(sae.encode(x), a)
    torch.testing.assert_close(sae.decode(a, x), y, rtol=1e-5, atol=1e-5)
    assert sae.point == ("mlp_in.9" if skip else "resid_post.9")
    assert sae.output_point == ("mlp_out.9" if skip else None)
    assert sae.model.name == "google/gemma-3-270m"
    convert(sae, "gemma_scope_2", tmp_path / "b")
    again = load_file(tmp_path / "b" / "params.safetensors")
    assert set(again) == set(tensors)
    assert all(torch.equal(again[name], value) for name, value in tensors.items())
    assert json.loads((tmp_path / "b" / "config.json").read_text()) == config


def test_ours_goes_to_gemma_scope_2_and_back(tmp_path):
    g = torch.Generator().manual_seed(2)
    ours = SAE(rule="jumprelu", W_enc=torch.randn(8, 4, generator=g), b_enc=torch.randn(8, generator=g),
               W_dec=torch.randn(8, 4, generator=g), b_dec=torch.randn(4, generator=g), threshold=torch.rand(8),
               centred=True, point="resid_post.3")  # fmt: skip
    convert(ours, "gemma_scope_2", tmp_path)
    back = load(tmp_path)
    x = torch.randn(9, 4, generator=g)
    torch.testing.assert_close(back.encode(x), ours.encode(x), rtol=1e-5, atol=1e-5)
    assert back.point == "resid_post.3"
    with pytest.raises(InputError, match="JumpReLU"):
        convert(SAE(rule="topk", k=2, W_enc=torch.ones(3, 2), b_enc=torch.ones(3), W_dec=torch.ones(3, 2),
                    b_dec=torch.ones(2)), "gemma_scope_2", tmp_path / "no")  # fmt: skip


def test_what_is_no_gemma_scope_2_is_named(tmp_path):
    written(tmp_path / "a", architecture="topk")
    with pytest.raises(InputError, match="jump_relu"):
        load(tmp_path / "a")
    written(tmp_path / "b", affine_connection=True)
    with pytest.raises(InputError, match="belong together"):
        load(tmp_path / "b")
    tensors, _ = written(tmp_path / "c")
    save_file({**tensors, "w_dec": torch.ones(10, 2, 6)}, tmp_path / "c" / "params.safetensors")
    with pytest.raises(InputError, match="cross-layer"):
        load(tmp_path / "c")
    assert point_of("model.layers.3.self_attn.weird") == ""
    assert point_of(module_of("resid_post.4")) == "resid_post.4"
    assert point_of(module_of("z.4")) == "z.4"


def card():
    return {
        "schema": "cutaway.feature_card/1", "about": {"model": "m", "dictionary": "d"}, "feature": 7, "label": "on “a”",
        "frequency": 0.01, "maximum": 2.0, "histogram": [3, 2, 1, 0], "top_logits": [{"token": "x", "value": 0.5}],
        "bottom_logits": [{"token": "y", "value": -0.5}], "logit_histogram": [1, 2], "logit_edges": [-0.5, 0.5],
        "neuron": 4, "neuron_correlation": 0.3, "nearest": [1, 2], "nearest_cosine": [0.9, 0.8], "effect": 0.1,
        "effect_random": 0.01, "token_auroc": 0.95, "span": 2, "children": [3],
        "examples": [{"band": "Median", "tokens": ["a", "b"], "activations": [0.0, 2.0], "place": 1}],
    }  # fmt: skip


def test_a_card_goes_through_neuronpedia_without_loss():
    sent = json.loads(json.dumps(to_neuronpedia(card(), "gpt2-small", "2-res-mine")))
    assert from_neuronpedia(sent) == card()
    # Their page indexes the heights by the values.
    for name in ("freq", "logits"):
        assert len(sent[f"{name}_hist_data_bar_heights"]) == len(sent[f"{name}_hist_data_bar_values"])
    assert sent["activations"][0]["maxValueTokenIndex"] == 1
    assert sent["pos_str"] == ["x"]


def test_their_own_features_are_read_as_far_as_they_go():
    sent = to_neuronpedia(card(), "gpt2-small", "2-res-mine")
    del sent["cutaway"]
    found = from_neuronpedia(sent)
    assert found["feature"] == 7
    assert found["top_logits"] == card()["top_logits"]
    assert found["logit_edges"] == pytest.approx([-0.5, 0.5])
    assert "effect" not in found
    with pytest.raises(InputError, match="lacks modelId"):
        from_neuronpedia({"index": 1})
