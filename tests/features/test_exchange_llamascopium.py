"""llamascopium's folders against its equations, written out here from its source."""

from __future__ import annotations

import json

import pytest
import torch
from features.foreign import BASE, D, F, K, X, again, normal, top
from safetensors.torch import load_file, save_file

from cutaway.core import InputError
from cutaway.features import SAE, convert, load

HOOK, OUT = "blocks.1.hook_resid_post", "blocks.1.hook_mlp_out"
LOG = normal(F, seed=6) * 0.5


def write(folder, **changes):
    config = {
        "sae_type": "sae", "d_model": D, "expansion_factor": F / D, "use_decoder_bias": True, "act_fn": "relu",
        "norm_activation": "inference", "sparsity_include_decoder_norm": True, "top_k": K, "hook_point_in": HOOK,
        "hook_point_out": HOOK, "use_glu_encoder": False, **changes,
    }  # fmt: skip
    held = {"W_E": BASE["W_enc"], "b_E": BASE["b_enc"], "W_D": BASE["W_dec"]}
    if config["use_decoder_bias"]:
        held["b_D"] = BASE["b_dec"]
    if config["act_fn"] == "jumprelu":
        held["activation_function.log_jumprelu_threshold"] = LOG
    for hook, size in {HOOK: 3.0, config["hook_point_out"]: 3.0 if config["hook_point_out"] == HOOK else 7.0}.items():
        held[f"dataset_average_activation_norm.{hook}"] = torch.tensor(size)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(held, folder / "sae_weights.safetensors")
    return config


def theirs(config, x):
    """Activations and output of their encode and decode, between their normalize_ and denormalize_activations."""
    enter = leave = torch.ones(())
    if config["norm_activation"] == "token-wise":
        enter = leave = D**0.5 / x.norm(dim=-1, keepdim=True)
    if config["norm_activation"] == "dataset-wise":
        enter, leave = (
            D**0.5 / torch.tensor(3.0),
            D**0.5 / torch.tensor(3.0 if config["hook_point_out"] == HOOK else 7.0),
        )
    norm = BASE["W_dec"].norm(dim=1) if config["sparsity_include_decoder_norm"] else torch.ones(F)
    h = ((x * enter) @ BASE["W_enc"] + BASE["b_enc"]) * norm
    act = {"relu": torch.relu, "topk": top, "jumprelu": lambda h: h * (h > LOG.exp())}[config["act_fn"]]
    a = act(h) / norm
    bias = BASE["b_dec"] if config["use_decoder_bias"] else 0
    return a, (a @ BASE["W_dec"] + bias) / leave


CASES = [
    {},
    {"sparsity_include_decoder_norm": False, "use_decoder_bias": False},
    {"act_fn": "jumprelu"},
    {"act_fn": "jumprelu", "norm_activation": "dataset-wise", "hook_point_out": OUT},
    {"act_fn": "topk", "norm_activation": "dataset-wise"},
    {"act_fn": "topk", "norm_activation": "token-wise"},
]


@pytest.mark.parametrize("changes", CASES, ids=lambda c: "-".join(map(str, c.values())))
def test_it_is_read_as_its_equations_and_written_as_it_was(tmp_path, changes):
    config = write(tmp_path / "a", **changes)
    sae = load(tmp_path / "a")
    a, y = theirs(config, X)
    torch.testing.assert_close(sae.encode(X), a)
    torch.testing.assert_close(sae.decode(a, X), y)
    flat = X.flatten(0, 1)
    torch.testing.assert_close(sae.reconstruct(flat)[0], theirs(config, flat)[1])
    assert (sae.point, sae.writes_to) == (
        "resid_post.1",
        "mlp_out.1" if "hook_point_out" in changes else "resid_post.1",
    )
    if config["act_fn"] != "jumprelu":  # whose thresholds go through a logarithm
        again(tmp_path, "llamascopium", "sae_weights.safetensors", "config.json")
    else:
        convert(sae, "llamascopium", tmp_path / "b")
        old, new = (load_file(tmp_path / name / "sae_weights.safetensors") for name in "ab")
        assert list(old) == list(new)
        for name in old:
            torch.testing.assert_close(new[name], old[name], rtol=0, atol=2e-7 if "log" in name else 0)
    sae.save(tmp_path / "ours")
    kept = load(tmp_path / "ours")
    torch.testing.assert_close(kept.decode(kept.encode(X), X), y)
    if not sae.input_norm:
        folded = sae.plain()
        torch.testing.assert_close(folded.decode(folded.encode(X)), y, rtol=1e-4, atol=1e-4)
        if "hook_point_out" not in changes and config["act_fn"] != "topk":
            convert(sae, "saelens", tmp_path / "sl")
            other = load(tmp_path / "sl")
            torch.testing.assert_close(other.decode(other.encode(X)), y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("features", [20, 49, 57, 99])
def test_ours_is_written_with_a_width_that_theirs_computes(tmp_path, features):
    W = normal(features, D)
    sae = SAE(
        rule="jumprelu", W_enc=W, b_enc=normal(features), W_dec=W, b_dec=BASE["b_dec"], point="resid_post.1",
        threshold=normal(features, seed=5).abs() + 0.1,
    )  # fmt: skip
    convert(sae, "llamascopium", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert int(D * config["expansion_factor"]) == features
    found = load(tmp_path)
    torch.testing.assert_close(found.encode(X), sae.encode(X))
    torch.testing.assert_close(found.decode(found.encode(X)), sae.decode(sae.encode(X)))


def test_what_is_not_theirs_or_not_read_is_named(tmp_path):
    for changes, told in [
        ({"sae_type": "clt"}, "'clt' was found"), ({"use_glu_encoder": True}, "gated linear"),
        ({"norm_activation": "batch-wise"}, "batch-wise"), ({"expansion_factor": 2}, r"config is \[8, 16\]"),
    ]:  # fmt: skip
        write(tmp_path, **changes)
        with pytest.raises(InputError, match=f"llamascopium.*{told}"):
            load(tmp_path)
    write(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"sae_type": "sae"}))
    with pytest.raises(InputError, match="lacks 'd_model'"):
        load(tmp_path)
    sae = SAE(
        rule="jumprelu", W_enc=BASE["W_enc"].T, b_enc=BASE["b_enc"], W_dec=BASE["W_dec"], b_dec=BASE["b_dec"],
        threshold=torch.zeros(F),
    )  # fmt: skip
    with pytest.raises(InputError, match="logarithm"):
        convert(sae, "llamascopium", tmp_path / "b")
