"""`import cutaway as cw`: light, and the slips of a first hour in a notebook are named."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cutaway as cw
from cutaway.core import InputError


def test_importing_it_loads_nothing_heavy_and_completion_shows_the_names_alone() -> None:
    code = "import sys, cutaway\nassert not {'torch', 'transformers', 'numpy'} & set(sys.modules)\nprint(*dir(cutaway))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert set(done.stdout.split()) == set(cw.__all__)
    for name in cw.__all__:
        assert getattr(cw, name) is not None


def test_a_wrong_name_is_answered_by_the_nearest() -> None:
    with pytest.raises(AttributeError, match="the nearest: load"):
        _ = cw.lod
    assert not hasattr(cw, "__wrapped__")


SLIPS = {
    "cw.trace('almanac', 'x')": r"give cw\.load\('almanac'\)",
    "cw.lens('almanac', 'x')": r"give cw\.load\('almanac'\)",
    "cw.head_scores('almanac')": r"give cw\.load\('almanac'\)",
    "cw.direct_effects('almanac', 'x')": r"give cw\.load\('almanac'\)",
    "cw.steer('almanac', ['a'], ['b'])": r"give cw\.load\('almanac'\)",
    "cw.probe('almanac', ['a', 'b'], ['c', 'd'])": r"give cw\.load\('almanac'\)",
    "cw.sweep('almanac', None)": r"give cw\.load\('almanac'\)",
    "cw.sweep(model, 'ioi', at='z.*')": r"give cw\.task\('ioi', model\)",
    "cw.discover(model, 'ioi')": r"give cw\.task\('ioi', model\)",
    "cw.trace(model, 3)": "given int",
    "cw.trace(model, None)": "given NoneType",
    "cw.load('')": "empty",
    "cw.load(None)": "given NoneType",
    "model.run(P, interventions=cw.zero('z.2', head=1))": "list of interventions",
    "model.run(P, interventions=['zero'])": "given str|is str",
    "cw.zero('z.2', heads=1)": "the nearest: head",
}


@pytest.fixture(scope="module")
def model() -> cw.Model:
    return cw.load("almanac")


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_named(slip: str, model: cw.Model) -> None:
    with pytest.raises(InputError, match=SLIPS[slip]):
        eval(slip, {"cw": cw, "model": model, "P": "Mary went home because"})
