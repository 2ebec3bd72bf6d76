"""Descriptions: what is stored is what was measured, found again by text, likeness and effect; cards and labels."""

from __future__ import annotations

import json

import pytest
import torch

import cutaway as cw
from cutaway.core import InputError, UnknownName
from cutaway.features import (
    DictionarySettings,
    TrainSettings,
    describe,
    load_descriptions,
    save_descriptions,
    search_features,
    train,
)
from cutaway.features.card_text import card_text


@pytest.fixture(scope="module")
def sae(model, rows):
    run = TrainSettings(
        dictionaries=(DictionarySettings(name="x", kind="sae", at="resid_post.0", features=24, l0=3),),
        tokens=64 * 60, batch=64, block=600,
    )  # fmt: skip
    return train(model, rows, run, quiet=True)["x"]


@pytest.fixture(scope="module")
def described(model, sae, rows):
    return describe(model, sae, rows, seeds=[sae], narrower=sae, wider=sae)


@pytest.fixture(scope="module")
def folder(described, tmp_path_factory):
    return save_descriptions(described, tmp_path_factory.mktemp("d") / "described")


def test_what_is_said_of_a_feature_is_so(model, sae, rows, described):
    x = model.run(rows.long(), read=["resid_post.0"])["resid_post.0"][:, 1:].flatten(0, 1)
    a = sae.encode(x)
    for f in range(24):
        assert described.features["fired"][f] == int((a[:, f] > 0).sum())
        assert described.features["maximum"][f] == pytest.approx(float(a[:, f].max()), abs=1e-4)
        assert sum(described.features["histogram"][f]) == described.features["fired"][f]
    # Itself is its own seed partner, parent and child.
    assert described.features["seed_partner"] == described.features["parent"] == list(range(24))
    assert described.features["children"] == [[f] for f in range(24)]
    assert f not in described.features["nearest"][f]


def test_the_effect_of_taking_out_is_that_of_an_intervention(model, sae, rows, described):
    x = model.run(rows.long(), read=["resid_post.0"])["resid_post.0"]
    a = sae.encode(x)
    a[:, 0] = 0
    alive = [f for f in range(24) if described.features["fired"][f]]
    for f in alive[:3]:
        r, p = divmod(int(a[..., f].flatten().argmax()), rows.shape[1])
        ids = rows[r : r + 1].long()
        out = cw.add("resid_post.0", -float(a[r, p, f]) * sae.W_dec[f], positions=p)
        clean, changed = (
            run.logits[0, p].log_softmax(-1) for run in (model.run(ids), model.run(ids, interventions=[out]))
        )
        kl = float((clean.exp() * (clean - changed)).sum())
        assert described.features["effect"][f] == pytest.approx(kl, abs=1e-4)


def test_a_span_of_one_is_told_by_the_token_alone(model, described, sae, rows):
    for f in range(24):
        if described.features["span"][f] == 1:
            x = model.run(rows.long(), read=["resid_post.0"])["resid_post.0"]
            a = sae.encode(x)[..., f]
            a[:, 0] = 0
            r, p = divmod(int(a.flatten().argmax()), rows.shape[1])
            if p == 0:
                continue
            short = torch.tensor([[int(rows[r, 0]), int(rows[r, p])]])
            again = sae.encode(model.run(short, read=["resid_post.0"])["resid_post.0"])[0, -1, f]
            assert p == 1 or float(again) >= float(a[r, p]) / 2 - 1e-4


def test_what_is_written_is_read_again_and_an_altered_file_is_named(described, folder, tmp_path):
    found = load_descriptions(folder)
    assert found.about == described.about
    assert found.examples == described.examples
    assert found.features["top_logits"] == described.features["top_logits"]
    assert found.features["children"] == described.features["children"]
    again = save_descriptions(found, tmp_path / "again")
    path = again / "examples.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="altered or cut short"):
        load_descriptions(again)
    with pytest.raises(InputError, match="holds no descriptions"):
        search_features(tmp_path, "x")


def test_search_by_text_likeness_and_order(described, folder):
    everything = search_features(folder, by="frequency", limit=100)
    shares = [row["frequency"] for row in everything.rows]
    assert shares == sorted(shares, reverse=True)
    assert everything.total == sum(f > 0 for f in described.features["fired"])
    near = search_features(folder, like=3, limit=3)
    assert [row["feature"] for row in near.rows] == described.features["nearest"][3][:3] or near.total < 24
    word = described.examples[0]["tokens"][0]
    assert any(
        row["feature"] == described.examples[0]["feature"] for row in search_features(folder, word, limit=100).rows
    )
    assert search_features(folder, "no such text %").rows == ()
    assert "no feature" in str(search_features(folder, "no such text %"))
    with pytest.raises(UnknownName, match="effect"):
        search_features(folder, by="efect")
    with pytest.raises(InputError, match="no feature 99"):
        search_features(folder, like=99)


def test_a_card_is_json_and_reads_as_text(described):
    card = described.card(0)
    assert json.loads(json.dumps(card))["schema"] == "cutaway.feature_card/1"
    assert "decoder" not in card
    told = card_text(card)
    assert "random direction" in told or not card["fired"]
    assert "feature 0" in told
    with pytest.raises(InputError, match="no feature 24"):
        described.card(24)


def test_quick_leaves_effects_out(model, sae, rows):
    found = describe(model, sae, rows[:20], effects=False)
    assert found.features["effect"] == [None] * 24
    assert found.card(1)["span"] is None
    assert isinstance(str(found), str)


def test_a_dictionary_that_never_fires_is_named(model, sae, rows):
    with pytest.raises(InputError, match="no feature of this dictionary fires"):
        describe(model, sae.with_(b_enc=sae.b_enc - 1e6), rows)
