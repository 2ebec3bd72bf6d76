"""The exam on compiled programs, and the cases that `cutaway align` runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cutaway.cli import run
from cutaway.core import UnknownName
from cutaway.exams.abstraction import _examined, rasp_causal_model
from cutaway.exams.abstraction_cases import CASES, case
from cutaway.toys.rasp import compile_program, program

SPEC = """
import torch
from torch import nn
from cutaway.abstraction import CausalModel, whole
model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Identity())
with torch.no_grad():
    model[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
causal_model = CausalModel({"x": range(2), "noise": range(100)}, {"kept": lambda x: x, "out": lambda kept: kept},
    name="copying", prompt=lambda v: torch.tensor([1.0 - v["x"], v["x"], v["noise"] / 100]), answer=int)
places = {"kept": whole("path.0")}
n = n_test = 64
"""


@pytest.mark.parametrize("name", ["shift", "equal_pairs", "frac_prevs"])
@pytest.mark.parametrize("rotate", [None, 3])
def test_a_compiled_programs_variables_are_where_the_compiler_says(name: str, rotate: int | None) -> None:
    rows = _examined(compile_program(program(name), rotate=rotate), 24, 0)
    assert [row["passed"] for row in rows] == [True, True]
    assert rows[0]["agreement"] < 1  # some exchanges change the output, or the law would say nothing


def test_a_subspace_of_another_variable_fails_the_law() -> None:
    """The exam can fail: with the bases of two variables exchanged, IIA falls below 1."""
    from dataclasses import replace

    compiled = compile_program(program("equal_pairs"))
    truth = compiled.truth
    names = [v for v in truth.variables.values() if len(v.basis) == 2][:2]
    truth.variables[names[0].name] = replace(names[0], basis=names[1].basis)
    assert _examined(compiled, 24, 0)[0]["passed"] is False


def test_a_program_as_a_causal_model_computes_what_the_program_does() -> None:
    compiled = compile_program(program("sort_unique"))
    causal = rasp_causal_model(compiled, 3)
    for given in [(3, 1, 2), (5, 4, 1)]:
        for asked in range(3):
            assert causal.run({"given": given, "asked": asked})["said"] == sorted(given)[asked]


def test_the_equality_cases_rivals_compute_the_same_function() -> None:
    from cutaway.abstraction import counterfactuals
    from cutaway.exams.abstraction_equality import causal_models

    right, wrong = causal_models()
    found = counterfactuals(right, "left", 60, rivals=[(wrong, ("first",))])
    for values in found.base:
        assert right.run(values)["same"] == wrong.run(values)["same"]
    assert found.expected(right, ["left"]) != found.expected(wrong, ["first"])


def test_every_language_case_is_written_as_almanac_knows_it() -> None:
    import cutaway as cw
    from cutaway.abstraction import counterfactuals
    from cutaway.abstraction.data import Data

    model = cw.load("almanac")
    for name in ("carry", "greater-than", "ioi", "attributes", "two-hop"):
        found = case(name)
        variables = tuple(found.places)
        items = counterfactuals(found.causal, variables, 40, rivals=[(m, (v,)) for m, v in found.rivals.values()])
        data = Data(model, found.causal, variables, items, ["resid_post.0"])
        assert float(data.competent.float().mean()) > 0.9, name


def test_a_spec_of_ones_own_runs_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "spec.py"
    spec.write_text(SPEC)
    assert run(["align", str(spec), "--json", "--out", str(tmp_path / "out")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "cutaway.abstraction-case/1"
    assert told["alignment"]["iia"]["value"] == 1.0
    assert (tmp_path / "out" / "alignment" / "causal-model.svg").read_text().startswith("<svg")
    assert json.loads((tmp_path / "out" / "case.json").read_text())["case"] == "spec"


def test_a_whole_case_stands_beside_everything_that_could_do_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed result and the JSON hold sweep, nulls, a rival, scrubbing with its null, and the capacities."""
    more = """
from cutaway.abstraction import subspace
places = {"kept": subspace("path.0", dims=1)}
steps, batch = 150, 16
sweep = ("kept", "path.0", None)
rivals = {"the noise": (CausalModel({"x": range(2), "noise": range(100)}, {"small": lambda noise: noise < 50,
    "out": lambda small, x: int(small) ^ x ^ int(small)}, prompt=causal_model.prompt, answer=int), "small")}
"""
    spec = tmp_path / "spec.py"
    spec.write_text(SPEC + more)
    assert run(["align", str(spec), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    alone = told["alignment"]["evidence"][0]
    names = [null["estimate"]["name"] for null in alone["nulls"]]
    for wanted in (
        "random features",
        "shuffled labels",
        "rival: the noise (says otherwise of 50%)",
        "untrained network",
    ):
        assert any(name.startswith(wanted) for name in names), names
    assert [b["estimate"]["name"] for b in alone["baselines"]] == ["the whole vector exchanged"]
    assert "nothing exchanged" in names
    assert told["alignment"]["iia"]["value"] == 1.0
    assert told["sweep"]["axes"][0]["labels"] == ["path.0"]
    assert [row["dims"] for row in told["capacity"]["rows"]] == [1]
    assert [row["dims"] for row in told["capacity"]["nonlinear"]] == [1]
    assert told["capacity"]["nothing_exchanged"]["value"] == 0.5
    assert told["scrubbing"]["evidence"]["nulls"]
    assert run(["align", str(spec)]) == 0
    shown = capsys.readouterr().out
    for part in ("random features", "rival: the noise", "divergence", "loss recovered", "nonlinear", "verdict"):
        assert part in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "defines no causal_model"),
        ("1 / 0", "ZeroDivisionError"),
        ("x = (1,", "was never closed"),
        (SPEC.replace("places =", "where ="), "defines no places"),
        (SPEC + "n = '64'", "n is a number, at least 1; given '64'"),
        (SPEC + "steps = 0", "steps is a number, at least 1; given 0"),
        (SPEC + "rivals = {'x': causal_model}", "rivals is {name: (a CausalModel, its variable)}"),
        (SPEC + "sweep = 'kept'", "sweep is (variable, points, dims)"),
        (SPEC.replace('"kept": whole', '"kepd": whole'), "nearest: kept"),
        (SPEC.replace("path.0", "path.7"), "path.7"),
        (SPEC.replace("lambda x: x,", "lambda y: y,"), "a parent of kept, 'y'"),
        (SPEC.replace("lambda x: x,", "lambda: 1,"), "kept was 1 in all of them"),
        (SPEC.replace("range(2)", "[1]"), "kept was 1 in all of them"),
        (SPEC.replace("range(2)", "[]"), "the domain of x is empty"),
        (
            SPEC.replace("range(2)", "[1]").replace("range(100)", "[5]"),
            "too few values to hold any pair|kept was 1 in all of them",
        ),
        (SPEC.replace("answer=int", "answer={}.__getitem__"), "answer= fails on out = "),
        (SPEC.replace("answer=int", "answer=lambda x: 'two words'"), "not one token|has no tokenizer|tokenizer"),
        (SPEC.replace("prompt=lambda v: ", "prompt=lambda v: 3 or "), "prompt= gives text, a list of token ids"),
        (SPEC.replace('whole("path.0")', '"path.0"'), "cw.subspace"),
    ],
)
def test_specs_that_cannot_be_run_say_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """Exit status 2 and one message that names what is wrong, whatever stage finds it."""
    file = tmp_path / "spec.py"
    file.write_text(text)
    assert run(["align", str(file)]) == 2
    shown = capsys.readouterr().err
    assert any(part in shown for part in said.split("|"))
    assert "Traceback" not in shown


def test_unknown_cases_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownName, match="equality"):
        case("equalty")
    assert run(["align", "equalty"]) == 2
    assert run(["align", "no.py"]) == 2
    assert "no file no.py" in capsys.readouterr().err
    assert run(["align", "--cases"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in CASES)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hierarchical_equality_is_found_and_its_rivals_are_not(seed: int) -> None:
    from cutaway.abstraction import Training, align
    from cutaway.exams.abstraction_cases import opened

    torch.manual_seed(0)
    found = case("equality", seed)
    result = align(
        opened(found), found.causal, found.places, rivals=found.rivals, n=found.n, n_test=400, seeds=(seed,),
        training=Training(found.steps, found.batch), quick=True,
    )  # fmt: skip
    assert result.iia.value >= 0.95
    for null in result.evidence[0].nulls:  # random subspaces, the identity of w
        assert abs(null.estimate.value - 0.5) < 0.15
