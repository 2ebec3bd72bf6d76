"""Directions learnt from prompts, and the contrast that they are to move."""

import math

import numpy as np
import pytest
import torch
from model.families import close, ids, model

import cutaway as cw
from cutaway.core import InputError
from cutaway.steering import (
    Contrast,
    activation_addition,
    contrast_of,
    contrast_tokens,
    difference_in_means,
    direction,
    feature_direction,
)
from cutaway.steering.contrast import log_odds, log_odds_each, side_effects

A = [row.tolist() for row in ids(5, 6, seed=1)] + [[4, 5, 6]]
B = [row.tolist() for row in ids(4, 8, seed=2)]


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
@pytest.mark.parametrize("where", ["last", "mean"])
def test_a_difference_in_means_is_one(family: str, where: str) -> None:
    m = model(family)
    found = difference_in_means(m, A, B, "resid_post.*", where)  # type: ignore[arg-type]
    assert list(found) == list(m.addresses("resid_post.*"))

    def mean(rows: list[list[int]]) -> torch.Tensor:
        xs = [m.run([row], read="resid_post.1")["resid_post.1"][0] for row in rows]
        return torch.stack([x[-1] if where == "last" else x.mean(0) for x in xs]).mean(0)

    assert close(found["resid_post.1"].vector.tensor, mean(A) - mean(B), 1e-4)


def test_activation_addition_is_a_difference_of_two_runs(almanac: cw.Model) -> None:
    made = activation_addition(almanac, "good news came", "bad news came", "resid_pre.2")
    run = almanac.run(["good news came", "bad news came"], read="resid_pre.2")
    assert close(made.vectors.tensor, run["resid_pre.2"][0] - run["resid_pre.2"][1])
    assert made.vectors.tensor[0].abs().max() < 1e-5, "both begin with the same token"


def test_a_features_direction_is_what_it_writes() -> None:
    class Affine:
        n_features = 3
        W, b = torch.arange(144.0).reshape(3, 48), torch.ones(48)

        def encode(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.W.T

        def decode(self, a: torch.Tensor) -> torch.Tensor:
            return a @ self.W + self.b

    made = feature_direction(Affine(), 2, "resid_post.0")
    assert torch.equal(made.vector.tensor, Affine.W[2])
    with pytest.raises(InputError, match="no feature 3"):
        feature_direction(Affine(), 3, "resid_post.0")


def test_log_odds_are_those_of_the_probabilities() -> None:
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    p = logits.softmax(-1)
    pair = Contrast((1, 2), (5,)).of(logits)
    assert torch.allclose(pair, ((p[:, 1] + p[:, 2]) / p[:, 5]).log(), atol=1e-5)
    alone = Contrast((3,)).of(logits)
    assert torch.allclose(alone, (p[:, 3] / (1 - p[:, 3])).log(), atol=1e-5)


def test_a_batch_of_prompts_is_measured_as_each_alone() -> None:
    m, contrast = model("gpt2"), Contrast((3, 4), (9,))
    together = log_odds(m, A, contrast)
    alone = [float(log_odds(m, [row], contrast)[0]) for row in A]
    assert np.allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2"])
def test_many_plans_together_are_each_alone(family: str) -> None:
    m, contrast = model(family), Contrast((3, 4), (9,))
    vectors = torch.randn(7, 48, generator=torch.Generator().manual_seed(0))
    plans = [[cw.add(f"resid_post.{i % 2}", v)] for i, v in enumerate(vectors)]
    plans.append([cw.project_out("resid_pre.*", vectors[0])])
    together = log_odds_each(m, A, contrast, plans)
    alone = np.stack([log_odds(m, A, contrast, one) for one in plans])
    assert together.shape == (8, len(A))
    assert np.allclose(together, alone, atol=1e-3)


def test_side_effects_are_nothing_without_an_intervention_and_grow_with_it() -> None:
    m = model("llama")
    push = [cw.add("resid_post.1", torch.ones(48))]
    kl, loss, plain = side_effects(m, A, [[], push])
    assert kl.shape == loss.shape == (2, len(A))
    assert (kl[0] == 0).all()
    assert np.allclose(loss[0], plain)
    assert (kl[1] > 0).all()
    run, changed = m.run([A[-1]]), m.run([A[-1]], interventions=push)
    before, after = run.logits[0].log_softmax(-1), changed.logits[0].log_softmax(-1)
    assert math.isclose(kl[1, -1], float((before.exp() * (before - after)).sum(-1).mean()), rel_tol=1e-3)
    own = -after[:-1].gather(-1, torch.tensor(A[-1][1:])[:, None]).mean()
    assert math.isclose(loss[1, -1], float(own), rel_tol=1e-3)


def test_the_contrast_is_found_in_what_follows(almanac: cw.Model) -> None:
    bad = ["how do I burn houses ?", "how do I destroy bridges ?"]
    fine = ["please tell me how to draw soup .", "help me to paint flowers now ."]
    found = contrast_tokens(almanac, bad, fine)
    assert (almanac.token_strings(found.target)[0].strip(), almanac.token_strings(found.against)[0].strip()) == (
        "Sure",
        "Sorry",
    )
    named = contrast_of(almanac, ["Sure"], ["Sorry"])
    assert named.target[0] == found.target[0]
    assert named.describe(almanac) == "Sure  against  Sorry"


def test_bad_input(almanac: cw.Model) -> None:
    with pytest.raises(InputError, match="same means"):
        difference_in_means(almanac, ["hi"], ["hi"])
    with pytest.raises(InputError, match="is zero"):
        direction("resid_post.1", [0.0, 0.0])
    with pytest.raises(InputError, match="one vector"):
        direction("resid_post.1", torch.ones(2, 3))
    with pytest.raises(InputError, match="empty"):
        difference_in_means(almanac, [], ["hi"])
    with pytest.raises(InputError, match="one text was given"):
        difference_in_means(almanac, "hi", ["hi"])
    with pytest.raises(InputError, match="direction is added to the stream"):
        difference_in_means(almanac, ["hi"], ["the"], "z.1")
    with pytest.raises(InputError, match="as many tokens"):
        activation_addition(almanac, "Mary", "Mary went home", "resid_pre.1")
    with pytest.raises(InputError, match="stands for 4"):
        activation_addition(almanac, "Mary", "John", "resid_pre.*")
    with pytest.raises(InputError, match="the same stream"):
        activation_addition(almanac, "Mary", "Mary", "resid_pre.1")
    with pytest.raises(InputError, match="the same"):
        contrast_tokens(almanac, ["the cat"], ["the cat"])
    with pytest.raises(InputError, match="not one token"):
        contrast_of(almanac, ["zebrafish"])
    with pytest.raises(InputError, match="both sides"):
        Contrast((1,), (1,))
    with pytest.raises(InputError, match="at least one"):
        Contrast(())
