"""The small model of indirect objects: its text, its shape, tied weights on disk, the folder that ships."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

import cutaway as cw
from cutaway.core import InputError
from cutaway.core.registry import model_examples
from cutaway.organisms import ship_organism, train_organism
from cutaway.organisms.almanac import card, text, train
from cutaway.organisms.almanac.behaviours import CATALOGUE, behaviours_in
from cutaway.organisms.almanac.recipe import IOI, RECIPES
from cutaway.tasks.small_world.vocabulary import BOS, token_ids

TINY = dataclasses.replace(
    IOI, layers=1, d_model=16, heads=2, head_width=4, d_mlp=16, steps=4, batch_rows=4, warmup=1, compile=False
)


def test_its_text_holds_indirect_objects_and_no_sums():
    rows = text.chunk(0, 0, mixture="ioi")
    ids = token_ids()
    assert not (rows == ids["▁="]).any() if "▁=" in ids else not (rows == ids["="]).any()
    documents = (rows == ids[BOS]).sum()
    assert documents > 1000
    assert np.array_equal(rows, text.chunk(0, 0, mixture="ioi"))
    assert not np.array_equal(rows, text.chunk(0, 1, mixture="ioi"))
    shares = {name: share for name, (_, share) in text.IOI_MIXTURE.items()}
    assert max(shares, key=lambda name: shares[name]) == "indirect_object"


def test_a_mixture_is_examined_on_what_it_holds():
    assert "indirect_object" in behaviours_in("ioi")
    assert {"antonym_english", "antonym_french", "antonym_spanish"} <= set(behaviours_in("ioi"))
    assert "addition" not in behaviours_in("ioi")
    assert set(behaviours_in("almanac")) == set(CATALOGUE)


def test_it_has_sixteen_heads_or_more_and_three_of_it_fit_in_four_megabytes():
    parameters = sum(p.numel() for p in train.new_model(IOI).parameters())
    assert IOI.layers * IOI.heads >= 16
    assert 3 * (2 * parameters + 60_000) < 4_000_000
    assert RECIPES["ioi"] is IOI


@pytest.mark.parametrize(("tied", "context"), [(False, 128), (True, 64)])
def test_a_run_ends_bit_equal_after_a_stop_tied_or_not(tied, context, tmp_path, monkeypatch):
    recipe = dataclasses.replace(TINY, tied=tied, context=context)
    straight = train.train(recipe, tmp_path / "straight", exam_every=0)
    monkeypatch.setattr(train, "STATE_EVERY_S", 0)

    class Killed(Exception):
        pass

    calls = iter(range(10))

    def loss_then_death(model, tokens, real=train.loss_of):
        if next(calls) == 2:
            raise Killed
        return real(model, tokens)

    with monkeypatch.context() as m:
        m.setattr(train, "loss_of", loss_then_death)
        with pytest.raises(Killed):
            train.train(recipe, tmp_path / "stopped", exam_every=0)
    train.train(recipe, tmp_path / "stopped", exam_every=0)
    a, b = (card.load_half(folder).state_dict() for folder in (straight, tmp_path / "stopped"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    rows = np.load(straight / "text.npy")
    assert rows.shape == (recipe.steps * recipe.batch_rows, context)


def test_what_ships_is_half_precision_with_its_accuracies(tmp_path):
    run = train.train(TINY, tmp_path / "run", exam_every=0)
    below = ship_organism(run, tmp_path / "ioi-0")
    assert "indirect_object" in below  # four steps teach nothing
    card_text = (tmp_path / "ioi-0" / "README.md").read_text()
    assert "# ioi-0" in card_text
    assert "| indirect_object |" in card_text
    assert "| addition |" not in card_text
    measured = json.loads((tmp_path / "ioi-0" / "behaviours.json").read_text())
    assert {row["behaviour"] for row in measured} == set(behaviours_in("ioi"))
    with pytest.raises(InputError, match="no finished run"):
        ship_organism(tmp_path, tmp_path / "nothing")


def test_the_command_knows_it(tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "ioi", TINY)
    report = train_organism("ioi", tmp_path / "run", steps=1, threads=1)
    assert {row["behaviour"] for row in report["behaviours"]} == set(behaviours_in("ioi"))


@pytest.mark.parametrize("name", ["ioi-0", "ioi-1", "ioi-2"])
def test_the_prompts_it_offers_are_of_its_text_and_it_answers_them(name):
    model = cw.load(name)
    offered = model_examples(model.folder)
    assert offered == card.examples(model.hf, "ioi")["prompts"]
    assert offered[0]["behaviour"] == "indirect object"
    assert "two hops" not in {one["behaviour"] for one in offered}
