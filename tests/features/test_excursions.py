"""Paired prompts: features that were planted to differ are found, noise is not, and what is set is what is measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import cutaway as cw
from cutaway.core import InputError
from cutaway.features import SAE
from cutaway.features.excursions import _flipped, _span, controllability, latent_differences


@pytest.fixture(scope="module")
def model():
    return cw.load("almanac")


@pytest.fixture(scope="module")
def task(model):
    return cw.task("ioi", model, n=24, seed=0)


def along(model, task, point="resid_post.3"):
    """A dictionary whose first feature writes the answers less the wrong ones; the others are noise."""
    head = model.hf.get_output_embeddings().weight.detach()
    d = (head[task.answers] - head[task.wrong]).mean(0)
    g = torch.Generator().manual_seed(0)
    W = torch.cat([(d / d.norm())[None], torch.nn.functional.normalize(torch.randn(15, 128, generator=g), dim=1)])
    return SAE(rule="relu", W_enc=W, b_enc=torch.full((16,), 5.0), W_dec=W, b_dec=torch.zeros(128), point=point)


def test_planted_differences_are_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    d = rng.normal(size=(40, 50))
    d[:, 7] += 2
    p, size = _flipped(d, 0)
    assert p[7] < 0.01
    assert size.argmax() == 7
    assert (np.delete(p, 7) > 0.05).all()
    assert (_flipped(np.zeros((10, 3)), 0)[0] == 1).all()


def test_differences_are_those_of_the_encodings(model, task):
    sae = along(model, task)
    found = latent_differences(model, [sae], task, top=4)
    rows, at = torch.arange(len(task)), torch.as_tensor(task.columns("end"))
    a, b = (
        sae.encode(model.run(p, read=["resid_post.3"])["resid_post.3"][rows, at])
        for p in (task.clean, task.counterfactual)
    )
    for row in found.rows:
        assert row.difference.value == pytest.approx(float((a - b)[:, row.feature].mean()), abs=1e-4)
    assert len(found.rows) == 4
    assert "random directions" in str(found)
    assert found.to_json()["schema"] == "cutaway.latent_differences/1"


def test_setting_a_feature_to_what_it_is_changes_nothing_and_each_step_is_an_intervention(model, task):
    sae = along(model, task)
    found = controllability(model, sae, task, 0, multiples=(0.0, 1.0))
    rows, at = torch.arange(len(task)), torch.as_tensor(task.columns("end"))
    x = model.run(task.clean, read=["resid_post.3"])["resid_post.3"][rows, at]
    a = sae.encode(x)[:, 0]
    for i, m in enumerate((0.0, 1.0)):
        moved = x + (m * found.unit - a)[:, None] * sae.W_dec[0]
        final = model.hf.model.norm(moved)
        logits = final @ model.hf.get_output_embeddings().weight.T
        assert found.metric[i].value == pytest.approx(float(task.metric(logits).mean()), abs=1e-3)
    assert "set to multiples" in str(found)


def test_the_span_ends_where_the_metric_turns_or_answers_are_lost():
    m = np.array([-2.0, -1, 0, 1, 2, 4])
    assert _span(m, np.array([5.0, 0, 1, 2, 3, 2.5]), np.ones(6), 1.0) == (-1.0, 2.0)
    assert _span(m, np.arange(6.0), np.array([1, 1, 1, 1, 0.4, 1]), 0.0) == (-2.0, 1.0)
    assert _span(m, np.zeros(6), np.ones(6), 0.0) == (0.0, 0.0)


def test_wrong_use_is_named(model, task):
    sae = along(model, task)
    with pytest.raises(InputError, match="no position"):
        latent_differences(model, [sae], task, position="middle")
    with pytest.raises(InputError, match="no feature 99"):
        controllability(model, sae, task, 99)
    with pytest.raises(InputError, match="never fires"):
        controllability(model, sae.with_(b_enc=torch.full((16,), -1e6)), task, 0)


FLAGS = {
    "lengths before": {"norms": "before"},
    "lengths after": {"norms": "after"},
    "lengths at the gate": {"norms": "gate"},
    "scaled": {"input_scale": 2.0, "output_scale": 3.0},
    "on a sphere": {"input_norm": "sphere"},
    "layer norm": {"input_norm": "layer_norm"},
}


def flagged(**flags):
    g = torch.Generator().manual_seed(1)
    W = torch.randn(16, 128, generator=g) * torch.linspace(0.3, 3, 16)[:, None]
    return SAE(rule="relu", W_enc=W / 20, b_enc=torch.zeros(16), W_dec=W, b_dec=torch.ones(128),
               point="resid_post.1", **flags)  # fmt: skip


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_what_a_unit_of_a_feature_writes_is_what_decoding_adds(flags):
    sae = flagged(**flags)
    x = torch.randn(5, 128, generator=torch.Generator().manual_seed(2))
    a = sae.encode(x)
    for f in (0, 9):
        more = a.clone()
        more[:, f] += 1
        added = sae.decode(more, x) - sae.decode(a, x)
        assert torch.allclose(added, sae.gain(x) * sae.written[f], atol=1e-4)


@pytest.mark.parametrize("flags", [FLAGS["lengths before"], FLAGS["lengths after"], FLAGS["scaled"]])
def test_a_dictionary_in_other_units_steers_attributes_and_describes_alike(model, task, flags):
    """Folded into plain weights it is the same function: so is what is done with it."""
    from cutaway.features.attribution import attribute_features
    from cutaway.features.effects import measured_effects

    one = flagged(**flags)
    two = one.plain()
    found = [controllability(model, sae, task, 3, multiples=(0.0, 2.0), unit=1.0) for sae in (one, two)]
    assert np.allclose([e.value for e in found[0].metric], [e.value for e in found[1].metric], atol=1e-3)
    assert np.allclose(found[0].kl, found[1].kl, rtol=1e-2, atol=1e-5)
    ours, theirs = (attribute_features(model, sae, task, top=4) for sae in (one, two))
    for a, b in zip(ours.rows, theirs.rows):
        assert a.feature == b.feature
        assert a.attribution == pytest.approx(b.attribution, rel=1e-2, abs=1e-4)
        assert a.effect.value == pytest.approx(b.effect.value, rel=1e-2, abs=1e-4)
    ids = torch.as_tensor(task.clean.ids)[:4, :8]
    at, peak = torch.arange(16) + 5, torch.full((16,), 5.0)
    kl = [measured_effects(model, sae, ids, at, peak, str, seed=0)["effect"] for sae in (one, two)]
    assert np.allclose(kl[0], kl[1], rtol=1e-2, atol=1e-5)
    assert max(kl[0]) > 1e-4
