"""SAELens's folders: what is read computes its equations, written out here from its documentation; what is written is
what was read."""

from __future__ import annotations

import json

import pytest
import torch
from features.foreign import BASE, D, F, K, X, again, normal, top, write_saelens
from safetensors.torch import save_file

from cutaway.features import load

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
