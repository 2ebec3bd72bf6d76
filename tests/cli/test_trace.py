"""`cutaway trace` as a user meets it: one object of JSON, a whole study or none, clear refusals."""

import errno
import json
import os
from pathlib import Path

import pytest

from cutaway import cli
from cutaway.core.registry import shipped_models
from cutaway.graphs import AttributionGraph
from cutaway.study import read_manifest

PROMPT = "the capital of the state containing Dallas is"


def trace(*arguments: str) -> int:
    return cli.run(["trace", PROMPT, "--quick", *arguments])


def test_json_is_one_object_with_accounting_and_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trace("--json", "--out", str(tmp_path / "t"), "--pt") == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["schema"] == "cutaway.trace/1"
    assert result["logits"][0][0].strip() == "Austin"
    assert result["accounting"]["nodes"] > 100
    assert result["accounting"]["max_error"] <= 1e-4
    assert len(result["evidence"]) >= 3
    for item in result["evidence"]:
        assert item["nulls"]
        assert item["verdict"]
        assert item["not_done"], "a quick trace says what it left out"
    folder = tmp_path / "t"
    assert set(read_manifest(folder).files) >= {
        "graph.json",
        "graph.safetensors",
        "evidence.json",
        "graph.pt",
        "index.html",
    }
    saved = AttributionGraph.load(folder)
    assert (saved.prompt, saved.accounting) == (PROMPT, result["accounting"])
    page = (folder / "index.html").read_text()
    assert "Austin" in page
    assert "http://" not in page.replace("http://www.w3.org", ""), "the page must work offline"


def test_a_stranger_can_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert trace("--dictionary", "plt") == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{PROMPT}  →  Austin")
    for part in ("inputs sum to the pre-activation", "replacement", "How far to believe it", "Not done:"):
        assert part in text
    assert max(map(len, text.splitlines())) < 170


def test_a_contrast_explains_one_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert trace("--contrast", "Austin", "Sacramento", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["target"]["kind"] == "contrast"
    assert len(result["logits"]) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trace", ""], "empty"),
        (["trace", "the " * 400], "128"),
        (["trace", "hi", "--target", "no such word"], "one token"),
        (["trace", "hi", "--dictionary", "cltt"], "clt"),
        (["trace", "hi", "--model", "almanack"], "almanac"),
        (["view", "."], "nothing to show"),
        (["models", "almanak"], "almanac"),
        (["dictionary", "train", "--model", "almanac", "--kind", "sae"], "clt, plt"),
        (["dictionary", "train", "--model", "almanac", "--text", "/no/such/file.txt"], "/no/such/file.txt"),
        (["organism", "train", "almanak", "--out", "x"], "almanac"),
    ],
)
def test_bad_input_is_one_clear_message(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(arguments) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_words_outside_the_world_are_named_and_prompts_offered(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["trace", "the zebrafish swims in the", "--quick"]) == 0
    said = capsys.readouterr().err
    assert "'zebrafish'" in said
    assert "a prompt of its world" in said


def test_a_full_disk_leaves_the_earlier_study_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trace("--out", str(tmp_path / "t")) == 0
    before = read_manifest(tmp_path / "t")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert trace("--out", str(tmp_path / "t")) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert read_manifest(tmp_path / "t") == before
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_labels_survive_a_new_trace(tmp_path: Path) -> None:
    assert trace("--out", str(tmp_path / "t")) == 0
    (tmp_path / "t" / "labels.json").write_text('{"0_1": "Texas"}')
    assert trace("--out", str(tmp_path / "t")) == 0
    assert json.loads((tmp_path / "t" / "labels.json").read_text()) == {"0_1": "Texas"}


def test_models_shows_the_points_of_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(shipped_models()["almanac-1l"])
    assert cli.run(["models", folder, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["models"]
    assert "resid_post.0" in row["points"]
    assert "resid_post.1" not in row["points"]
    assert row["refused"]["router_logits.0"]
    assert cli.run(["models", folder]) == 0
    printed = capsys.readouterr().out
    assert "worst error" in printed
    assert "dictionaries trained here" in printed


def test_models_lists_what_ships(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    assert set(rows) == set(shipped_models())
    assert {"clt", "plt", "clt-null", "plt-null"} <= set(rows["almanac"]["dictionaries"])
    assert len(rows["almanac"]["checkpoints"]) >= 12
