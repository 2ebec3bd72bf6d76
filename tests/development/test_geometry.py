"""Essential dynamics, influence, susceptibilities and progress measures against what is known of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from development.regular_case import regular
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

import cutaway as cw
from cutaway.core import InputError
from cutaway.development import (
    Data,
    Setting,
    bayesian_influence,
    essential_dynamics,
    head_weights_mask,
    llc,
    osculating_circles,
    progress,
    susceptibilities,
)
from cutaway.development.modular import waves

MODADD = Path(__file__).parents[3] / "shared" / "data" / "modadd113"
KEYS = {0: {18, 15, 1, 8, 56}, 1: {49, 30, 38, 1}, 2: {49, 3, 44, 19}, 3: {36, 38, 49}, 4: {19, 15, 7, 36, 20}}


def test_a_circles_osculating_circle_is_itself():
    t = np.linspace(0, 2, 400)
    circle = np.stack([1 + 3 * np.cos(t), 2 + 3 * np.sin(t)], 1)
    centres, kappa = osculating_circles(t, circle)
    assert np.allclose(centres[5:-5], [1, 2], atol=1e-3)
    assert np.allclose(kappa[5:-5], 1 / 3, atol=1e-4)


def test_a_form_lies_where_an_ellipse_is_most_curved():
    t = np.linspace(-1.2, 1.2, 41)
    ellipse = np.stack([4 * np.cos(t), np.sin(t)], 1)  # most curved at t = 0, with radius b^2 / a
    outputs = ellipse @ np.linalg.qr(np.random.default_rng(0).standard_normal((6, 2)))[0].T
    found = essential_dynamics(np.arange(41), outputs, components=2, smooth=0.0)
    assert found.explained.sum() == pytest.approx(1, abs=1e-9)
    assert found.explained[0] > found.null[0]
    sharpest = min(found.forms, key=lambda form: form.radius)
    assert sharpest.step == 20
    assert sharpest.radius == pytest.approx(0.25, rel=0.1)


def test_every_checkpoint_has_its_circle_and_a_straight_piece_none():
    """A curve on a circle of radius 2 in a plane of outputs, after a straight run up to it."""
    t = np.arange(40)
    angle = np.maximum(t - 15, 0) * 0.1
    plane = np.stack([np.minimum(t - 15, 0) * 0.2 + 2 * np.sin(angle), 2 - 2 * np.cos(angle)], 1)
    found = essential_dynamics(t, plane @ np.linalg.qr(np.random.default_rng(0).normal(size=(7, 2)))[0].T, 2, smooth=0)
    (one,) = found.circles
    assert one.centres.shape == (40, 2)
    assert np.abs(1 / one.curvatures[20:36]) == pytest.approx(2.0, rel=0.01)
    assert np.abs(one.curvatures[3:12]).max() < 1e-6
    body = found.to_json()
    assert len(body["circles"][0]["centres"]) == 40
    json.dumps(body, allow_nan=False)


def test_few_checkpoints_have_no_dynamics():
    with pytest.raises(InputError, match="T >= 4"):
        essential_dynamics([0, 1, 2], np.ones((3, 5)))


def test_influence_on_a_quadratic_is_the_covariance_of_its_losses():
    """Rows that are the same item have correlation 1; B = -Cov is symmetric with negative diagonal."""
    loss, _ = regular(n=50)
    loss.data[0][1], loss.data[1][1] = loss.data[0][0], loss.data[1][0]
    found = bayesian_influence(loss, Setting(200.0, 1.0, 1e-4, chains=4, draws=80, burn_in=40), torch.arange(6))
    assert found.correlation[0, 1] == pytest.approx(1.0)
    assert (np.diag(found.bif) < 0).all()
    assert np.allclose(found.bif, found.bif.T)


def test_susceptibility_to_the_data_itself_is_nil_and_to_more_of_the_same_negative():
    loss, _ = regular(n=50)
    twice = regular(n=50)[0]
    twice = type(loss)(loss.module, loss.data, lambda f, x, y: 2 * loss.per_item(f, x, y))
    found = susceptibilities(
        loss, Setting(200.0, 1.0, 1e-4, chains=4, draws=60, burn_in=40), {"same": loss, "twice": twice}
    )
    assert found["same"].value == 0
    assert found["twice"].value < 0
    with pytest.raises(InputError, match="same module"):
        susceptibilities(loss, Setting(1.0, 1.0, 1e-4, draws=4), {"other": regular(d=3)[0]})


def families():
    torch.manual_seed(0)
    small = {"vocab_size": 40}
    yield "gpt2", GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=16, **small))
    yield "llama", LlamaForCausalLM(
        LlamaConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=16, **small,
        )
    )  # fmt: skip
    yield "neox", GPTNeoXForCausalLM(
        GPTNeoXConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=16, **small,
        )
    )  # fmt: skip


@pytest.mark.parametrize(("name", "module"), list(families()), ids=lambda v: v if isinstance(v, str) else "")
def test_a_heads_weights_are_all_that_its_output_depends_on(name, module):
    """Moving the mask's weights moves z of that head (and of its group), and no other in that layer."""
    model = cw.load(module)
    ids = torch.randint(40, (3, 8), generator=torch.Generator().manual_seed(0))
    before = model.run(ids, read=["z.1"])["z.1"]
    masks = head_weights_mask(model, 1, 1)
    assert masks
    with torch.no_grad():
        for key, mask in masks.items():
            if "o_proj" in key or "c_proj" in key or "dense" in key:
                continue
            dict(model.hf.named_parameters())[key][mask] += 0.5
    after = model.run(ids, read=["z.1"])["z.1"]
    moved = (after - before).abs().amax((0, 1, 3))
    assert moved[1] > 1e-4
    group = {0, 1} if name == "llama" else {1}
    assert all(moved[h] < 1e-6 for h in range(len(moved)) if h not in group)


@pytest.mark.parametrize(("name", "module"), list(families()), ids=lambda v: v if isinstance(v, str) else "")
def test_language_models_have_coefficients_whole_and_by_head(name, module):
    model = cw.load(module)
    data = Data((torch.randint(40, (10, 8), generator=torch.Generator().manual_seed(0)),))
    setting = Setting(20.0, 100.0, 1e-4, chains=2, draws=6, burn_in=2, batch=4)
    whole = llc(data.loss(model), setting, traced=name == "llama")
    head = llc(data.loss(model, head_weights_mask(model, 0, 1)), setting, traced=False)
    assert np.isfinite(whole.value)
    assert np.isfinite(head.value)
    assert head.d < whole.d
    with pytest.raises(InputError, match="no head"):
        head_weights_mask(model, 0, 9)


def test_waves_are_orthonormal():
    basis = torch.cat([waves(11, k) for k in range(1, 6)])
    assert torch.allclose(basis @ basis.T, torch.eye(10, dtype=torch.float64), atol=1e-9)


def test_progress_of_planted_logits():
    """Logits of two frequencies: they are the key, hold all the variance; restricted is the loss, excluded chance."""
    p = 13
    a = torch.arange(p, dtype=torch.float64)
    total = a[:, None, None] + a[None, :, None] - a[None, None]
    logits = sum(20 * torch.cos(2 * torch.pi * k * total / p) for k in (2, 5))
    found = progress(logits)
    assert set(found.key) == {2, 5}
    assert found.explained == pytest.approx(1)
    assert found.restricted == pytest.approx(found.train, abs=1e-9)
    assert found.excluded == pytest.approx(np.log(p), abs=1e-6)
    assert found.accuracy == 1
    assert progress(logits, key=(3,)).restricted == pytest.approx(np.log(p), abs=1e-6)
    with pytest.raises(InputError, match="between 1 and 6"):
        progress(logits, key=(7,))
    with pytest.raises(InputError, match="p, p, p"):
        progress(logits[0])


@pytest.mark.skipif(not MODADD.is_dir(), reason="../shared/data/modadd113 is absent")
@pytest.mark.parametrize("seed", [0, 3])
def test_key_frequencies_of_networks_that_others_trained(seed):
    from cutaway.organisms.grokking import read_modular_addition

    module = read_modular_addition(MODADD / f"seed{seed}.safetensors")
    with torch.no_grad():
        found = progress(module(module.pairs()).reshape(113, 113, 113))
    assert set(found.key) == KEYS[seed]
    assert found.explained >= 0.9
    assert found.accuracy > 0.999
    assert found.excluded > 5 > found.restricted
