"""`cutaway lens` as a user meets it."""

import json
from pathlib import Path

import pytest

from cutaway import cli
from cutaway.study import read_manifest

PROMPT = "the capital of the state containing Dallas is"


def test_a_stranger_can_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["lens", PROMPT]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"logit lens of almanac after: <bos> {PROMPT}")
    for part in ("rank of 'Austin'", "prediction depth", "re-randomised model, 5 seeds", "verdict", "output"):
        assert part in text
    assert max(map(len, text.splitlines())) < 200


def test_json_and_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["lens", PROMPT, "--answer", "Austin", "--json", "--quick", "--out", str(tmp_path / "s")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "cutaway.lens/1"
    assert result["prompts"][0]["answer"]["token"].strip() == "Austin"
    assert result["prompts"][0]["points"][-1]["answer_rank"] == 1
    assert all(item["not_done"] for item in result["evidence"]), "a quick lens says what it left out"
    manifest = read_manifest(tmp_path / "s")
    assert (manifest.kind, manifest.prompt) == ("lens", PROMPT)
    assert set(manifest.files) == {"result.json", "evidence.json", "result.txt"}


def test_direct_effects_sum_to_the_difference(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--dla", "--answer", "Austin", "--against", "Sacramento", "--quick", "--json"]
    assert cli.run(["lens", PROMPT, *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert sum(c["direct"] for c in result["components"]) == pytest.approx(result["logit_difference"], abs=1e-4)
    assert result["pairs"] == [[" Austin", " Sacramento"]]


def test_a_task_in_place_of_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["lens", "--task", "ioi", "--n", "6", "--dla", "--quick"]) == 0
    assert "mean over 6 prompts" in capsys.readouterr().out


def test_train_then_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(["Mary went home because she", "the keys to the cabinet are", PROMPT] * 30))
    train = ["lens", "--train-tuned", str(text), "--steps", "2", "--quick", "--out", str(tmp_path / "lens")]
    assert cli.run([*train, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "cutaway.tuned-lens/1"
    assert cli.run(["lens", PROMPT, "--tuned", str(tmp_path / "lens"), "--quick"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("tuned lens of almanac")
    assert "bias only" in printed
    assert cli.run(["lens", PROMPT, "--model", "almanac-1l", "--tuned", str(tmp_path / "lens")]) == 2
    assert "almanac-1l" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give a prompt"),
        (["x", "--task", "ioi"], "one of the two"),
        (["x", "--answer", "zebrafish"], "not one token"),
        (["x", "--against", "Mary"], "--dla"),
        (["x", "--at", "z.0"], "residual stream"),
        (["x", "--at", "resid_post.9"], "no layer 9"),
        (["x", "--tuned", "nowhere"], "holds no tuned lens"),
        (["x", "--tuned", "a", "--dla"], "Leave one"),
        (["--train-tuned", "own"], "--out DIR"),
        (["--train-tuned", "nofile.txt", "--out", "o"], "nofile.txt"),
        (["--task", "iio"], "ioi"),
        (["x", "--model", "almanack"], "almanac"),
    ],
)
def test_bad_input_is_one_clear_message(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["lens", *arguments]) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["lens", "probe", "heads", "steer"])
def test_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([verb, "--help"]) == 0
    assert f"Example:  cutaway {verb}" in capsys.readouterr().out
