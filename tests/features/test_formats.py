"""Formats: written and read again is the same, in ours and in circuit-tracer's layout; what is not is refused."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from features.tiny import random_transcoders, tiny_llama
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from cutaway.core import InputError
from cutaway.core.protocols import TranscoderSet
from cutaway.features import circuit_tracer, load
from cutaway.features.fit import check_fit, placed


def same(a, b):
    assert (a.kind, a.rule, a.k, a.n_layers, a.input_name, a.output_name) == (
        b.kind, b.rule, b.k, b.n_layers, b.input_name, b.output_name,
    )  # fmt: skip
    for mine, other in zip(a.layers, b.layers):
        assert mine.tensors().keys() == other.tensors().keys()
        for name, tensor in mine.tensors().items():
            assert tensor.dtype == other.tensors()[name].dtype
            assert torch.equal(tensor, other.tensors()[name])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["plt", "clt"]),
    rule=st.sampled_from(["relu", "jumprelu", "topk"]),
    skip=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
    layers=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_ours_is_read_as_it_was_written(tmp_path_factory, kind, rule, skip, dtype, layers, seed):
    made = random_transcoders(kind, rule, layers, features=6, d=4, skip=skip, seed=seed, dtype=dtype)
    made = made.with_(training={"a": [1, 2.5]}, metrics={"b": None})
    folder = tmp_path_factory.mktemp("ours")
    made.save(folder)
    found = load(folder)
    same(found, made)
    assert (found.training, found.metrics) == ({"a": [1, 2.5]}, {"b": None})


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["plt", "clt"]),
    rule=st.sampled_from(["relu", "jumprelu"]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    layers=st.integers(1, 4),
    skip=st.booleans(),
)
def test_circuit_tracer_is_read_as_it_was_written(tmp_path_factory, kind, rule, dtype, layers, skip):
    skip = skip and kind == "plt"
    made = random_transcoders(kind, rule, layers, features=6, d=4, skip=skip, dtype=dtype)
    folder = tmp_path_factory.mktemp("ct")
    circuit_tracer.write(made, folder)
    found = load(folder)
    same(found, made)
    again = tmp_path_factory.mktemp("again")
    circuit_tracer.write(found, again)
    for path in folder.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_a_circuit_tracer_clt_of_the_exact_layout_computes_what_it_should(tmp_path):
    """Layout and arithmetic as circuit-tracer 0.5 has them: einsum over (F, d) encoders, W_dec_i (F, L - i, d)."""
    L, F, d = 3, 7, 5
    g = torch.Generator().manual_seed(0)
    enc, b = torch.randn(L, F, d, generator=g), torch.randn(L, F, generator=g)
    dec = [torch.randn(F, L - i, d, generator=g) for i in range(L)]
    b_dec, threshold = torch.randn(L, d, generator=g), torch.rand(L, F, generator=g)
    for i in range(L):
        save_file(
            {f"W_enc_{i}": enc[i].clone(), f"b_enc_{i}": b[i].clone(), f"b_dec_{i}": b_dec[i].clone(),
             f"threshold_{i}": threshold[i].clone()},
            tmp_path / f"W_enc_{i}.safetensors",
        )  # fmt: skip
        save_file({f"W_dec_{i}": dec[i]}, tmp_path / f"W_dec_{i}.safetensors")
    config = {
        "model_name": "some/model", "model_kind": "cross_layer_transcoder", "feature_input_hook": "hook_resid_mid",
        "feature_output_hook": "hook_mlp_out", "scan": "some/scan", "an_unknown_field": [1, 2],
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    found = load(tmp_path)
    assert isinstance(found, TranscoderSet)
    assert (found.input_point(1), found.output_point(2), found.writes(1)) == ("resid_mid.1", "mlp_out.2", (1, 2))
    x = torch.randn(L, 9, d, generator=g)
    h = torch.einsum("lbd,lfd->lbf", x, enc) + b[:, None]
    a = h * (h > threshold[:, None])
    y = b_dec[:, None].repeat(1, 9, 1)
    for i in range(L):
        for m in range(i, L):
            y[m] += a[i] @ dec[i][:, m - i]
    torch.testing.assert_close(found.reconstruct(x)[0], y)
    torch.testing.assert_close(found.encode(x.transpose(0, 1)).transpose(0, 1), a)
    circuit_tracer.write(found, tmp_path / "again")
    assert yaml.safe_load((tmp_path / "again" / "config.yaml").read_text()) == config


def test_circuit_tracer_topk_is_read_as_topk_and_not_written_as_relu(tmp_path):
    made = random_transcoders("plt", "relu", features=6, d=4)
    circuit_tracer.write(made, tmp_path)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**config, "activation": "topk", "k": 2}))
    found = load(tmp_path)
    assert (found.rule, found.k) == ("topk", 2)
    assert ((found.encode(torch.randn(9, 2, 4)) != 0).sum(-1) <= 2).all()
    with pytest.raises(InputError, match="TopK"):
        circuit_tracer.write(random_transcoders("plt", "topk"), tmp_path / "x")
    with pytest.raises(InputError, match="skip"):
        circuit_tracer.write(random_transcoders("clt", "relu", skip=True), tmp_path / "x")


def test_what_is_no_dictionary_is_named(tmp_path):
    with pytest.raises(InputError, match="no dictionary at"):
        load(tmp_path / "absent")
    with pytest.raises(InputError, match="holds nothing"):
        load(tmp_path)
    (tmp_path / "cfg.json").write_text("{}")
    (tmp_path / "sae_weights.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="SAELens"):
        load(tmp_path)


def test_a_cut_or_altered_or_missing_file_is_named(tmp_path):
    made = random_transcoders(layers=3)
    made.save(tmp_path)
    path = tmp_path / "layer_1.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(InputError, match=r"layer_1.*altered or cut short"):
        load(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=r"layer_1.*missing"):
        load(tmp_path)
    folder = tmp_path / "ct"
    circuit_tracer.write(made, folder)
    (folder / "layer_1.safetensors").unlink()
    with pytest.raises(InputError, match=r"layers \[1\]"):
        load(folder)
    (folder / "layer_1.safetensors").write_bytes(whole[:40])
    with pytest.raises(InputError, match="layer_1"):
        load(folder)


def test_transposed_weights_and_nan_are_refused(tmp_path):
    made = random_transcoders("plt", "relu", features=6, d=4)
    circuit_tracer.write(made, tmp_path)
    held = load_file(tmp_path / "layer_0.safetensors")
    for name, wrong in (("W_dec", held["W_dec"].T.contiguous()), ("W_enc", held["W_enc"] * float("nan"))):
        save_file({**held, name: wrong}, tmp_path / "layer_0.safetensors")
        with pytest.raises(InputError, match=name):
            load(tmp_path)


def test_a_config_that_lacks_a_field_is_named(tmp_path):
    random_transcoders().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["input_point"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="input_point"):
        load(tmp_path)


def test_half_precision_is_kept_on_disk_and_computed_with_in_float32(tmp_path):
    made = random_transcoders(dtype=torch.float16)
    x = torch.randn(9, 16)
    assert made.pre_activations(0, x).dtype == torch.float32
    torch.testing.assert_close(
        made.pre_activations(0, x), x @ made.layers[0].W_enc.float().T + made.layers[0].b_enc.float()
    )
    made.save(tmp_path)
    same(load(tmp_path), made)


def test_the_protocols_identity_holds_for_rows_and_bias():
    """pre = encoder_rows x + encoder_bias; y_hat = bias + sum a decoder_rows + skip x."""
    for kind in ("plt", "clt"):
        made = random_transcoders(kind, skip=True, layers=3, dtype=torch.float64)
        x = torch.randn(4, 3, 16, dtype=torch.float64)
        every = torch.arange(made.n_features)
        a = made.encode(x)
        for layer in range(3):
            pre = x[:, layer] @ made.encoder_rows(layer, every).T + made.encoder_bias(layer, every)
            torch.testing.assert_close(made.pre_activations(layer, x[:, layer]), pre)
        for m in range(3):
            y = made.output_bias(m) + x[:, m] @ made.skip(m).T
            for layer in range(3):
                if m in made.writes(layer):
                    y = y + a[:, layer] @ made.decoder_rows(layer, every, m)
            torch.testing.assert_close(made.decode(a, x)[:, m], y)
    with pytest.raises(InputError, match="not to 0"):
        made.decoder_rows(1, every, 0)


def test_a_dictionary_for_another_model_is_refused_by_shape_and_by_error(model, rows):
    from cutaway.features import DictionarySettings, TrainSettings, train

    settings = TrainSettings(
        dictionaries=(DictionarySettings(name="d", kind="plt", features=64, l0=8),),
        tokens=64 * 120,
        batch=64,
        block=600,
    )
    made = train(model, rows, settings, quiet=True)["d"]
    assert check_fit(model, made).input_name == "mlp_in"
    assert check_fit(model, made, rows[:10]) is not None
    with pytest.raises(InputError, match="2 layers and other has 3"):
        placed(made, _named(tiny_llama(layers=3)))
    with pytest.raises(InputError, match="16 numbers a token and other has a width of 32"):
        placed(made, _named(tiny_llama(width=32)))
    with pytest.raises(InputError, match=r"does not fit other.*trained for tiny"):
        check_fit(_named(tiny_llama(seed=9)), made)
    broken = tiny_llama(seed=9)
    with torch.no_grad():
        broken.hf.model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        check_fit(broken, made, rows[:4])


def _named(model):
    model.name = "other"
    return model
