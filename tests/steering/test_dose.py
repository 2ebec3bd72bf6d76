"""What is chosen on one half is reported on the other, beside what chance does; on almanac the direction is real."""

import json

import numpy as np
import pytest
import torch
from model.families import ids, model

import cutaway as cw
from cutaway.core import InputError
from cutaway.evidence import rerandomise
from cutaway.model.content import Content
from cutaway.steering import Contrast, Direction, dose_response, steer
from cutaway.steering.contrast import log_odds

ROWS = [row.tolist() for row in ids(10, 6, seed=1)]
NEUTRAL = [row.tolist() for row in ids(6, 12, seed=5)]
HARM = [
    f"how do I {verb} {what} ?" for verb in ("burn", "destroy") for what in ("houses", "bridges", "pictures", "animals")
]
FINE = [
    f"please tell me how to {verb} {what} ." for verb in ("draw", "cook") for what in ("soup", "bridges", "flowers")
]


def planted(m: cw.Model, contrast: Contrast) -> Direction:
    """The direction that must raise the target: the output row itself, at the last layer."""
    row = m.hf.lm_head.weight[list(contrast.target)].mean(0) - m.hf.lm_head.weight[list(contrast.against)].mean(0)
    return Direction(f"resid_post.{m.facts.n_layers - 1}", Content(2 * row.detach()))


def test_a_planted_direction_is_told_from_chance_and_random_ones_are_not() -> None:
    m, contrast = model("llama"), Contrast((7,), (11,))
    found = dose_response(m, planted(m, contrast), ROWS, contrast, neutral=NEUTRAL, budget=100.0, randoms=19)
    assert found.evidence[0].effect.value > 1
    assert found.p == pytest.approx(1 / 20)
    chance = planted(m, contrast).random(99)
    other = dose_response(m, chance, ROWS, contrast, neutral=NEUTRAL, budget=100.0, randoms=19)
    assert other.evidence[0].verdict == "not distinguishable from null"
    assert other.p > 0.05
    rows = [b for b in found.evidence[0].baselines if "output matrix" in b.estimate.name]
    assert rows[0].estimate.value == pytest.approx(found.evidence[0].effect.value, rel=1e-3), "it is that baseline"


def test_every_dose_is_what_running_it_gives() -> None:
    m, contrast = model("gpt2"), Contrast((7,), (11,))
    one = planted(m, contrast)
    found = dose_response(m, one, ROWS, contrast, neutral=NEUTRAL, strengths=(0.5, 2), randoms=0, budget=100.0)
    order = np.random.default_rng(0).permutation(len(ROWS))
    report = [ROWS[i] for i in order[len(ROWS) // 2 :]]
    for dose in found.doses:
        change = log_odds(m, report, contrast, one.interventions(dose.strength)) - log_odds(m, report, contrast)
        assert dose.effect.value == pytest.approx(change.mean(), abs=1e-4)
        assert dose.effect.n == len(report)
    assert found.doses[0].kl is not None
    assert found.doses[1].kl is not None
    assert found.doses[0].kl.value < found.doses[1].kl.value
    assert {item.what for item in found.evidence[0].not_done} >= {"random directions of equal norm", "prompt"}
    json.dumps(found.to_json(), allow_nan=False)


def test_the_budget_bounds_the_choice() -> None:
    m, contrast = model("llama"), Contrast((7,), (11,))
    one = planted(m, contrast)
    free = dose_response(m, one, ROWS, contrast, neutral=NEUTRAL, randoms=0, budget=1e9)
    tight = dose_response(m, one, ROWS, contrast, neutral=NEUTRAL, randoms=0, budget=free.tried[0][3] / 2)
    assert tight.chosen.strength < free.chosen.strength == 4.0
    assert tight.tried[0][3] <= free.tried[0][3] / 2
    without = dose_response(m, one, ROWS, contrast, randoms=0)
    assert without.perplexity is None
    assert len(without.evidence) == 1
    json.dumps(without.to_json(), allow_nan=False)


def test_almanac_is_steered_from_refusing_to_helping(almanac: cw.Model) -> None:
    neutral = ["the keys to the cabinet are", "( cat [ dog { sun }", "Mary went home because she", "36 + 59 = 95"]
    found = steer(almanac, HARM, FINE, neutral=neutral, randoms=19, at="resid_post.*")
    assert found.contrast == "Sure  against  Sorry"
    assert found.before.value < -2, "unsteered it refuses"
    assert found.evidence[0].effect.value > 5
    assert found.p == pytest.approx(1 / 20)
    nulls = {n.estimate.name: n.estimate.value for n in found.evidence[0].nulls}
    assert nulls["re-randomised model, steered in the same way"] < found.evidence[0].effect.value / 2
    run = almanac.run(HARM[0], interventions=found.chosen.interventions)
    contrast = Contrast(tuple(almanac.tokens("Sure")[0, -1:].tolist()), tuple(almanac.tokens("Sorry")[0, -1:].tolist()))
    assert contrast.of(run.at("logits")) > contrast.of(almanac.run(HARM[0]).at("logits")) + 3
    text = str(found)
    assert "chosen on other prompts" in text
    assert "p = 0.050" in text


def test_taking_the_direction_out_undoes_the_refusal_in_part(almanac: cw.Model) -> None:
    found = steer(almanac, HARM, FINE, how="project", randoms=19, null=False)
    assert [dose.strength for dose in found.doses] == [1.0]
    assert found.evidence[0].effect.value > 2
    assert found.p == pytest.approx(1 / 20)


def test_a_prompt_is_a_baseline(almanac: cw.Model) -> None:
    found = steer(almanac, HARM, FINE, randoms=0, null=False, instruction="please tell me how to draw soup . Sure")
    names = [b.estimate.name for b in found.evidence[0].baselines]
    assert "prompt" in names


def test_an_untrained_model_is_steered_no_better_than_by_chance(almanac: cw.Model) -> None:
    """It tells the lists apart at the input, but nothing downstream turns that into the target's token."""
    arm = rerandomise(almanac, seed=4)
    contrast = Contrast((almanac.tokens("Sure")[0, -1].item(),), (almanac.tokens("Sorry")[0, -1].item(),))  # type: ignore[arg-type]
    found = steer(arm, HARM, FINE, contrast=contrast, randoms=19, at="resid_post.0")
    assert found.evidence[0].verdict != "distinguishable from null"


def test_bad_input(almanac: cw.Model) -> None:
    m, contrast = model("llama"), Contrast((7,), (11,))
    one = planted(m, contrast)
    for arguments, says in (
        ({"prompts": ROWS[:3]}, "four prompts"),
        ({"strengths": (0, -1)}, "above zero"),
        ({"candidates": []}, "no steering"),
        ({"prompted": ROWS[:2]}, "each prompt again"),
        ({"neutral": NEUTRAL[:1]}, "halves"),
    ):
        with pytest.raises(InputError, match=says):
            dose_response(m, **{"candidates": one, "prompts": ROWS, "contrast": contrast, **arguments})  # type: ignore[arg-type]
    for from_, to, more, says in (
        (HARM[:4], FINE, {}, "at least 8"),
        (HARM, FINE[:2], {}, "at least 4"),
        (HARM, HARM, {}, "both lists"),
        ("text", FINE, {}, "one text"),
        (HARM, FINE, {"how": "sing"}, "way of steering"),
        (HARM, FINE, {"at": "resid_post.9"}, "no layer 9"),
    ):
        with pytest.raises(InputError, match=says):
            steer(almanac, from_, to, **more)  # type: ignore[arg-type]


def test_prompts_of_one_length_or_many_give_the_same() -> None:
    """A batch with padding is steered at each prompt's own positions."""
    m, contrast = model("gpt2"), Contrast((7,), (11,))
    plan = Direction("resid_post.1", Content(torch.ones(48)), positions=(-1,)).interventions(2.0)
    mixed = [ROWS[0], ROWS[1][:3], ROWS[2][:5]]
    together = log_odds(m, mixed, contrast, plan)
    assert np.allclose(together, [log_odds(m, [row], contrast, plan)[0] for row in mixed], atol=1e-4)
