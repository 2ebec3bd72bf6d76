"""`cutaway heads` as a user meets it."""

import json
from pathlib import Path

import pytest

from cutaway import cli
from cutaway.study import read_manifest


def test_almanacs_induction_heads_are_named_beside_their_null(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "heads",
        "--quick",
        "--json",
        "--out",
        str(tmp_path / "s"),
        "--circuit",
        "OV:2.1",
        "--tokens-of",
        "Mary",
    ]
    assert cli.run(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "cutaway.heads/1"
    assert "2.1" in result["found"]["prefix matching"]
    assert result["composition"]["scores"]["K"]
    assert result["circuit"]["kind"] == "OV"
    assert len(result["evidence"]) == 7
    assert all(item["nulls"] for item in result["evidence"])
    assert read_manifest(tmp_path / "s").kind == "heads"


def test_one_layer_has_none_and_nothing_to_compose(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["heads", "--model", "almanac-1l", "--quick"]) == 0
    printed = capsys.readouterr()
    assert "one layer" in printed.err
    induces = printed.out[printed.out.index("an induction head") :]
    assert "not distinguishable from null" in induces


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--circuit", "OV:9.1", "--tokens-of", "Mary"], "no head 9.1"),
        (["--circuit", "AB:1.1", "--tokens-of", "Mary"], "OV:2.1"),
        (["--circuit", "OV:1.1"], "go together"),
        (["--tokens", "100"], "do not fit"),
        (["--sequences", "1"], "--sequences"),
    ],
)
def test_bad_input_is_one_clear_message(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["heads", *arguments]) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.out == ""
