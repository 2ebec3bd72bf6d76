"""AUROC of units and concepts, the count of multimodal units and its null."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from vision.vision_case import COLOURS, SIDE, coloured, seer, small_clip

from cutaway.core import InputError
from cutaway.vision import Pictures, multimodality, selectivity, word_pictures
from cutaway.vision import selectivity as _front
from cutaway.vision.selectivity import _permuted, _split, aurocs
from cutaway.vision.survey import rating


@pytest.mark.parametrize("seed", range(4))
def test_aurocs_are_scikit_learns_ties_included(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 5, (60, 7)).astype(float) if seed % 2 else rng.normal(size=(60, 7))
    shows = rng.random((60, 3)) < 0.3
    found = aurocs(values, shows)
    for unit in range(7):
        for concept in range(3):
            assert found[unit, concept] == pytest.approx(roc_auc_score(shows[:, concept], values[:, unit]))


def test_a_concept_that_all_or_none_show_has_no_auroc() -> None:
    shows = np.stack([np.ones(10, bool), np.zeros(10, bool), np.arange(10) < 5], 1)
    found = aurocs(np.random.default_rng(0).normal(size=(10, 2)), shows)
    assert np.isnan(found[:, :2]).all()
    assert np.isfinite(found[:, 2]).all()


def test_permuted_labels_pass_hardly_ever_and_a_planted_unit_always() -> None:
    rng = np.random.default_rng(0)
    shows = np.eye(8, dtype=bool)[rng.integers(0, 8, 240)]
    noise = rng.normal(size=(240, 300))
    noise[:, 0] = shows[:, 3] + 0.1 * rng.normal(size=240)
    half = _split(shows, 0)
    parts = [(noise, shows, half), (noise, shows, half)]
    assert _permuted(parts, 0.9, 40, 0).sum() == 0  # 300 units x 8 concepts x 40 permutations
    assert aurocs(noise[~half], shows[~half])[0].argmax() == 3


def test_halves_hold_each_combination_alike() -> None:
    shows = np.random.default_rng(0).random((200, 3)) < 0.4
    half = _split(shows, 0)
    _, group = np.unique(shows, axis=0, return_inverse=True)
    for g in range(group.max() + 1):
        assert abs(int(half[group.ravel() == g].sum()) * 2 - int((group == g).sum())) <= 1


def test_the_count_has_its_nulls_beside() -> None:
    words = word_pictures(list(COLOURS), 8, SIDE)
    found = selectivity(small_clip(), coloured(), words, permutations=20)
    assert found.pictures.shape == (16, 3)
    other = selectivity(small_clip(), coloured(seed=5), words, permutations=2)
    evidence = multimodality(found, [other])
    assert [n.estimate.name for n in evidence.nulls] == ["labels permuted", other.tower]
    assert evidence.effect.n == 16
    assert evidence.verdict == "not distinguishable from null"  # it is the same tower
    assert str(found)


def test_a_map_and_its_largest_value_are_units() -> None:
    found = selectivity(seer(), coloured(), word_pictures(list(COLOURS), 8, SIDE), "path.map", permutations=2)
    assert len(found.chosen) == 6


def test_no_concept_in_common_and_too_few_pictures_are_errors() -> None:
    words = word_pictures(["cat", "dog"], 8, SIDE)
    with pytest.raises(InputError, match="no concept in common"):
        selectivity(seer(), coloured(), words, "path.map")
    with pytest.raises(InputError, match="needs four pictures with and without"):
        selectivity(seer(), coloured(2), word_pictures(list(COLOURS), 8, SIDE), "path.map")
    assert _front is selectivity


def test_ratings_follow_their_rule() -> None:
    labels = [("red",)] * 30 + [("blue",)] * 30 + [(f"w{i}",) for i in range(40)]
    rank = np.arange(100, 0, -1).astype(float)
    assert rating(rank, labels) == "one concept"
    two = rank.copy()
    two[10:30], two[30:40] = -1, 95
    assert rating(two, labels) == "two concepts"
    assert rating(rank[::-1].copy(), labels) == "none"


def test_pictures_without_the_word_say_so() -> None:
    with pytest.raises(InputError, match="3 pictures came with 2 labels"):
        Pictures(torch.zeros(3, 3, 8, 8), (("a",), ("b",)))
