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


@pytest.mark.parametrize("more", [["almanac"], []])
def test_wrong_use_is_exit_status_2(file: Path, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    name = "small" if more else "smal"
    assert run(["models", *more, "--module", f"{file}:{name}"]) == 2
    assert ("not both" if more else "the nearest: small") in capsys.readouterr().err
