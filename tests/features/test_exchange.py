"""Other packages' formats: what is read computes the format's own equations, written out here from its documentation;
what is written is what was read; what is no such file is named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from features.tiny import random_transcoders, tiny_llama
from safetensors.torch import load_file, save_file

from cutaway.core import InputError
from cutaway.features import SAE, as_saes, as_transcoders, check_fit, convert, load, load_all
from cutaway.features.exchange import FORMS, names

D, F, K = 8, 20, 4


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


X = normal(3, 7, D, seed=9)
BASE = {"W_enc": normal(D, F), "W_dec": normal(F, D), "b_enc": normal(F), "b_dec": normal(D, seed=2)}


def top(h, k=K):
    """ReLU of the k largest."""
    cut = h.topk(k, dim=-1).values[..., -1:]
    return h.relu() * (h >= cut)


# ---- SAELens: (architecture, config, tensors, encode, decode)


def saelens_cases():
    b = BASE
    gate = {"b_gate": normal(F, seed=3), "r_mag": 0.3 * normal(F, seed=4), "b_mag": normal(F, seed=5)}
    gate |= {n: b[n] for n in ("W_enc", "W_dec", "b_dec")}
    norm = b["W_dec"].norm(dim=1)
    out = {"W_dec": normal(F, 5), "b_dec": normal(5), "W_skip": normal(5, D)}

    def plain(a, x):
        return a @ b["W_dec"] + b["b_dec"]

    def pre(x):
        return x @ b["W_enc"] + b["b_enc"]

    def layer_normed(x):
        mean = x.mean(-1, keepdim=True)
        std = (x - mean).std(-1, keepdim=True)
        return (x - mean) / (std + 1e-5), mean, std

    def sphere(x):
        return x * D**0.5 / x.norm(dim=-1, keepdim=True)

    def back_ln(a, x):
        _, mean, std = layer_normed(x)
        return plain(a, x) * std + mean

    yield "standard", {}, b, lambda x: pre(x - b["b_dec"]).relu(), plain
    yield "standard", {"apply_b_dec_to_input": False}, b, lambda x: pre(x).relu(), plain
    yield (
        "standard",
        {"normalize_activations": "expected_average_only_in"},
        b,
        lambda x: pre(x - b["b_dec"]).relu(),
        plain,
    )
    yield (
        "standard", {"normalize_activations": "layer_norm"}, b,
        lambda x: pre(layer_normed(x)[0] - b["b_dec"]).relu(), back_ln,
    )  # fmt: skip
    yield (
        "topk", {"normalize_activations": "constant_norm_rescale", "k": K, "apply_b_dec_to_input": False}, b,
        lambda x: top(pre(sphere(x))), lambda a, x: plain(a, x) * x.norm(dim=-1, keepdim=True) / D**0.5,
    )  # fmt: skip
    yield "topk", {"k": K, "rescale_acts_by_decoder_norm": False}, b, lambda x: top(pre(x - b["b_dec"])), plain
    yield (
        "topk", {"k": K, "rescale_acts_by_decoder_norm": True}, b, lambda x: top(pre(x - b["b_dec"]) * norm),
        lambda a, x: plain(a / norm, x),
    )  # fmt: skip
    threshold = normal(F, seed=6)  # some below zero
    yield (
        "jumprelu", {"apply_b_dec_to_input": False}, {**b, "threshold": threshold},
        lambda x: pre(x).relu() * (pre(x) > threshold), plain,
    )  # fmt: skip

    def gated(x):
        z = (x - b["b_dec"]) @ b["W_enc"]
        size = (x - b["b_dec"]) @ (b["W_enc"] * gate["r_mag"].exp()) + gate["b_mag"]
        return (z + gate["b_gate"] > 0) * size.relu()

    yield "gated", {}, gate, gated, plain
    encoder = {n: b[n] for n in ("W_enc", "b_enc")}
    small = {n: out[n] for n in ("W_dec", "b_dec")}
    flat = {"apply_b_dec_to_input": False, "d_out": 5}
    yield "transcoder", flat, encoder | small, lambda x: pre(x).relu(), lambda a, x: a @ out["W_dec"] + out["b_dec"]
    yield (
        "skip_transcoder", flat, encoder | out, lambda x: pre(x).relu(),
        lambda a, x: a @ out["W_dec"] + out["b_dec"] + x @ out["W_skip"].T,
    )  # fmt: skip

    def pursued(x):
        r, D_unit = x - b["b_dec"], unit
        a = torch.zeros(*x.shape[:-1], F)
        for _ in range(K):
            score = r @ D_unit.T
            best = torch.nn.functional.one_hot(score.argmax(-1), F)
            v = (score * best).relu()
            a, r = a + v, r - v @ D_unit
        return a

    unit = torch.nn.functional.normalize(b["W_dec"], dim=1)
    yield (
        "matching_pursuit",
        {"max_iterations": K, "residual_threshold": 0.0, "stop_on_duplicate_support": False},
        {"W_dec": unit, "b_dec": b["b_dec"]}, pursued, lambda a, x: a @ unit + b["b_dec"],
    )  # fmt: skip


def write_saelens(folder, architecture, config, tensors):
    folder.mkdir(parents=True, exist_ok=True)
    held = {
        "architecture": architecture, "d_in": D, "d_sae": F, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
        "metadata": {"model_name": "tiny", "hook_name": "blocks.1.hook_resid_post", "sae_lens_version": "6.54.0"},
        **config,
    }  # fmt: skip
    if "transcoder" in architecture:
        held["metadata"] |= {"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"}
    (folder / "cfg.json").write_text(json.dumps(held))
    save_file({n: v.contiguous() for n, v in tensors.items()}, folder / "sae_weights.safetensors")


CASES = list(saelens_cases())


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{'-'.join(map(str, c[1].values()))}")
def test_saelens_is_read_as_its_equations_and_written_as_it_was(tmp_path, case):
    architecture, config, tensors, encode, decode = case
    write_saelens(tmp_path / "a", architecture, config, tensors)
    (tmp_path / "a" / "cfg.json").write_text((tmp_path / "a" / "cfg.json").read_text())
    sae = load(tmp_path / "a")
    a = sae.encode(X)
    torch.testing.assert_close(a, encode(X))
    torch.testing.assert_close(sae.decode(a, X), decode(encode(X), X))
    flat = X.flatten(0, 1)
    torch.testing.assert_close(sae.reconstruct(flat)[0], decode(encode(flat), flat))
    assert sae.point.endswith(".1")
    again(tmp_path, "saelens", "sae_weights.safetensors", "cfg.json")
    sae.save(tmp_path / "ours")  # through our own format nothing is lost either
    kept = load(tmp_path / "ours")
    torch.testing.assert_close(kept.decode(kept.encode(X), X), sae.decode(a, X), rtol=0, atol=0)
    if sae.rule != "matching_pursuit" and not sae.input_norm:
        folded = sae.plain()
        torch.testing.assert_close(folded.decode(folded.encode(X), X), sae.decode(a, X), rtol=1e-4, atol=1e-4)


def again(tmp_path, form, weights, config):
    """reader -> writer gives the same tensors, bit for bit, and the same config."""
    FORMS[form].write(load(tmp_path / "a"), tmp_path / "b")
    if weights.endswith("safetensors"):
        old, new = (load_file(tmp_path / name / weights) for name in "ab")
    else:
        old, new = (torch.load(tmp_path / name / weights, weights_only=True) for name in "ab")
    assert list(old) == list(new)
    for name, value in old.items():
        assert new[name].dtype == value.dtype
        assert torch.equal(new[name], value)
    assert json.loads((tmp_path / "b" / config).read_text()) == json.loads((tmp_path / "a" / config).read_text())


def test_saelens_from_before_6_is_read(tmp_path):
    flat = {
        "d_in": D, "d_sae": F, "dtype": "torch.float32", "hook_point": "blocks.{layer}.hook_resid_pre",
        "hook_point_layer": 3, "model_name": "gpt2", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K},
        "normalize_activations": False,
    }  # fmt: skip
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cfg.json").write_text(json.dumps(flat))
    save_file(BASE, tmp_path / "a" / "sae_weights.safetensors")
    save_file({"sparsity": normal(F)}, tmp_path / "a" / "sparsity.safetensors")
    sae = load(tmp_path / "a")
    assert (sae.rule, sae.k, sae.centred, sae.point, sae.model.name) == ("topk", K, True, "resid_pre.3", "gpt2")
    torch.testing.assert_close(sae.encode(X), top((X - BASE["b_dec"]) @ BASE["W_enc"] + BASE["b_enc"]))
    again(tmp_path, "saelens", "sae_weights.safetensors", "cfg.json")
    again(tmp_path, "saelens", "sparsity.safetensors", "cfg.json")


# ---- dictionary_learning


def dl_cases():
    b = BASE
    linear = {"encoder.weight": b["W_enc"].T, "encoder.bias": b["b_enc"], "decoder.weight": b["W_dec"].T}
    norm = b["W_dec"].norm(dim=1)
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
        return (z + g > 0) * (r.exp() * z + m).relu() * norm

    gate = {n: linear[n] for n in ("encoder.weight", "decoder.weight")}
    gate |= {"decoder_bias": b["b_dec"], "r_mag": r, "gate_bias": g, "mag_bias": m}
    yield "GatedAutoEncoder", gate, gated, lambda a: plain(a / norm)
    t = normal(F, seed=6).abs()
    yield (
        "JumpReluAutoEncoder", {**b, "threshold": t}, lambda x: (pre(x) * (pre(x) > t)).relu() * norm,
        lambda a: plain(a / norm),
    )  # fmt: skip
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
@pytest.mark.parametrize("form", ["saelens", "sparsify", "dictionary_learning"])
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
