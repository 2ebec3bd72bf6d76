"""Crosscoders find which features sources share: planted truth, folding, files, and a model beside itself."""

from __future__ import annotations

import pytest
import torch
from features.tiny import tiny_llama

from cutaway.core import InputError
from cutaway.evidence import explained_variance
from cutaway.features import DictionarySettings, TrainSettings, load
from cutaway.features.crosscoder import OWN, Crosscoder, diff_models, fit_crosscoder, span_layers


def settings(features, l0, tokens, **more):
    one = DictionarySettings(name="x", kind="sae", at="resid_post.1", features=features, l0=l0, dead_after=2000, **more)
    return TrainSettings(dictionaries=(one,), tokens=tokens, batch=128)


@pytest.fixture(scope="module")
def planted():
    """Six features in both sources, three in each alone; the second source is ten times as large and lies elsewhere."""
    g = torch.Generator().manual_seed(0)
    a = (1 + torch.rand(5000, 12, generator=g)) * (torch.rand(5000, 12, generator=g) < 0.12)
    first, second = (torch.linalg.qr(torch.randn(16, 12, generator=g)).Q.T.clone() for _ in "ab")
    first[9:], second[6:9] = 0, 0
    x = {"first": a @ first, "second": 10 * (a @ second) + 7}
    return x, first, second


@pytest.fixture(scope="module")
def made(planted):
    return fit_crosscoder(planted[0], settings(16, 2, 40_000))


def test_shared_and_exclusive_features_are_told_apart(planted, made):
    x, first, second = planted
    back = made.decode(made.encode(x))
    for name in x:
        assert back[name].shape == x[name].shape
        assert explained_variance(x[name], back[name]) > 0.8
    unit = torch.nn.functional.normalize
    shares = made.shares[:, 1]
    for i in range(12):
        direction = torch.cat([first[i], second[i]])
        joint = torch.cat([made.decoder("first"), made.decoder("second") / 10], 1)
        f = int((unit(joint, dim=1) @ unit(direction, dim=0)).argmax())
        expected = 0.5 if i < 6 else 0.0 if i < 9 else 1.0
        assert float(shares[f]) == pytest.approx(expected, abs=0.2), i
    assert (made.shares > OWN).any(0).tolist() == [True, True]


def test_it_is_saved_as_a_dictionary_and_read_back(planted, made, tmp_path):
    made.as_sae().save(tmp_path)
    again = Crosscoder.of(load(tmp_path))
    some = {name: x[:50] for name, x in planted[0].items()}
    torch.testing.assert_close(again.encode(some), made.encode(some))
    for name, y in again.decode(again.encode(some)).items():
        torch.testing.assert_close(y, made.decode(made.encode(some))[name])
    with pytest.raises(InputError, match="no crosscoder"):
        Crosscoder.of(made.joint)


def test_a_model_beside_itself_shares_everything_and_beside_a_random_one_little(rows):
    model = tiny_llama()
    _, same = diff_models(model, model, rows, "resid_post.1", settings(48, 4, 12_000))
    assert same.own == (0, 0)
    assert same.evidence.verdict == "not distinguishable from null"
    _, other = diff_models(model, tiny_llama(seed=9), rows, "resid_post.1", settings(48, 4, 12_000))
    assert sum(other.histogram) == other.n_features
    spread = sum(n for i, n in enumerate(other.histogram) if i not in (4, 5))
    assert spread > sum(n for i, n in enumerate(same.histogram) if i not in (4, 5))
    assert "alone" in str(other)
    assert other.to_json()["schema"] == "cutaway.model_diff/1"


def test_layers_are_spanned_beside_tokens_that_do_not_go_together(rows):
    made, found = span_layers(tiny_llama(), rows, ["resid_post.0", "resid_post.1"], settings(24, 4, 16_000))
    assert found.names == made.names == ("resid_post.0", "resid_post.1")
    for name in found.names:  # what goes together takes fewer features to explain
        assert found.explained[name] > found.explained_null[name]
    assert sum(found.own) <= found.n_features
    assert sum(found.mean_share) == pytest.approx(1)
    assert found.evidence.nulls[0].estimate.n > 0
    assert "tokens do not go together" in str(found)


def test_sources_that_do_not_go_together_are_named(planted, made):
    x, *_ = planted
    run = settings(8, 2, 1000)
    with pytest.raises(InputError, match="two sources"):
        fit_crosscoder({"a": x["first"]}, run)
    with pytest.raises(InputError, match="one number of rows"):
        fit_crosscoder({"a": x["first"], "b": x["second"][:9]}, run)
    with pytest.raises(InputError, match="same for every token"):
        fit_crosscoder({"a": x["first"], "b": torch.ones(5000, 3)}, run)
    with pytest.raises(InputError, match="NaN"):
        fit_crosscoder({"a": x["first"], "b": torch.full((5000, 3), float("nan"))}, run)
    with pytest.raises(InputError, match="second is missing"):
        made.encode({"first": x["first"]})
    with pytest.raises(InputError, match="no source 'third'"):
        made.decoder("third")
