"""Other packages' formats: what is read computes the format's own equations, written out here from its documentation;
what is written is what was read; what is no such file is named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from features.foreign import BASE, D, F, K, X, again, normal, top, write_saelens
from features.tiny import random_transcoders, tiny_llama
from safetensors.torch import save_file

from cutaway.core import InputError
from cutaway.features import SAE, as_saes, as_transcoders, check_fit, convert, load, load_all
from cutaway.features.exchange import names

# ---- dictionary_learning


def dl_cases():
    b = BASE
    linear = {"encoder.weight": b["W_enc"].T, "encoder.bias": b["b_enc"], "decoder.weight": b["W_dec"].T}
    k = torch.tensor(K, dtype=torch.int32)

    def pre(x):
        return x @ b["W_enc"] + b["b_enc"]

    def plain(a):
        return a @ b["W_dec"] + b["b_dec"]

    def over(theta, centred=True):
        return lambda x: (h := pre(x - b["b_dec"]).relu()) * (h > theta)

    yield "AutoEncoder", {**linear, "bias": b["b_dec"]}, lambda x: pre(x - b["b_dec"]).relu(), plain
    yield "AutoEncoderNew", {**linear, "decoder.bias": b["b_dec"]}, lambda x: pre(x).relu(), plain
    r, m, g = 0.3 * normal(F, seed=4), normal(F, seed=5), normal(F, seed=3)

    def gated(x):
        z = (x - b["b_dec"]) @ b["W_enc"]
        return (z + g > 0) * (r.exp() * z + m).relu()

    gate = {n: linear[n] for n in ("encoder.weight", "decoder.weight")}
    gate |= {"decoder_bias": b["b_dec"], "r_mag": r, "gate_bias": g, "mag_bias": m}
    yield "GatedAutoEncoder", gate, gated, plain
    t = normal(F, seed=6).abs()
    yield "JumpReluAutoEncoder", {**b, "threshold": t}, lambda x: (pre(x) * (pre(x) > t)).relu(), plain
    many = {**linear, "b_dec": b["b_dec"], "k": k, "threshold": torch.tensor(0.7)}
    yield "AutoEncoderTopK", many, lambda x: top(pre(x - b["b_dec"])), plain
    yield "BatchTopKSAE", many, over(0.7), plain
    yield "BatchTopKSAE", {**many, "threshold": torch.tensor(-1.0)}, over(-1.0), plain
    nested = {**b, "k": k, "threshold": torch.tensor(0.4), "group_sizes": torch.tensor([5, 15])}
    yield "MatryoshkaBatchTopKSAE", nested, over(0.4), plain


@pytest.mark.parametrize("case", list(dl_cases()), ids=lambda c: c[0])
def test_dictionary_learning_is_read_as_its_equations_and_written_as_it_was(tmp_path, case):
    name, state, encode, decode = case
    trainer = {
        "dict_class": name, "activation_dim": D, "dict_size": F, "layer": 1, "lm_name": "tiny",
        "submodule_name": "resid_post_layer_1",
    }  # fmt: skip
    (tmp_path / "a").mkdir()
    torch.save(state, tmp_path / "a" / "ae.pt")
    (tmp_path / "a" / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"ctx_len": 128}}))
    sae = load(tmp_path / "a")
    a = sae.encode(X)
    torch.testing.assert_close(a, encode(X))
    torch.testing.assert_close(sae.decode(a), decode(encode(X)))
    torch.testing.assert_close(sae.reconstruct(X.flatten(0, 1))[0], decode(encode(X)).flatten(0, 1))
    assert (sae.point, sae.model.name) == ("resid_post.1", "tiny")
    again(tmp_path, "dictionary_learning", "ae.pt", "config.json")


class Runs:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_a_pickle_that_is_no_state_dict_is_refused_unrun(tmp_path, capsys):
    config = {"trainer": {"dict_class": "AutoEncoder"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for content in (pickle.dumps(Runs()), b"nonsense", b""):
        (tmp_path / "ae.pt").write_bytes(content)
        with pytest.raises(InputError, match="no plain state dict of dictionary_learning"):
            load(tmp_path)
    torch.save({"a": Runs()}, tmp_path / "ae.pt")
    with pytest.raises(InputError, match="dictionary_learning"):
        load(tmp_path)
    assert "never run" not in capsys.readouterr().out


# ---- sparsify, Gemma Scope


@pytest.mark.parametrize("transcode", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_sparsify_is_read_as_its_equations_and_written_as_it_was(tmp_path, transcode, skip):
    config = {
        "activation": "topk", "expansion_factor": 32, "normalize_decoder": True, "num_latents": F, "k": K,
        "multi_topk": False, "skip_connection": skip, "transcode": transcode, "d_in": D,
    }  # fmt: skip
    held = {
        "encoder.weight": BASE["W_enc"].T.contiguous(), "encoder.bias": BASE["b_enc"], "W_dec": BASE["W_dec"],
        "b_dec": BASE["b_dec"], **({"W_skip": normal(D, D)} if skip else {}),
    }  # fmt: skip
    for layer in ("layers.10.mlp", "layers.2.mlp"):
        folder = tmp_path / "run" / layer
        folder.mkdir(parents=True)
        (folder / "cfg.json").write_text(json.dumps(config))
        save_file(held, folder / "sae.safetensors")
    (tmp_path / "a").symlink_to(tmp_path / "run" / "layers.2.mlp")
    found = load_all(tmp_path / "run")
    assert list(found) == ["layers.2.mlp", "layers.10.mlp"]
    sae = found["layers.2.mlp"]
    a = top((X if transcode else X - BASE["b_dec"]) @ BASE["W_enc"] + BASE["b_enc"])
    torch.testing.assert_close(sae.encode(X), a)
    y = a @ BASE["W_dec"] + BASE["b_dec"] + (X @ held["W_skip"].T if skip else 0)
    torch.testing.assert_close(sae.decode(sae.encode(X), X), y)
    assert (sae.point, sae.output_point) == (("mlp_in.2", "mlp_out.2") if transcode else ("mlp_out.2", None))
    again(tmp_path, "sparsify", "sae.safetensors", "cfg.json")
    with pytest.raises(InputError, match="holds several"):
        load(tmp_path / "run")


def test_gemma_scope_is_read_as_its_equations_and_written_as_it_was(tmp_path):
    folder = tmp_path / "gemma-scope-2b-pt-res" / "layer_3" / "width_16k"
    folder.mkdir(parents=True)
    held = {**BASE, "threshold": normal(F, seed=6).abs()}
    np.savez(folder / "params.npz", **{n: v.numpy() for n, v in held.items()})
    sae = load(folder)
    h = X @ BASE["W_enc"] + BASE["b_enc"]
    torch.testing.assert_close(sae.encode(X), h * (h > held["threshold"]))
    assert (sae.point, sae.model.name) == ("resid_post.3", "google/gemma-2-2b")
    convert(sae, "gemma_scope", tmp_path / "b")
    with np.load(tmp_path / "b" / "params.npz") as new:
        assert new.files == list(held)
        assert all(np.array_equal(new[n], held[n].numpy()) for n in held)
    np.savez(folder / "params.npz", W_enc=np.array([Runs()], dtype=object))
    with pytest.raises(InputError, match="Gemma Scope"):
        load(folder)


@pytest.mark.parametrize("form", ["saelens", "sparsify", "dictionary_learning", "gemma_scope"])
def test_wrong_shapes_missing_tensors_and_cut_files_are_named(tmp_path, form):
    rule = "topk" if form == "sparsify" else "jumprelu"
    sae = SAE(
        rule=rule, W_enc=BASE["W_enc"].T, b_enc=BASE["b_enc"], W_dec=BASE["W_dec"], b_dec=BASE["b_dec"],
        threshold=torch.ones(F) if rule == "jumprelu" else None, k=K if rule == "topk" else None, point="resid_post.0",
    )  # fmt: skip
    said = {"saelens": "SAELens", "gemma_scope": "Gemma Scope"}.get(form, form)
    convert(sae, form, tmp_path)
    torch.testing.assert_close(
        (found := load(tmp_path)).decode(found.encode(X)), sae.decode(sae.encode(X)), rtol=1e-4, atol=1e-4
    )
    weights = next(p for p in tmp_path.iterdir() if p.suffix in (".safetensors", ".pt", ".npz"))
    good = weights.read_bytes()
    weights.write_bytes(good[: len(good) // 2])
    with pytest.raises(InputError, match=weights.name):
        load(tmp_path)
    for change in ({"W_dec": torch.ones(3, 3)}, {"surplus": torch.ones(2)}, None):
        tensors = {**BASE, "threshold": torch.ones(F)}
        if form == "sparsify":
            tensors = {"encoder.weight": BASE["W_enc"].T, "encoder.bias": BASE["b_enc"]}
            tensors |= {name: BASE[name] for name in ("W_dec", "b_dec")}
        tensors = {**tensors, **change} if change else {n: v for n, v in tensors.items() if n != "b_dec"}
        if weights.suffix == ".npz":
            np.savez(weights, **{n: v.numpy() for n, v in tensors.items()})
        elif weights.suffix == ".pt":
            torch.save(tensors, weights)
        else:
            save_file({n: v.contiguous() for n, v in tensors.items()}, weights)
        with pytest.raises(InputError, match=said):
            load(tmp_path)


# ---- between formats


@pytest.mark.parametrize("rule", ["relu", "topk", "jumprelu"])
@pytest.mark.parametrize("form", ["saelens", "sparsify", "dictionary_learning", "llamascopium"])
def test_ours_in_another_format_reconstructs_the_same_or_is_refused(tmp_path, form, rule):
    sae = SAE(
        rule=rule, W_enc=BASE["W_enc"].T, b_enc=BASE["b_enc"], W_dec=BASE["W_dec"], b_dec=BASE["b_dec"],
        threshold=torch.full((F,), 0.5) if rule == "jumprelu" else None, k=K if rule == "topk" else None,
        point="resid_post.0",
    )  # fmt: skip
    if form == "sparsify" and rule != "topk":
        with pytest.raises(InputError, match="TopK"):
            convert(sae, form, tmp_path)
        return
    convert(sae, form, tmp_path)
    found = load(tmp_path)
    torch.testing.assert_close(found.decode(found.encode(X)), sae.decode(sae.encode(X)), rtol=1e-4, atol=1e-4)
    assert torch.equal(found.encode(X) > 0, sae.encode(X) > 0)
    assert found.point == ("" if form == "sparsify" else "resid_post.0")


@pytest.mark.parametrize("skip", [False, True])
def test_a_set_of_transcoders_becomes_single_ones_and_a_set_again(tmp_path, skip):
    given = random_transcoders(rule="topk", skip=skip)
    convert(given, "sparsify", tmp_path)
    found = as_transcoders(list(load_all(tmp_path).values()))
    x = torch.randn(5, 2, 16)
    assert torch.equal(found.decode(found.encode(x), x), given.decode(given.encode(x), x))
    convert(found, "circuit-tracer", tmp_path / "ct") if not skip and found.rule != "topk" else None
    with pytest.raises(InputError, match="layer 0"):
        as_transcoders(as_saes(given)[::-1])
    with pytest.raises(InputError, match="cross-layer"):
        convert(random_transcoders(kind="clt"), "saelens", tmp_path / "no")
    with pytest.raises(InputError, match="every MLP"):
        convert(as_saes(given)[0], "circuit-tracer", tmp_path / "no")


def test_names_of_points():
    for point in ("resid_pre.3", "resid_post.0", "mlp_act.11", "z.2", "attn_out.7", "mlp_out.1", "mlp_in.4"):
        assert names.from_hook(names.to_hook(point)) == point
    assert names.from_hook("blocks.1.attn.hook_pattern") == ""
    assert names.from_module("gpt_neox.layers.4.attention") == "attn_out.4"
    assert names.from_module("h.2") == "resid_post.2"
    assert names.from_module("embed") == ""


def test_a_foreign_dictionary_is_checked_against_its_model(tmp_path):
    """hook_mlp_out names what this family adds to the stream; a wrong width and an unknown point are refused."""
    model = tiny_llama()
    d = 16
    eye = torch.cat([torch.eye(d), -torch.eye(d)])
    tensors = {"W_enc": eye.T, "W_dec": eye, "b_enc": torch.zeros(2 * d), "b_dec": torch.zeros(d)}
    config = {"d_in": d, "d_sae": 2 * d, "metadata": {"hook_name": "blocks.1.hook_mlp_out"}}
    write_saelens(tmp_path / "a", "standard", config, tensors)
    assert check_fit(model, load(tmp_path / "a")).point == "mlp_out.1"
    write_saelens(tmp_path / "c", "standard", config | {"metadata": {"hook_name": "blocks.1.mlp.hook_post"}}, tensors)
    with pytest.raises(InputError, match="reads 16 numbers"):
        check_fit(model, load(Path(tmp_path / "c")))
    write_saelens(tmp_path / "d", "standard", config | {"metadata": {"hook_name": "blocks.1.hook_what"}}, tensors)
    with pytest.raises(InputError, match="not known which point"):
        check_fit(model, load(tmp_path / "d"))
