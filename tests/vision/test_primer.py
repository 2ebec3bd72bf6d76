"""The small CLIP that ships, its twin, and the trainer that makes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import cutaway as cw
from cutaway.core import InputError
from cutaway.core.registry import shipped_models
from cutaway.organisms.primer import NAMES
from cutaway.organisms.primer.concepts import CONCEPTS, SUBJECTS, Content
from cutaway.organisms.primer.model import folded
from cutaway.organisms.primer.scenes import TEXTLESS, Mix, Painter
from cutaway.organisms.primer.train import Recipe, contrastive, new_model, scene_batch, train
from cutaway.organisms.primer.world import world_pictures, world_words
from cutaway.vision import attack, look, selectivity

TINY = Recipe(steps=3, late_steps=2, batch=6, pool=2)


def test_it_ships_in_half_precision_and_is_small() -> None:
    sizes = 0
    for name in NAMES:
        folder = shipped_models()[name]
        sizes += sum(f.stat().st_size for f in folder.iterdir())
        with safe_open(folder / "model.safetensors", "pt") as file:
            assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118
    assert sizes < 6_000_000


def test_primer_has_neurons_for_pictures_and_words_and_its_twin_has_none() -> None:
    pictures, words = world_pictures(400, seed=7), world_words(12, seed=7)
    found, twin = (selectivity(look(name), pictures, words, permutations=5) for name in NAMES)
    assert len(found.multimodal) >= 6
    assert found.permuted.max() == 0
    assert len(twin.multimodal) == 0


def test_words_fool_primer_more_than_gibberish_and_than_the_twin() -> None:
    seen = world_pictures(140, seed=7, subjects=True)
    found = attack(look(NAMES[0]), seen, SUBJECTS, sizes=[13], twins=[look(NAMES[1])])
    (row,) = found.rates
    assert found.accuracy[0][1].value > 0.8
    assert row.fooled.interval is not None
    assert row.fooled.interval.low > 2 * row.fooled_by_gibberish.value
    assert row.fooled.interval.low > 2 * row.twins[0].value


def test_one_tower_at_a_time_in_the_model_layer() -> None:
    with pytest.raises(InputError, match="two towers"):
        cw.load(NAMES[0])
    model = cw.load(NAMES[0], tower="vision")
    images = world_pictures(2).images
    assert torch.equal(model.run(images).logits, look(NAMES[0]).see(images).logits)


def test_folding_batch_norms_changes_nothing() -> None:
    model = new_model(TINY)
    images = scene_batch(Painter(0, 2), TINY)[0]
    model.vision_model(images)  # running statistics
    model.eval()
    with torch.no_grad():
        assert torch.allclose(folded(model).get_image_features(images), model.get_image_features(images), atol=1e-4)


def test_a_killed_training_run_goes_on_bit_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutaway.organisms.primer.train.STATE_EVERY", 1)
    whole = train(TINY, tmp_path / "whole").state_dict()
    calls = iter(range(100))

    def killed(*given: object) -> object:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return scene_batch(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("cutaway.organisms.primer.train.scene_batch", killed)
        with pytest.raises(KeyboardInterrupt):
            train(TINY, tmp_path / "again")
    again = train(TINY, tmp_path / "again").state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_equal_captions_share_their_target() -> None:
    same = contrastive(torch.zeros(4, 4), ["a", "a", "b", "b"])
    assert float(same) == pytest.approx(np.log(4), rel=1e-5)
    block = torch.block_diag(torch.ones(2, 2), torch.ones(2, 2)) * 50
    assert float(contrastive(block, ["a", "a", "b", "b"])) == pytest.approx(np.log(2), rel=1e-4)
    assert float(contrastive(block, ["a", "b", "c", "d"])) > float(contrastive(block, ["a", "a", "b", "b"])) - 1e-6


def test_the_twins_pictures_have_no_letters_and_words_are_captioned() -> None:
    painter = Painter(1, 3)
    assert all(painter.training_scene(TEXTLESS).word == "" for _ in range(60))
    for _ in range(40):
        scene = painter.training_scene(Mix(word=0, both=1, noise_word=0))
        assert scene.word in scene.content.names
        assert scene.word in scene.caption.replace(",", " ").split()
    for _ in range(20):
        assert painter.training_scene(Mix(word=0, both=0, noise_word=1)).word not in CONCEPTS
        poster = painter.training_scene(Mix(word=0, both=0, noise_word=0, poster=1))
        assert poster.word in poster.caption.split()


def test_pictures_are_pictures() -> None:
    painter = Painter(2, 2)
    for content in (Content("fish", "red", "dots"), Content("", "blue", "waves"), Content("", "green", "")):
        scene = painter.picture_scene(content)
        assert scene.image.shape == (3, 48, 48)
        assert 0 <= scene.image.min() <= scene.image.max() <= 1
    assert replace(TINY, textless=True).total == 3
    assert TINY.total == 5
