"""`cutaway toy`: lists, shows, checks; exit status and one object with --json."""

from __future__ import annotations

import json

from cutaway.cli import run


def test_json_has_passed(capsys):
    assert run(["toy", "rasp", "hist", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["passed"] is True
    assert body["toy"] == "rasp"


def test_an_items_name_suffices_and_an_input_is_traced(capsys):
    assert run(["toy", "reverse", "--input", "a b c"]) == 0
    assert "model's output" in capsys.readouterr().out


def test_the_list_names_every_toy_and_item(capsys):
    assert run(["toy"]) == 0
    out = capsys.readouterr().out
    assert "rasp" in out
    assert "double_hist" in out
    assert run(["toy", "--json"]) == 0
    assert "reverse" in json.loads(capsys.readouterr().out)["toys"]["rasp"]["items"]


def test_wrong_use_exits_with_2(capsys):
    for arguments in (["toy", "hists"], ["toy", "hist", "--set", "x"], ["toy", "hist", "--input", "z"]):
        assert run(arguments) == 2
        assert "cutaway:" in capsys.readouterr().err


def test_written_folders_load(tmp_path, capsys):
    import cutaway as cw

    assert run(["toy", "shift", "--out", str(tmp_path / "shift")]) == 0
    capsys.readouterr()
    assert cw.load(tmp_path / "shift").facts.family == "cutaway_rasp"
