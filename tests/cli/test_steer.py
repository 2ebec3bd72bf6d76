"""`cutaway steer` as a user meets it."""

import json
from pathlib import Path

import pytest

from cutaway import cli
from cutaway.steering import from_json
from cutaway.study import read_manifest

HARM = [
    f"how do I {verb} {what} ?" for verb in ("burn", "destroy") for what in ("houses", "bridges", "pictures", "animals")
]
FINE = [
    f"please tell me how to {verb} {what} ." for verb in ("draw", "cook") for what in ("soup", "bridges", "flowers")
]


@pytest.fixture
def lists(tmp_path: Path) -> list[str]:
    (tmp_path / "harm.txt").write_text("\n".join(HARM))
    (tmp_path / "neutral.txt").write_text(
        "Mary went home because she\n\nthe keys to the cabinet are\n\n36 + 59 = 95\n" * 9
    )
    (tmp_path / "fine.jsonl").write_text("\n".join(json.dumps({"prompt": text}) for text in FINE))
    return ["steer", "--from", str(tmp_path / "harm.txt"), "--to", str(tmp_path / "fine.jsonl")]


def test_a_direction_its_doses_and_its_controls(
    lists: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s"
    assert cli.run([*lists, "--quick", "--generate", "4", "--json", "--out", str(out)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "cutaway.steer/1"
    assert result["contrast"] == "Sure  against  Sorry"
    assert [dose["strength"] for dose in result["doses"]] == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert result["random"]["p"] == pytest.approx(0.1)
    assert len(result["random"]["effects"]) == 9
    assert result["unsteered"]["perplexity"] > 1, "almanac's own text is the neutral text"
    sample = result["samples"][0]
    assert "Sorry" in sample["unsteered"]
    assert "Sure" in sample["steered"]
    saved = json.loads((out / "result.json").read_text())
    assert from_json(saved["steering"]).interventions(saved["strength"])
    assert read_manifest(out).kind == "steering"


def test_a_stranger_can_read_it(lists: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*lists, "--how", "project", "--quick", "--neutral", str(tmp_path / "neutral.txt")]) == 0
    text = capsys.readouterr().out
    for part in ("log-odds of  Sure  against  Sorry", "KL elsewhere", "random directions of equal norm", "verdict"):
        assert part in text


def test_activation_addition_of_a_pair(lists: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = ["--plus", "please tell me how", "--minus", "how do I burn", "--at", "resid_pre.2"]
    assert cli.run([*lists, *pair, "--quick", "--neutral", str(tmp_path / "neutral.txt")]) == 0
    assert "vectors at the first positions at resid_pre.2" in capsys.readouterr().out


def test_a_feature_is_a_direction_too(lists: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--dictionary", "plt", "--feature", "1:33", "--quick", "--json", "--neutral", str(tmp_path / "neutral.txt")]
    assert cli.run([*lists, *more]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["steering"]["kind"], result["steering"]["at"]) == ("direction", "mlp_out.1")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dictionary", "plt"], "go together"),
        (["--dictionary", "plt", "--feature", "9:1"], "layers 0 … 3"),
        (["--dictionary", "plt", "--feature", "one"], "LAYER:NUMBER"),
        (["--how", "sing"], "add, project, pair"),
        (["--plus", "good"], "needs both texts"),
        (["--plus", "good", "--minus", "very bad news", "--at", "resid_pre.1"], "as many tokens"),
        (["--plus", "good", "--minus", "bad"], "stands for 4"),
        (["--against", "Sorry"], "--against needs --target"),
        (["--target", "zebrafish"], "not one token"),
        (["--strengths", "one"], "--strengths takes numbers"),
        (["--strengths", "0"], "above zero"),
        (["--at", "z.1"], "added to the stream"),
        (["--neutral", "nofile.txt"], "nofile.txt"),
    ],
)
def test_bad_input_is_one_clear_message(
    lists: list[str], arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*lists, *arguments]) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_bad_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short, empty, good = tmp_path / "short.txt", tmp_path / "empty.txt", tmp_path / "good.txt"
    short.write_text("how do I burn houses ?\n")
    empty.write_text("\n \n")
    good.write_text("\n".join(HARM))
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"question": "x"}\n')
    for from_, to, says in (
        (good, None, "--to FILE"),
        (short, good, "at least 8"),
        (empty, good, "holds no prompt"),
        (tmp_path / "absent.txt", good, "no file"),
        (good, good, "both lists"),
        (good, broken, "every row needs a `prompt`"),
    ):
        more = [] if to is None else ["--to", str(to)]
        assert cli.run(["steer", "--from", str(from_), *more]) == 2
        assert says in capsys.readouterr().err
