"""`cutaway tasks`: lists, shows, measures; wrong use exits with 2 and one message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cutaway.cli import run
from cutaway.tasks.catalogue import ENTRIES


def called(capsys: Any, *arguments: str) -> tuple[int, str, str]:
    status = run(["tasks", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_list_names_every_task_with_its_source(capsys: Any) -> None:
    status, out, _ = called(capsys)
    assert status == 0
    for entry in ENTRIES:
        assert entry.about in out
        assert entry.source in out
    status, out, _ = called(capsys, "--json")
    assert [row["name"] for row in json.loads(out)["tasks"]] == [entry.name for entry in ENTRIES]


def test_the_list_for_a_model_says_what_fits(capsys: Any) -> None:
    status, out, _ = called(capsys, "--model", "almanac", "--json")
    rows = {row["name"]: row for row in json.loads(out)["tasks"]}
    assert status == 0
    assert rows["ioi"]["fits"] is True
    assert rows["choice"]["fits"] is False
    assert "no letters" in rows["choice"]["why_not"]


def test_one_task_shows_items_and_competence(capsys: Any, tmp_path: Path) -> None:
    out = tmp_path / "items.jsonl"
    status, shown, err = called(capsys, "ioi", "-m", "almanac", "--n", "2", "--on", "12", "--out", str(out))
    assert status == 0
    assert shown.count("counterfactual ") >= 2
    assert "item 1 (" in shown
    assert "item 2 (" not in shown
    assert "almanac does ioi" in shown
    assert "null: re-randomised" in shown
    assert f"wrote {out}" in err
    status, again, _ = called(capsys, str(out), "-m", "almanac", "--json")
    body = json.loads(again)
    assert body["n"] == 12
    assert body["competence"]["does"] == "yes"
    assert len(body["items"]) == 5


def test_a_task_without_a_model_is_described(capsys: Any) -> None:
    status, out, _ = called(capsys, "greater_than")
    assert status == 0
    assert "counterfactual 01" in out
    assert "cutaway tasks greater-than --model almanac" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["oii"], "the nearest: ioi"),
        (["oii", "-m", "almanac"], "the nearest: ioi"),
        (["choice", "-m", "almanac"], "no letters A to D"),
        (["ioi", "-m", "almanac", "-c", "fli"], "the nearest: flip"),
        (["absent.csv", "-m", "almanac"], "no file absent.csv"),
        (["absent.csv"], "a file is read for a model"),
        (["ioi", "-m", "almanac", "--on", "0"], "--on"),
    ],
)
def test_wrong_use(arguments: list[str], message: str, capsys: Any) -> None:
    status, out, err = called(capsys, *arguments)
    assert status == 2
    assert message in err
    assert out == ""


def test_warnings_go_to_stderr_and_json_stays_one_object(capsys: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    row = "The opposite of hot is,The opposite of big is,cold,small\n"
    path.write_text("clean,counterfactual,answer,wrong\n" + 2 * row)
    status, out, err = called(capsys, str(path), "-m", "almanac", "--json")
    assert status == 0
    assert json.loads(out)["n"] == 2
    assert "1 of 2 items repeat an earlier one" in err
