"""The experiments themselves: the quick ones whole, all of them drawn, and the verb."""

import json
import math

import pytest
from typer.testing import CliRunner

from cutaway.cli.app import app
from cutaway.core import Estimate, InputError, UnknownName
from cutaway.toys import Asked, find
from cutaway.toys.superposition import EXPERIMENTS, Check
from cutaway.toys.superposition.toy import run

QUICK = {"pentagon": 0.4, "phases-2-in-1": 0.7}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_experiment_passes(name):
    (made,) = run(Asked((name,), options={"effort": str(QUICK[name])})).done
    assert made.passed, str(made)
    assert all(one.nulls and one.verdict == "distinguishable from null" for one in made.evidence), str(made)


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name not in ("plateaus", "80-in-20")])
def test_every_experiment_draws_and_says_when_it_fails(name, tmp_path):
    """After a handful of steps nothing holds: it must say so, and draw what there is."""
    made = run(Asked((name,), options={"effort": "0.002"}, out=tmp_path))
    assert (tmp_path / f"{name}.png").stat().st_size > 5_000
    written = json.loads((tmp_path / f"{name}.json").read_text())
    assert written["schema"] == "cutaway.superposition/1"
    assert not made.passed
    assert written["passed"] is False
    assert "FAIL" in str(made)


def test_checks_fail_on_either_side_and_on_nothing():
    def check(value, rule="equal", tolerance=0.1):
        return Check("x", 1.0, Estimate(name="", value=value, n=1), tolerance, rule).passed

    assert check(1.05)
    assert not check(1.2)
    assert not check(0.8)
    assert check(5.0, "at least")
    assert not check(0.5, "at least")
    assert check(-5.0, "at most")
    assert not check(1.5, "at most")
    assert not check(math.nan)


def test_the_verb_knows_the_experiments():
    toy, item = find("pentagon")
    assert item == "pentagon"
    assert set(EXPERIMENTS) | {"all"} == set(toy.open().items())
    result = CliRunner().invoke(app, ["toy", "pentagon", "--set", "effort=0.3", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["passed"] is True


def test_the_seed_is_an_option_of_its_own():
    def first(*arguments):
        result = CliRunner().invoke(app, ["toy", "jumps", "--set", "effort=0.002", "--json", *arguments])
        found = json.loads(result.stdout)["result"]["experiments"][0]
        return {**found, "seconds": 0}

    assert first("--seed", "1") == first("--set", "seed=1")
    assert first("--seed", "1")["data"] != first()["data"]
    refused = CliRunner().invoke(app, ["toy", "reverse", "--seed", "1"])
    assert isinstance(refused.exception, InputError)
    assert "draws nothing at random" in str(refused.exception)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"effort": "0"}, InputError), ({"seed": "x"}, InputError), ({"speed": "1"}, UnknownName)],
)
def test_wrong_options_are_refused(options, error):
    with pytest.raises(error):
        run(Asked(("pentagon",), options=options))
    with pytest.raises(UnknownName):
        run(Asked(("hexagon",)))
    with pytest.raises(InputError, match="no input"):
        run(Asked(("pentagon",), given="a b"))
