"""`cutaway models --module`: what of a module of one's own can be read."""

import json
from pathlib import Path

import pytest

from cutaway.cli import run

FILE = """
import torch

def small():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())

def llama():
    from cutaway.model.families import tiny
    return tiny("llama")
"""


VERBS = [
    ["tasks", "ioi"], ["trace", "a b"], ["lens", "a b"], ["patchscope", "a b"], ["sweep", "ioi"], ["circuit", "ioi"],
    ["repair", "ioi"], ["heads", "--writes"], ["steer", "--from", "{texts}", "--to", "{texts}"],
    ["function-vector", "{pairs}"], ["probe", "{labelled}"], ["dictionary", "attribute", "{folder}"],
]  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(FILE)
    return path


def test_a_module_of_ones_own_is_shown_by_its_paths(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--module", f"{file}:small"]) == 0
    out = capsys.readouterr().out
    assert "path.0" in out
    assert "Linear" in out
    assert run(["models", "--module", f"{file}:small", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["paths"] == ["path.0", "path.1"]


def test_a_known_family_is_shown_by_its_points(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--module", f"{file}:llama"]) == 0
    assert "W_down(mlp_act) = mlp_out" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
@pytest.mark.parametrize("network", ["small", "llama"])
def test_a_verb_that_reads_text_says_what_to_do_where_there_is_no_tokenizer(
    verb: list[str], network: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = file.parent
    (folder / "texts.txt").write_text("one\ntwo\n")
    (folder / "pairs.csv").write_text("x,y\n" + "".join(f"a{i},b{i}\n" for i in range(30)))
    (folder / "labelled.csv").write_text("text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(40)))
    places = {name: folder / f"{name}.{end}" for name, end in (("texts", "txt"), ("pairs", "csv"), ("labelled", "csv"))}
    given = [part.format(**places, folder=folder) for part in verb]
    assert run([*given, "--model", f"{file}:{network}"]) == 2
    said = capsys.readouterr().err
    assert "let the factory give (module, tokenizer)" in said
    assert said.count("…\n") == 1  # nothing began but the loading
    assert ("is a Sequential" in said and "cutaway models" in said) == (network == "small")


def test_what_needs_no_text_is_not_refused_for_its_lack(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["sweep", "induction", "--n", "4", "--quick", "--model", f"{file}:llama"]
    assert run(given) == 0
    capsys.readouterr()
    assert run(["heads", "--quick", "--sequences", "4", "--model", f"{file}:small"]) == 2
    assert "no causal language model that is known" in capsys.readouterr().err


def test_a_model_of_another_world_is_refused_before_the_work(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model, words in (("almanac", "which of 37 next tokens fit"), (f"{file}:small", "its points are module paths")):
        assert run(["state", "othello", "--n", "20", "--model", model]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert "Fitting" not in said


def test_a_network_that_a_cases_items_do_not_fit_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: object, **more: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied\nmore")

    monkeypatch.setattr("cutaway.exams.abstraction_cases.case", lambda name, seed: None)  # it would train a network
    monkeypatch.setattr("cutaway.exams.abstraction_run.run_case", fails)
    assert run(["align", "equality", "--model", f"{file}:small"]) == 2
    said = capsys.readouterr().err
    assert "cannot be run on the items of equality (RuntimeError: mat1 and mat2 shapes cannot be multiplied)" in said
    assert run(["align", "equality"]) == 1  # the case's own network: a failure of ours


@pytest.mark.parametrize("more", [["almanac"], []])
def test_wrong_use_is_exit_status_2(file: Path, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    name = "small" if more else "smal"
    assert run(["models", *more, "--module", f"{file}:{name}"]) == 2
    assert ("not both" if more else "the nearest: small") in capsys.readouterr().err
