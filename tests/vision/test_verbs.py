"""`cutaway neurons`, `visualise`, `attack` as a user meets them, on a module of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from vision.vision_case import SIDE, coloured

from cutaway import cli
from cutaway.features.sae import SAE
from cutaway.vision import to_png

NET = f"""
import torch
from torch import nn


class Net(nn.Module):
    image_size = {SIDE}
    classes = ("red", "green", "blue")

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer1 = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())

    def forward(self, x):
        return x.mean((2, 3)) + 0.01 * self.layer1(x).mean((2, 3))[:, :3]


def make():
    return Net()


def words():
    return nn.Embedding(5, 4)
"""


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    (tmp_path / "net.py").write_text(NET)
    seen = coloured(8)
    for i, (image, names) in enumerate(zip(seen.images, seen.labels)):
        to_png(image, tmp_path / "pictures" / names[0] / f"{i}.png")
    return ["--module", f"{tmp_path / 'net.py'}:make", "--pictures", str(tmp_path / "pictures")]


def test_neurons_gives_one_object_and_cards(own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert (
        cli.run(["neurons", *own, "--unit", "1", "--sums", "red,blue", "--cards", "2", "--json", "--out", str(out)])
        == 0
    )
    body = json.loads(capsys.readouterr().out)
    assert body["schema"] == "cutaway.neurons/1"
    assert body["selectivity"]["n"]["units"] == 6
    assert body["cards"][0]["unit"] == 1
    assert [s["label"] for s in body["sums"]["sums"]] == ["red", "blue"]
    assert len(body["evidence"]) == 2
    assert {"neurons.json", "evidence.json", "result.txt", "manifest.json"} <= {f.name for f in out.iterdir()}
    assert {f.name for f in (out / "cards" / "0001").iterdir()} == {"card.json", "card.txt", "top.png", "words.png"}


def test_visualise_has_the_null_below(own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "seen"
    arguments = [
        "visualise",
        "path.layer1",
        *own,
        "--unit",
        "2",
        "--steps",
        "8",
        "--n",
        "2",
        "--json",
        "--out",
        str(out),
    ]
    assert cli.run(arguments) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["null"]["model"].startswith("Net re-randomised")
    assert body["evidence"][0]["nulls"]
    from PIL import Image

    with Image.open(out / "visualisation.png") as image:
        assert image.size == (8 * (2 * (SIDE + 2) - 2), 8 * (2 * (SIDE + 2) - 2))


def _direction(place: Path) -> list[str]:
    save_file({"direction": torch.eye(6)[2]}, place / "axis.safetensors")
    return ["--direction", str(place / "axis.safetensors")]


def _feature(place: Path) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    encode, decode = torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    SAE("relu", encode, torch.zeros(4), decode, torch.zeros(6), point="path.layer1").save(place / "sae")
    return ["--dictionary", str(place / "sae"), "--feature", "1"]


# what is shown -> (the options, the objective that the result names)
SHOWN: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "a name": (lambda _: ["--says", "red"], "says red"),
    "a direction": (_direction, "direction axis at path.layer1"),
    "a feature": (_feature, "feature 1 at path.layer1"),
    "phases alone": (lambda _: ["--unit", "2", "--method", "maco"], "path.layer1 unit 2"),
    "unlike": (lambda _: ["--unit", "2", "--diversity", "0.5"], "0.5 diversity at path.layer1"),
    "from pictures": (lambda _: ["--unit", "2", "--start", "pictures"], "path.layer1 unit 2"),
    "towards a facet": (
        lambda _: ["--says", "red", "--facet", "blue", "--facet-at", "path.layer1"],
        "says red, faceted at path.layer1",
    ),
}


@pytest.mark.parametrize("what", SHOWN)
def test_whatever_can_be_shown(what: str, own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, named = SHOWN[what][0](tmp_path), SHOWN[what][1]
    code = cli.run(
        ["visualise", "path.layer1", *own, *options, "--steps", "3", "--n", "2", "--json", "--out", str(tmp_path / "o")]
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    body = json.loads(said.out)
    assert named in body["objective"]
    assert body["method"] == ("maco" if what == "phases alone" else "fourier")
    assert len(body["trained"]["reached"]) == len(body["null"]["reached"]) == 2
    assert (body["start"] is not None) == (what == "from pictures")
    assert (tmp_path / "o" / "shaded.png").is_file()
    assert (tmp_path / "o" / "start-1.png").is_file() == (what == "from pictures")


def test_attack_stands_beside_gibberish(own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["attack", *own, "--sizes", "6,8", "--json", "--out", str(tmp_path / "a")]) == 0
    body = json.loads(capsys.readouterr().out)
    assert [row["size"] for row in body["rates"]] == [6, 8]
    assert body["evidence"][0]["nulls"][0]["estimate"]["name"] == "gibberish of equal ink"
    assert (tmp_path / "a" / "examples.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["neurons", "almanac"], "has no vision tower"),
        (["neurons", "./nowhere"], "no vision model"),
        (["attack", "primer", "--pictures", "nowhere"], "no folder of pictures"),
        (["attack", "primer", "--sizes", "big"], "--sizes are numbers"),
        (["attack", "primer", "--sizes", "8,900"], "letters of 900 px are larger than a picture of 48 x 48"),
        (["visualise", "primer", "--says", "banana"], "no word in this model's captions 'banana'"),
        (["visualise", "primer", "--unit", "1", "--facet", "outline"], "--facet needs --facet-at"),
        (
            ["visualise", "primer", "--unit", "1", "--facet", "sepia", "--facet-at", "path.convs.2"],
            "facets here: filled",
        ),
        (["visualise", "primer", "--unit", "1", "--start", "afar"], "noise or pictures"),
        (["visualise", "primer"], "say what to show"),
        (["visualise", "primer", "--unit", "1", "--says", "red"], "say what to show"),
        (["visualise", "primer", "--unit", "1", "--method", "magic"], "fourier or maco"),
        (["neurons", "primer", "--cards", "3"], "give --out"),
    ],
)
def test_wrong_use_ends_with_two(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    assert why in capsys.readouterr().err


def test_a_folder_without_pictures(own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert cli.run(["attack", *own[:2], "--pictures", str(tmp_path / "empty")]) == 2
    assert "holds no pictures" in capsys.readouterr().err
    assert cli.run(["attack", *own[:2]]) == 2
    assert "comes without pictures" in capsys.readouterr().err
