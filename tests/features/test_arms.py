"""Rules tell token detectors from context, dictionaries train on rows, and the arms show what Heap et al. found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import cutaway as cw
from cutaway.core import InputError
from cutaway.evidence import explained_variance
from cutaway.features import DictionarySettings, TrainSettings, arm_study, fit_rows
from cutaway.features.rules import contexts, fit_rules


def run_of(*names, tokens=64 * 40, **more):
    made = tuple(
        DictionarySettings(name=n, kind="sae", at="resid_post.1", features=24, l0=3, dead_after=500, **more)
        for n in names
    )
    return TrainSettings(dictionaries=made, tokens=tokens, batch=64)


def test_a_token_detector_a_bigram_detector_and_noise_are_told_apart():
    g = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 12, (400, 20), generator=g)
    tokens, previous, row = contexts(rows, torch.ones_like(rows, dtype=torch.bool))
    fires = torch.stack(
        [tokens == 3, (tokens == 3) & (previous == 5), torch.rand(len(tokens), generator=g) < 0.2, tokens < 0], 1
    )
    found = fit_rules(tokens, previous, fires, row % 2 == 0)
    assert found.token[0] == pytest.approx(1)
    assert found.gain[0] == pytest.approx(0, abs=1e-9)
    assert found.token[1] < 0.97
    assert found.pair[1] == pytest.approx(1)
    assert abs(found.token[2] - 0.5) < 0.03
    assert abs(found.pair[2] - 0.5) < 0.05
    assert np.isnan(found.token[3])
    assert found.entropy[0] == pytest.approx(0, abs=1e-9)
    assert found.entropy[2] == pytest.approx(np.log(12), abs=0.02)
    assert previous[0] == -1


def test_a_rule_needs_texts_to_learn_on_and_others_to_be_scored_on():
    tokens = torch.arange(6)
    with pytest.raises(InputError, match="both are needed"):
        fit_rules(tokens, tokens, torch.ones(6, 2, dtype=torch.bool), torch.ones(6, dtype=torch.bool))
    with pytest.raises(InputError, match="one row a position"):
        fit_rules(tokens, tokens, torch.ones(5, 2, dtype=torch.bool), torch.ones(6, dtype=torch.bool))


def test_rows_train_a_dictionary_the_same_alone_and_among_others():
    g = torch.Generator().manual_seed(1)
    truth = torch.nn.functional.normalize(torch.randn(16, 8, generator=g), dim=1)
    a = torch.rand(2000, 16, generator=g) * (torch.rand(2000, 16, generator=g) < 0.1)
    x = a @ truth + 2
    both = fit_rows(x, run_of("a", "b"))
    alone = fit_rows(x, run_of("b"))["b"]
    assert torch.equal(both["b"].W_enc, alone.W_enc)
    assert explained_variance(x, alone.reconstruct(x)[0]) > 0.7
    assert alone.point == "resid_post.1"
    assert alone.output_point is None
    assert alone.training["rows"]["n"] == 2000
    through = fit_rows(x, run_of("t"), y=x[:, :4] * 3)["t"]
    assert through.decode(through.encode(x)).shape == (2000, 4)


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (torch.ones(50, 4), "same for every token"),
        (torch.full((50, 4), float("nan")), "NaN"),
        (torch.ones(50), r"rows \[n, d\]"),
    ],
)
def test_rows_that_teach_nothing_are_named(x, told):
    with pytest.raises(InputError, match=told):
        fit_rows(x, run_of("a"))


def test_transcoder_sets_are_no_rows():
    with pytest.raises(InputError, match="kind sae"):
        fit_rows(torch.randn(50, 4), TrainSettings(dictionaries=(DictionarySettings(name="p", kind="plt"),)))


@pytest.mark.slow
def test_what_is_safe_to_assert_of_the_five_arms():
    """Heap et al. at the size of the shipped model: without token identity there is nothing to tell; with it, random
    networks have features that their token tells; only the trained one has features that need the token before."""
    from cutaway.organisms.dictionaries import text_rows

    model = cw.load("almanac")
    learn, score = text_rows(model, (), rows=150, seed=0, held_out_tokens=4000)
    made = tuple(
        DictionarySettings(name=p, kind="sae", at=p, features=128, l0=8, dead_after=10_000)
        for p in ("resid_post.0", "resid_post.2")
    )
    study = arm_study(model, learn, score, TrainSettings(dictionaries=made, tokens=12_000, batch=512), seeds=(0,))
    randoms = ("rerandomised_excl", "rerandomised_incl", "step0")
    for point in ("resid_post.0", "resid_post.2"):
        control = study.of("control", point).auroc.value
        assert abs(control - 0.5) <= 0.02
    first = {name: study.of(name, "resid_post.0").auroc.value for name in ("trained", "control", *randoms)}
    for name in randoms:
        assert first[name] >= first["control"] + 0.25
        assert abs(first[name] - first["trained"]) < abs(first[name] - first["control"])
    gains = {name: study.of(name, "resid_post.2").gain.value for name in ("trained", "control", *randoms)}
    assert gains["trained"] > 0.01
    assert all(gains[name] < 0.01 for name in ("control", *randoms))
    # A Gaussian has nothing but its covariance: a dictionary of noise explains as much as its floor.
    assert abs(study.of("control", "resid_post.0").excess.value) < 0.05
    assert study.of("trained", "resid_post.2").excess.value > 0.1
    assert "after token" in str(study)
    assert study.to_json()["rows"][0]["per_seed"][0]["seed"] == 0


def test_the_arms_refuse_what_they_cannot_do(model, rows):
    with pytest.raises(InputError, match="at least two"):
        arm_study(model, rows, rows[:1], run_of("a"))
    sets = TrainSettings(dictionaries=(DictionarySettings(name="p", kind="plt"),))
    with pytest.raises(InputError, match="one point"):
        arm_study(model, rows, rows, sets)
