"""Texts as vectors for scikit-learn, and the table of what classifies them, the rows that win included."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import cutaway as cw
from cutaway.core import InputError
from cutaway.features import SAE, FeatureEmbedding
from cutaway.features.classify import BOOSTED, NULLS, OURS, REGIMES, _balance, _boosted, _linear, classify_table


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr("cutaway.features.classify.DRAWS", 1)
    monkeypatch.setattr("cutaway.features.classify._AE_STEPS", 40)


@pytest.fixture(scope="module")
def almanac():
    return cw.load("almanac")


@pytest.fixture(scope="module")
def sae(almanac):
    """Signed coordinates of the residual stream, as a dictionary: deterministic, and informative."""
    eye = torch.eye(128)
    W = torch.cat([eye, -eye])
    return SAE(
        rule="topk", k=16, W_enc=W, b_enc=torch.zeros(256), W_dec=W, b_dec=torch.zeros(128), point="resid_post.1"
    )


def texts(n=60):
    sea = [
        f"Mr Reed saw a wave by the boat . He {v} with the {x} ."
        for v in ("swam", "rowed")
        for x in ("sailor", "shell")
    ]
    farm = [
        f"Mr Reed saw a cow by the barn . He {v} with the {x} ." for v in ("plowed", "milked") for x in ("hen", "horse")
    ]
    both = [(t, "sea") for t in sea] + [(t, "farm") for t in farm]
    return [both[i % 8][0] for i in range(n)], [both[i % 8][1] for i in range(n)]


def test_pooling_is_over_a_texts_own_tokens_whatever_stands_beside_it(almanac, sae):
    given = ["Mr Reed saw a wave .", "He swam with the sailor by the boat and slept .", "wave"]
    for pool in ("max", "mean", "last"):
        found = FeatureEmbedding(almanac, sae, pool=pool).transform(given)
        assert found.shape == (3, 256)
        assert found.dtype == np.float32
        for i, text in enumerate(given):
            ids = torch.tensor([almanac.tokenizer(text)["input_ids"]])
            a = sae.encode(almanac.run(ids, read=["resid_post.1"])["resid_post.1"])[0, 1:]
            expected = {"max": a.max(0).values, "mean": a.mean(0), "last": a[-1]}[pool]
            np.testing.assert_allclose(found[i], expected.numpy(), rtol=1e-4, atol=1e-4)
    assert FeatureEmbedding(almanac, point="resid_post.1").transform(given).shape == (3, 128)


def test_it_is_a_scikit_learn_transformer(almanac, sae):
    given, labels = texts(16)
    embedding = FeatureEmbedding(almanac, sae)
    assert clone(embedding).get_params()["pool"] == "max"
    pipeline = make_pipeline(embedding, LogisticRegression(max_iter=500)).fit(given, labels)
    assert pipeline.score(given, labels) == 1
    pipeline.set_params(featureembedding__pool="mean")
    assert pipeline.fit(given, labels).score(given, labels) == 1


@pytest.mark.parametrize(
    ("change", "given", "told"),
    [
        ({"pool": "median"}, ["a"], "max, mean or last"),
        ({}, [], "at least one"),
        ({}, "one text", "sequence of strings"),
        ({"dictionary": None}, ["a"], "which point"),
    ],
)
def test_wrong_use_is_named(almanac, sae, change, given, told):
    with pytest.raises(InputError, match=told):
        FeatureEmbedding(almanac, **{"dictionary": sae, **change}).transform(given)


def test_balanced_weights_make_the_mean_balanced_accuracy():
    truth = np.array([0] * 8 + [1] * 2)
    right = np.array([1.0] * 8 + [0.0] * 2)
    assert (right * _balance(truth)).mean() == pytest.approx(0.5)
    assert _balance(truth).mean() == pytest.approx(1)


def test_the_table_holds_every_row_and_column_and_says_who_wins(almanac, sae):
    given, labels = texts(60)
    # The words alone tell these topics: nothing can beat TF-IDF, and the table says so.
    table = classify_table(almanac, sae, given, labels, few=3)
    assert set(table.accuracy) >= {OURS, "hidden state, mean", "TF-IDF", "PCA", "dense autoencoder", *NULLS}
    assert set(table.accuracy) >= {OURS + BOOSTED, "hidden state, mean" + BOOSTED}
    # Another classifier of the features is no baseline of theirs.
    assert OURS + BOOSTED not in {c.estimate.name for c in table.evidence[0].baselines}
    for row in table.accuracy.values():
        assert set(row) == set(REGIMES)
        assert all(0 <= one.value <= 1 + 1e-9 for one in row.values())
    assert table.accuracy["TF-IDF"]["plentiful"].value == 1
    assert len(table.evidence) == 4
    assert {c.estimate.name for c in table.evidence[0].nulls} == set(NULLS)
    told = str(table)
    assert "chance 0.500" in told
    assert "*" in told
    assert json.loads(json.dumps(table.to_json()))["schema"] == "cutaway.classify/1"


def test_boosted_trees_tell_what_no_linear_classifier_can():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6))
    y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(int)
    learn, test = slice(0, 300), slice(300, 400)
    assert (_boosted(x[learn], y[learn], x[test]) == y[test]).mean() > 0.85
    assert (_linear(x[learn], y[learn], x[test]) == y[test]).mean() < 0.7


def test_labels_without_meaning_are_at_chance(almanac, sae):
    given, _ = texts(80)
    rng = np.random.default_rng(0)
    table = classify_table(almanac, sae, [f"{t} {'cow' if i % 2 else 'hen'}" for i, t in enumerate(given)],
                           [str(v) for v in rng.integers(0, 2, 80)], few=5)  # fmt: skip
    assert table.accuracy[OURS]["plentiful"].value < 0.85
    assert table.evidence[0].verdict != "distinguishable from null"


def test_too_few_texts_and_unknown_labels_are_refused(almanac, sae):
    given, labels = texts(16)
    with pytest.raises(InputError, match="at least 40"):
        classify_table(almanac, sae, given, labels, few=20)
    with pytest.raises(InputError, match="one label a text"):
        classify_table(almanac, sae, given, labels[:-1])
    with pytest.raises(InputError, match="the others do not: snow"):
        classify_table(almanac, sae, *texts(60), few=3, shifted=(["snow ."], ["snow"]))
