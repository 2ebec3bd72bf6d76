"""`cutaway circuit`: a file scored again, models that do not do the task, wrong use."""

from __future__ import annotations

import json

import pytest

import cutaway as cw
from cutaway.circuits import discover
from cutaway.cli import run


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = cw.load("almanac")
    circuit = discover(model, cw.task("ioi", model, n=8, seed=0), size=4, check="none")
    path = tmp_path_factory.mktemp("circuit") / "circuit.json"
    circuit.save(path)
    return path


def test_a_file_of_other_items_is_refused(saved, tmp_path, capsys):
    body = json.loads(saved.read_text())
    body["choices"]["items"]["seed"] = 9
    other = tmp_path / "other.json"
    other.write_text(json.dumps(body))
    assert run(["circuit", str(other)]) == 2
    assert "hash" in capsys.readouterr().err


def test_a_file_is_of_its_own_model(saved, capsys):
    assert run(["circuit", str(saved), "--model", "almanac-1l"]) == 2
    assert "almanac-1l" in capsys.readouterr().err


def test_what_is_no_circuit_is_said(tmp_path, capsys):
    assert run(["circuit", str(tmp_path / "none.json")]) == 2
    assert "no file" in capsys.readouterr().err
    (tmp_path / "broken.json").write_text("{")
    assert run(["circuit", str(tmp_path / "broken.json")]) == 2
    assert "no JSON" in capsys.readouterr().err
    (tmp_path / "list.json").write_text("[1]")
    assert run(["circuit", str(tmp_path / "list.json")]) == 2
    (tmp_path / "other.json").write_text('{"schema": "cutaway.task/1"}')
    assert run(["circuit", str(tmp_path / "other.json")]) == 2
    assert "schema" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(["circuit", str(tmp_path / "empty")]) == 2
    assert "result.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda body: body.pop("sources"), "lacks 'sources'"),
        (lambda body: body.update(scores=5), "damaged"),
        (lambda body: body.update(scores=[["a"]]), "damaged"),
        (lambda body: body.update(edges=[{"source": "nothing", "destination": "logits", "score": 1}]), "nothing"),
        (lambda body: body.update(edges={"a": 1}), "damaged"),
    ],
)
def test_a_damaged_circuit_is_said(change, says, saved, tmp_path, capsys):
    body = json.loads(saved.read_text())
    change(body)
    (tmp_path / "damaged.json").write_text(json.dumps(body))
    assert run(["circuit", str(tmp_path / "damaged.json")]) == 2
    assert says in capsys.readouterr().err


def test_a_model_that_does_not_do_the_task_has_no_circuit_of_it(capsys):
    arguments = ["circuit", "colours", "--model", "almanac-1l", "--n", "24", "--method", "eap", "--quick"]
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert "DOES NOT DO colours" in said
    assert "--force" in said
    assert run([*arguments, "--force"]) == 0
    shown = capsys.readouterr()
    assert "Circuit of colours" in shown.out
    assert "DOES NOT DO colours" in shown.err


def test_whole_is_of_one_task(capsys):
    assert run(["circuit", "agreement", "--whole"]) == 2
    assert "ioi" in capsys.readouterr().err
