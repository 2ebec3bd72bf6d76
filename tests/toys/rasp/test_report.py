"""The table and the page of a program say what is so, and the docs carry that table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cutaway.core import InputError, UnknownName
from cutaway.toys import Asked, find
from cutaway.toys.rasp import compile_program, program, program_names
from cutaway.toys.rasp.report import show, table

DOCS = Path(__file__).parents[3] / "docs" / "rasp.md"


def test_the_docs_carry_the_table(monkeypatch):
    """Sizes, edges and the number of inputs in docs/rasp.md are those of the programs, and none is wrong there."""
    monkeypatch.setattr("cutaway.toys.rasp.report.QUICK", 5)  # test_compiled runs the inputs
    text = DOCS.read_text().split("<!-- programs: python -m cutaway.toys.rasp -->")[1].split("<!-- end -->")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]
    written = {line[0]: line[1:] for line in lines[2:]}
    assert tuple(written) == program_names()
    for row in table().rows:
        *sizes, inputs, _, _ = written[row.name]
        made = (row.layers, row.heads, row.d_model, row.edges, row.structural, row.causal, row.inputs)
        assert [int(cell) for cell in (*sizes, inputs)] == list(made)
    assert all(cells[-1] == "0" and cells[-2] == cells[-3] for cells in written.values())


def test_one_program_shown():
    shown = show(compile_program(program("reverse")), given="abcb")
    assert shown.passed
    assert shown.output == list("bcba")
    text = str(shown)
    for needed in ("mirrored", "a2.h0", "34 edges", "model's output", "0 with wrong outputs"):
        assert needed in text
    body = json.loads(json.dumps(shown.to_json(), allow_nan=False))
    assert body["passed"] is True
    assert {variable["name"] for variable in body["truth"]["variables"]} == set(shown.truth.variables)
    with pytest.raises(InputError, match="1 to 6"):
        show(compile_program(program("reverse")), given="abcabca")


def test_a_broken_model_does_not_pass():
    compiled = compile_program(program("shift"))
    compiled.model.lm_head.bias.data[2] += 100
    shown = show(compiled, given="abc")
    assert not shown.passed
    assert "the model says" in str(shown)


@pytest.mark.parametrize("name", program_names())
def test_every_program_can_be_traced_by_default(name):
    from cutaway.toys.rasp.report import _example

    p = program(name)
    assert p.admits(_example(p))


def test_the_toy_takes_items_options_and_an_input(tmp_path):
    toy, item = find("shift")
    assert item == "shift"
    module = toy.open()
    assert set(module.items()) == set(program_names())
    made = module.run(Asked(("shift",), given="a b c", options={"rotate": "2"}, out=tmp_path / "shift"))
    assert made.passed
    assert (tmp_path / "shift" / "model.safetensors").is_file()
    two = module.run(Asked(("shift", "hist"), options={"coldness": "20"}))
    assert [row["name"] for row in two.to_json()["programs"]] == ["shift", "hist"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(("shift",), given="a q"), "input token"),
        (Asked(("shift",), options={"cold": "1"}), "coldness"),
        (Asked(("shift",), options={"coldness": "warm"}), "warm"),
        (Asked(("shift", "hist"), given="a"), "one program"),
        (Asked(("shfit",)), "shift"),
    ],
)
def test_wrong_use_is_named(asked, message):
    with pytest.raises(InputError, match=message):
        find("rasp")[0].open().run(asked)


def test_an_unknown_toy_names_the_nearest():
    with pytest.raises(UnknownName, match="reverse"):
        find("revers")
