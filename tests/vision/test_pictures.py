"""Pictures from folders and strips, and what is wrong with some."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from vision.vision_case import COLOURS, coloured

from cutaway.core import InputError
from cutaway.vision import read_pictures, sheet, to_png, word_pictures


def _folder(root: Path) -> Path:
    seen = coloured(3)
    for i, (image, names) in enumerate(zip(seen.images, seen.labels)):
        to_png(image, root / names[0] / f"{i}.png")
    return root


def test_a_folder_a_class(tmp_path: Path) -> None:
    found = read_pictures(_folder(tmp_path), 24)
    assert sorted(found.concepts) == sorted(COLOURS)
    wanted = {names: image for image, names in zip(coloured(3).images[::3], coloured(3).labels[::3])}
    first = found.labels.index(("red",))
    assert torch.allclose(found.images[first], wanted[("red",)], atol=1 / 255)


def test_a_table_with_several_labels(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "labels.csv").write_text("file,labels\nred/0.png,red;square\n")
    found = read_pictures(folder, 12)
    assert found.labels == (("red", "square"),)
    assert found.images.shape == (1, 3, 12, 12)


def test_a_strip(tmp_path: Path) -> None:
    images = coloured(1).images
    to_png(sheet([list(images)], gap=0), tmp_path / "strip.png")
    (tmp_path / "strip-labels.csv").write_text("0\n1\n2\n")
    found = read_pictures(tmp_path / "strip.png", 24)
    assert found.labels == (("0",), ("1",), ("2",))
    assert torch.allclose(found.images, images, atol=1 / 255)
    (tmp_path / "strip-labels.csv").write_text("0\n1\n2\n1\n")
    with pytest.warns(UserWarning, match="3 pictures, strip-labels.csv 4 rows"):
        assert read_pictures(tmp_path / "strip.png", 24).labels == found.labels
    (tmp_path / "strip-labels.csv").write_text("0\n1\n")
    with pytest.raises(InputError, match="no strip of 2 squares"):
        read_pictures(tmp_path / "strip.png", 24)


def test_other_shapes_are_cut_square(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    Image.new("RGBA", (60, 30), (200, 10, 10, 255)).save(tmp_path / "cat" / "wide.png")
    found = read_pictures(tmp_path, 16)
    assert found.images.shape == (1, 3, 16, 16)
    assert float(found.images[0, 0].min()) > 0.75


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder of pictures"):
        read_pictures(tmp_path / "none", 24)
    with pytest.raises(InputError, match="holds no pictures"):
        read_pictures(tmp_path, 24)
    to_png(coloured(1).images[0], tmp_path / "loose.png")
    with pytest.raises(InputError, match="pictures without labels"):
        read_pictures(tmp_path, 24)
    with pytest.raises(InputError, match=r"loose-labels.csv beside it"):
        read_pictures(tmp_path / "loose.png", 24)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "not.png").write_text("no picture")
    with pytest.raises(InputError, match=r"not.png is no picture"):
        read_pictures(tmp_path, 24)


def test_words_are_drawn_from_the_seed() -> None:
    a, b, c = (word_pictures(["red", "blue"], 3, 32, seed) for seed in (0, 0, 1))
    assert torch.equal(a.images, b.images)
    assert not torch.equal(a.images, c.images)
    assert set(a.facets) == {"word"}
    with pytest.raises(InputError, match="does not fit"):
        word_pictures(["circumference"], 1, 16)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (b"file,label\nred/0.png\n", r"labels.csv, line 2: file,label expected; given 'red/0.png'"),
        (b"file,label\nred/0.png,red\nred/1.png, \n", "labels.csv, line 3"),
        (b"file,label\n", "holds no rows of labels"),
        (b"\xff\xfe\x00 no table", "no table of labels that can be read"),
        (b"file,label\nnowhere.png,red\n", "no file .*nowhere.png"),
        (b"file,label\nlabels.csv,red\n", "labels.csv is no picture"),
    ],
)
def test_a_malformed_table_is_named_with_its_line(tmp_path: Path, table: bytes, why: str) -> None:
    folder = _folder(tmp_path)
    (folder / "labels.csv").write_bytes(table)
    with pytest.raises(InputError, match=why):
        read_pictures(folder, 12)


def test_a_picture_cut_short_and_one_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path)
    whole = (folder / "red" / "0.png").read_bytes()
    (folder / "red" / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"0.png is no picture that can be read"):
        read_pictures(folder, 12)
    (folder / "red" / "0.png").write_bytes(whole)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow refuses twice as many: a bomb
    with pytest.raises(InputError, match=r"is no picture that can be read: .*exceeds limit"):
        read_pictures(folder, 12)


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/x.png", ".."])
def test_a_table_names_pictures_of_its_own_folder(name: str, tmp_path: Path) -> None:
    inside = tmp_path / "in"
    to_png(coloured(1).images[0], tmp_path / "x.png")
    to_png(coloured(1).images[0], inside / "a" / "x.png")
    (inside / "labels.csv").write_text(f"file,label\na/../a/x.png,red\n{name},red\n")
    with pytest.raises(InputError, match="outside its own folder"):
        read_pictures(inside, 24)
