"""The trainer on a tiny recipe: it learns, it resumes to the bit, and what it writes loads."""

import dataclasses
import json

import pytest
import torch

from cutaway.organisms import measure_organism, train_organism
from cutaway.organisms.almanac import card, train
from cutaway.organisms.almanac.recipe import ALMANAC, ONE_LAYER, Recipe

TINY = Recipe(layers=1, d_model=16, heads=2, d_mlp=32, steps=8, batch_rows=4, warmup=2, checkpoints=20, compile=False)


def weights(folder) -> dict[str, torch.Tensor]:
    return card.load_half(folder).state_dict()


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run from start to end."""
    return train.train(TINY, tmp_path_factory.mktemp("straight"), exam_every=0)


def test_a_killed_run_ends_bit_equal(straight, tmp_path, monkeypatch) -> None:
    class Killed(Exception):
        pass

    calls = iter(range(100))

    def loss_then_death(model, tokens, real=train.loss_of):
        if next(calls) == 5:
            raise Killed
        return real(model, tokens)

    monkeypatch.setattr(train, "STATE_EVERY_S", 0)
    with monkeypatch.context() as m:
        m.setattr(train, "loss_of", loss_then_death)
        with pytest.raises(Killed):
            train.train(TINY, tmp_path, exam_every=0)
    assert not (tmp_path / "config.json").exists()  # no whole model yet
    train.train(TINY, tmp_path, exam_every=0)
    resumed = weights(tmp_path)
    for name, tensor in weights(straight).items():
        assert torch.equal(tensor, resumed[name]), name


def test_checkpoints_hold_the_states_of_the_run(straight) -> None:
    steps = [int(f.name.removeprefix("step-")) for f in sorted((straight / "checkpoints").iterdir())]
    assert steps == list(range(9))
    first, last = weights(straight / "checkpoints/step-000000"), weights(straight / "checkpoints/step-000008")
    untrained = train.new_model(TINY).state_dict()
    assert all(torch.equal(first[k], v.half().float()) for k, v in untrained.items())
    assert all(torch.equal(last[k], v.half().float()) for k, v in weights(straight).items())


def test_a_state_of_another_recipe_is_refused(straight) -> None:
    other = dataclasses.replace(TINY, matrix_rate=1e-5)
    with pytest.raises(ValueError, match="another recipe"):
        train.train(other, straight, exam_every=0)
    train.train(TINY, straight, exam_every=0)  # puts the folder right again


def test_the_folder_is_a_hugging_face_model(straight) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(straight), AutoTokenizer.from_pretrained(straight)
    assert model.dtype == torch.float32
    out = model.generate(**tokenizer("the capital of Texas is", return_tensors="pt"), max_new_tokens=3, do_sample=False)
    assert out.shape[1] >= 7
    halves = AutoModelForCausalLM.from_pretrained(straight / "checkpoints/step-000008")
    assert halves.dtype == torch.float32  # stored in float16, computed with in float32


def test_ship_writes_a_card_with_every_behaviour(straight, tmp_path) -> None:
    scores = card.ship(straight, tmp_path / "almanac", n=20, checkpoints=4)
    text = (tmp_path / "almanac" / "README.md").read_text()
    assert all(f"| {s.behaviour} | {s.accuracy:.3f} |" in text for s in scores)
    assert "Below their target: addition" in text
    assert len(list((tmp_path / "almanac" / "checkpoints").iterdir())) == 4
    assert json.loads((tmp_path / "almanac" / "behaviours.json").read_text())[0]["n"] == 20


def test_a_small_model_learns(tmp_path) -> None:
    """Forty steps take the loss from that of guessing evenly (ln 1873 = 7.5) towards that of the frequencies."""
    recipe = dataclasses.replace(TINY, steps=40, d_model=32, checkpoints=2, other_rate=1e-2)
    train.train(recipe, tmp_path, exam_every=0)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] < 7.6
    assert losses[-1] < 6.0


def test_rate_warms_up_holds_and_falls_to_zero() -> None:
    rates = [ALMANAC.rate(s) for s in range(ALMANAC.steps)]
    assert rates[0] == 1 / ALMANAC.warmup
    assert rates[ALMANAC.warmup] == 1.0
    assert rates[round(ALMANAC.hold * ALMANAC.steps) - 1] == 1.0
    assert 0 < rates[-1] < 1e-5
    assert all(a >= b for a, b in zip(rates[ALMANAC.warmup :], rates[ALMANAC.warmup + 1 :]))


@pytest.mark.parametrize("recipe", [ALMANAC, ONE_LAYER])
def test_a_hundred_checkpoints_evenly_in_the_logarithm(recipe: Recipe) -> None:
    steps = recipe.checkpoint_steps()
    assert len(steps) >= 100
    assert steps[0] == 0
    assert steps[-1] == recipe.steps
    assert steps == sorted(set(steps))
    shipped = card.log_spaced(steps, 12)
    assert (len(shipped), shipped[0], shipped[-1]) == (12, 0, recipe.steps)


def test_parameters_of_the_shipped_shapes() -> None:
    assert 1.3e6 < sum(p.numel() for p in train.new_model(ALMANAC).parameters()) < 1.7e6
    with pytest.raises(ValueError, match="almanac-1l"):
        train_organism("almanack", "nowhere")


def test_measuring_gives_an_interval_for_each_behaviour(straight) -> None:
    rows = measure_organism(card.load_half(straight), n=20)
    for row in rows:
        low, high = row["interval"]
        assert 0 <= low <= row["accuracy"] <= high <= 1
        assert row["n"] == 20


def test_another_tokenizer_is_refused(straight) -> None:
    class Other:
        def get_vocab(self):
            return {"a": 0}

    from cutaway.organisms.almanac.behaviours import measure_behaviours

    with pytest.raises(ValueError, match="not almanac's"):
        measure_behaviours(card.load_half(straight), Other())
