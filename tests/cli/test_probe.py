"""`cutaway probe` as a user meets it."""

import json
import random
from pathlib import Path

import pytest

from cutaway import cli
from cutaway.study import read_manifest

GIRLS, BOYS = ("Mary", "Anna", "Alice", "Helen"), ("John", "Paul", "Tom", "Adam")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = random.Random(0)
    rows = ["text,label,place"]
    for i in range(80):
        place = rng.choice(["shop", "park", "school", "farm"])
        rows.append(f"{rng.choice(GIRLS if i % 2 else BOYS)} went to the {place},{'girl' if i % 2 else 'boy'},{place}")
    path = tmp_path / "names.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_probes_with_their_controls(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "s"
    arguments = ["probe", str(data), "--at", "resid_pre.0,resid_post.1", "--k", "1,4", "--json", "--out", str(out)]
    assert cli.run(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "cutaway.probe/1"
    assert [row["point"] for row in result["sweep"]] == ["resid_pre.0", "resid_post.1"]
    assert [row["k"] for row in result["sparse"]] == [1, 4]
    assert all(row["untrained"] and row["control"] for row in result["sweep"])
    assert len(result["evidence"]) == 2
    assert {"result.json", "tensors.safetensors"} <= set(read_manifest(out).files)


def test_features_are_probed_at_the_layers_that_a_dictionary_reads(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["probe", str(data), "--dictionary", "plt", "--at", "mlp_in.1", "--quick"]) == 0
    text = capsys.readouterr().out
    assert "mlp_in.1 *" in text
    assert "the activations themselves" in text


def test_a_group_stays_on_one_side(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["probe", str(data), "--group-column", "place", "--at", "resid_post.0", "--quick"]) == 0
    assert "chance 0.500" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--label-column", "tag"], "no column in names.csv 'tag'"),
        (["--at", "resid_post.9"], "no layer 9"),
        (["--at", "attn_probs.1"], "one vector a position"),
        (["--at", "resid_post.1", "--k", "500"], "from 1 to 128"),
        (["--k", "two"], "whole numbers"),
        (["--k", "0"], "from 1 on"),
        (["--where", "middle"], "no place to read"),
        (["--dictionary", "cltt"], "clt"),
        (["--dictionary", "plt", "--at", "resid_post.1"], "names none"),
        (["--at", " , "], "no point"),
    ],
)
def test_bad_input_is_one_clear_message(
    data: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["probe", str(data), *arguments]) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.csv").write_text("text,label\n" + "a cat,x\n" * 9)
    (tmp_path / "none.csv").write_text("")
    for name, says in (("one.csv", "one class"), ("none.csv", "is empty"), ("absent.csv", "no file")):
        assert cli.run(["probe", str(tmp_path / name)]) == 2
        assert says in capsys.readouterr().err
