"""`cutaway sweep` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cutaway import cli

PROMPTS = ["--clean", "36 + 59 =", "--counterfactual", "36 + 58 =", "--answer", "95", "--wrong", "94"]


def test_a_task_gives_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "s"
    assert cli.run(["sweep", "ioi", "--at", "z.*", "--each", "head", "--n", "8", "--json", "--out", str(out)]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["schema"] == "cutaway.sweep/1"
    assert [axis["name"] for axis in body["axes"]] == ["layer", "head"]
    assert len(body["effect"]) == len(body["axes"][0]["labels"]) == len(body["low"])
    assert body["n"] == 8
    assert body["null"]["name"] == "values from another prompt"
    assert body["evidence"]["nulls"]
    assert {f.name for f in out.iterdir()} >= {"sweep.json", "sweep.safetensors", "manifest.json"}


def test_a_stranger_can_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sweep", *PROMPTS]) == 0
    text = capsys.readouterr().out
    for part in ("position \\ layer", "59", "per cent of the way", "95 % interval", "no item has another", "verdict"):
        assert part in text


def test_an_ablation_stands_beside_a_model_that_learned_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sweep", "ioi", "--at", "mlp_out.*", "--how", "mean", "--n", "8", "--positions", "S2,end", "--json"]
    assert cli.run(arguments) == 0
    body = json.loads(capsys.readouterr().out)
    assert "re-randomised" in body["null"]["name"]
    assert body["axes"][1]["labels"] == ["S2", "end"]
    assert body["unit"] == "logits"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sweep"], "name a task"),
        (["sweep", "ioi", *PROMPTS], "name a task"),
        (["sweep", "ioii"], "ioi"),
        (["sweep", "ioi", "--at", "resid_psot.*"], "resid_post"),
        (["sweep", "ioi", "--how", "denoize"], "denoise"),
        (["sweep", "ioi", "--each", "heads"], "head"),
        (["sweep", "ioi", "--memory", "lots"], "memory"),
        (["sweep", "--clean", "36 + 59 =", "--counterfactual", "36 + 58 = 9", "--answer", "95"], "does not align"),
        (["sweep", *PROMPTS[:4]], "--answer"),
        (["sweep", *PROMPTS[:4], "--answer", "no such word at all"], "not one token"),
    ],
)
def test_bad_input_is_one_clear_message(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
