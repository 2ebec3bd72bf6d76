"""Words laid on pictures: nothing changes without letters, a reader is fooled, one that does not look is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from vision.vision_case import COLOURS, SIDE, coloured, seer, small_clip

from cutaway.core import InputError
from cutaway.vision import Label, attack, look, put, stroop
from cutaway.vision.attack import planned
from cutaway.vision.lettering import alike, fitting_size, word_mask


class Reader(nn.Module):
    """Sees colours, but says a name wherever its letters (8 px, black on white) stand: a matched filter."""

    image_size = 40
    classes = ("red", "blue")

    def __init__(self) -> None:
        super().__init__()
        self.blank = nn.Parameter(torch.zeros(1))
        self.masks = [torch.from_numpy(word_mask(name, 8).copy()) for name in self.classes]

    def forward(self, x: Tensor) -> Tensor:
        said = []
        for mask in self.masks:
            # The squared distance of each window from the word's own picture.
            grey, word = x.mean(1, keepdim=True), 1 - mask[None, None]
            apart = F.conv2d(grey**2, torch.ones_like(word)) - 2 * F.conv2d(grey, word) + word.square().sum()
            said.append((apart.amin((1, 2, 3)) < 0.1).float())
        colour = x[:, [0, 2]].mean((2, 3))
        return colour + 100 * torch.stack(said, 1) + self.blank


class Blind(Reader):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.ones(len(x)), torch.zeros(len(x))], 1) + self.blank


def _two_colours(n: int = 10) -> object:
    seen = coloured(n, side=40)
    return seen.take([i for i, names in enumerate(seen.labels) if names[0] != "green"])


def test_an_empty_text_changes_nothing() -> None:
    image = coloured(1).images[0]
    assert torch.equal(put(image, Label("", 8, 3, 3)), image)
    before = image.clone()
    assert not torch.equal(put(image, Label("red", 8, 3, 3)), image)
    assert torch.equal(image, before)


def test_letters_beyond_the_edge_are_cut() -> None:
    image = coloured(1).images[0]
    for top, left in ((-5, 3), (SIDE - 3, 3), (3, -9), (3, SIDE - 2), (200, 200)):
        out = put(image, Label("red", 8, top, left))
        assert out.shape == image.shape
        assert torch.isfinite(out).all()


def test_a_reader_is_fooled_and_gibberish_is_not_what_does_it() -> None:
    found = attack(look(Reader()), _two_colours(), sizes=[8], seed=1)  # type: ignore[arg-type]
    (row,) = found.rates
    assert row.fooled.n == 20
    assert row.fooled.value == 1
    assert row.fooled_by_gibberish.value < 0.2
    assert found.evidence[0].verdict == "distinguishable from null"


def test_who_does_not_look_is_not_fooled() -> None:
    found = attack(look(Blind()), _two_colours(), sizes=[8], twins=[look(Reader())])  # type: ignore[arg-type]
    (row,) = found.rates
    assert row.fooled.n == 10  # those that are red
    assert row.fooled.value == row.changed.value == row.changed_by_gibberish.value == 0
    assert row.twins[0].value == 1
    assert found.evidence[0].verdict == "worse than null"
    assert str(found)


def test_gibberish_is_alike_and_no_name() -> None:
    rng = np.random.default_rng(0)
    for word in ("circle", "sun", "house"):
        text = alike(word, 12, rng, frozenset(["sun", "house"]))
        assert len(text) == len(word)
        assert text not in ("circle", "sun", "house")
        a, b = word_mask(word, 12), word_mask(text, 12)
        assert abs(b.sum() / a.sum() - 1) < 0.25


def test_the_written_name_is_another_one_and_fits() -> None:
    names = tuple(COLOURS)
    for truth, laid in zip([0, 1, 2] * 20, planned([0, 1, 2] * 20, names, 9, SIDE, 0)):
        assert laid.target != truth
        assert laid.word.text == names[laid.target]
        height, width = word_mask(laid.word.text, laid.word.size).shape
        assert laid.word.top + height <= SIDE
        assert laid.word.left + width <= SIDE


def test_sizes_are_the_largest_that_fit() -> None:
    size = fitting_size("green", 20, 20, 30)
    assert word_mask("green", size).shape[1] <= 20 < word_mask("green", size + 1).shape[1]


def test_a_linear_probe_is_attacked_too() -> None:
    found = attack(seer(), coloured(), sizes=[6], train=coloured(seed=3))
    assert [row.classifier for row in found.rates] == ["its classes", "linear probe"]
    assert found.accuracy[1][1].value > 0.9


def test_stroop_counts_words_and_inks() -> None:
    evidence = stroop(small_clip(), tuple(COLOURS), each=4)
    assert evidence.effect.n == 24
    assert evidence.effect.value + evidence.baselines[0].estimate.value <= 1


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda: attack(seer(), coloured(), ["red"]), "needs two names|shows green: none of red"),
        (lambda: attack(seer(), coloured(), ["cat", "dog"]), "shows red: none of cat, dog"),
        (lambda: stroop(small_clip(), ["red", "ultraviolet"]), "colours or more of red"),
        (lambda: word_mask("", 8), "no ink"),
        (lambda: word_mask("rød", 8), "printable ASCII"),
        (lambda: word_mask("red", 3), "5 pixels or more"),
        (lambda: fitting_size("circumference", 12, 12, 20), "does not fit into 12 x 12"),
    ],
)
def test_wrong_use_is_named(wrong: object, why: str) -> None:
    with pytest.raises(InputError, match=why):
        wrong()  # type: ignore[operator]


def test_names_that_do_not_fit_are_written_smaller_and_said() -> None:
    tower, seen = seer(), coloured(4)
    size = fitting_size("red", SIDE - 2, SIDE - 2, 40)
    found = attack(tower, seen, sizes=(size,))
    assert dict(found.smaller) == {size: ("green", "blue")}
    assert f"at {size} px written smaller, to fit: green, blue" in str(found)
    with pytest.raises(InputError, match=f"'red' fits up to {size} px"):
        attack(tower, seen, sizes=(size + 1,))
