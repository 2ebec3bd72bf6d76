"""Towers of every kind are seen through alike, and what is no picture is refused."""

from __future__ import annotations

import pytest
import torch
from vision.vision_case import SIDE, coloured, huggingface_clip, seer, small_clip, towers_of_every_kind

import cutaway as cw
from cutaway.core import InputError
from cutaway.model.families import tiny
from cutaway.vision import card, look, rerandomised, survey, word_pictures
from cutaway.vision.units import activations, units_of


@pytest.mark.parametrize("kind", ["vit", "resnet", "convnext"])
def test_a_classifier_of_any_kind(kind: str) -> None:
    net = towers_of_every_kind()[kind]
    tower = look(net, side=32)
    images = coloured(2, side=32).images
    with torch.no_grad():
        assert torch.allclose(tower.embedding(images), net(images).logits, atol=1e-5)
    values = activations(tower, images, tower.point)
    assert values.shape == (6, units_of(tower, tower.point))
    changed = tower.scores(images, tower.classes, [cw.zero(tower.point, neuron=0)])
    assert changed.shape == (6, 3)


def test_huggingface_clips_own_features() -> None:
    clip = huggingface_clip()
    tower = look(clip)
    images = coloured(2, side=16).images
    with torch.no_grad():
        wanted = clip.get_image_features(images)
        wanted = getattr(wanted, "pooler_output", wanted)
    assert torch.allclose(tower.embedding(images), wanted, atol=1e-5)
    assert tower.point == "mlp_act.1"
    assert units_of(tower, "mlp_act.1") == 64
    assert tower.texts is None  # no tokenizer was given
    with pytest.raises(InputError, match="a CLIP needs a tokenizer"):
        tower.scores(images, ["red"])
    changed = tower.embedding(images, [cw.zero("mlp_act.1", neuron=3)])
    assert not torch.allclose(changed, wanted, atol=1e-6)


def test_a_tower_that_names_nothing_has_cards_all_the_same() -> None:
    tower, seen = look(huggingface_clip()), coloured(8, side=16)
    found = survey(tower, seen, word_pictures(["red", "blue"], 6, 16), permutations=2)
    made = card(found, 3)
    assert len(made.evidence) == 1
    assert made.captions == ()


def test_normalisation_is_the_towers() -> None:
    net = towers_of_every_kind()["resnet"]
    net.image_mean, net.image_std = (0.5, 0.4, 0.3), (0.2, 0.2, 0.25)  # type: ignore[assignment]
    tower = look(net, side=32)
    images = coloured(1, side=32).images
    pixels = tower.pixels(images)
    assert torch.allclose(pixels[:, 2], (images[:, 2] - 0.3) / 0.25)


def test_zero_shot_is_the_cosine_with_captions() -> None:
    tower = small_clip()
    images = coloured(2).images
    scores = tower.scores(images, ["red", "blue"])
    image = torch.nn.functional.normalize(tower.embedding(images), dim=-1)
    assert torch.allclose(scores, tower.scale * image @ tower.targets(["red", "blue"]).T, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8), "floats .* in 0 … 1; given torch.uint8"),
        (torch.zeros(3, SIDE, SIDE), r"given \[3, 24, 24\]"),
        (torch.zeros(1, 1, SIDE, SIDE), r"given \[1, 1, 24, 24\]"),
        (torch.full((1, 3, SIDE, SIDE), float("nan")), "NaN"),
        (torch.full((1, 3, SIDE, SIDE), 128.0), "Divide bytes by 255"),
        (torch.zeros(1, 3, 20, 20), "sees 24 x 24 pictures; given 20 x 20"),
        ("a cat", "given str"),
    ],
)
def test_what_is_no_picture_is_refused(given: object, why: str) -> None:
    with pytest.raises(InputError, match=f"(?s){why}"):
        seer().see(given)  # type: ignore[arg-type]


def test_a_model_without_a_vision_tower_says_so() -> None:
    with pytest.raises(InputError, match="has no vision tower"):
        look("almanac")
    with pytest.raises(InputError, match="has no vision tower: it reads tokens"):
        look(tiny("gpt2"))
    with pytest.raises(InputError, match=r"no vision model './nowhere'"):
        look("./nowhere")


def test_an_unknown_size_and_an_unknown_class_are_errors() -> None:
    with pytest.raises(InputError, match=r"size of picture .* is not known"):
        look(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten()))
    with pytest.raises(InputError, match="has no class pink; its classes: red, green, blue"):
        seer().scores(coloured(1).images, ["pink"])
    with pytest.raises(InputError, match="no neurons"):
        units_of(look(towers_of_every_kind()["vit"]), "resid_post.1")


def test_the_null_learned_nothing_and_fires_as_much() -> None:
    tower, images = small_clip(), coloured().images
    null = rerandomised(tower, 0, images)
    assert torch.equal(rerandomised(tower, 0, images).model.hf.convs[1][0].weight, null.model.hf.convs[1][0].weight)
    for name in ("path.convs.0.0", "path.pooled"):
        mine, theirs = (t.see(images, [name])[name] for t in (tower, null))
        axes = (0, 2, 3) if mine.ndim == 4 else (0,)
        assert torch.allclose(mine.mean(axes), theirs.mean(axes), atol=1e-3)
        assert torch.allclose(mine.std(axes), theirs.std(axes), rtol=1e-2, atol=1e-4)
    a, b = (t.model.hf.convs[1][0].weight.flatten() for t in (tower, null))
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 0.15
    bare = rerandomised(tower)
    kernel = bare.model.hf.convs[1][0].weight
    assert float(kernel.std()) == pytest.approx(float(tower.model.hf.convs[1][0].weight.std()), rel=0.15)
