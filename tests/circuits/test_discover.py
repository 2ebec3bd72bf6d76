"""`discover` on the shipped model, and the verb."""

import json

import pytest

import cutaway as cw
from cutaway.cli import run


@pytest.fixture(scope="module")
def found():
    model = cw.load("almanac")
    return cw.discover(model, cw.task("two_hop", model, n=12, seed=0), "eap", size=24, check="quick")


def test_a_task_of_the_shipped_model_has_a_small_faithful_circuit_beyond_its_nulls(found):
    main, learned, stable, *_ = found.evidence
    assert found.share <= 0.2
    assert main.effect.value > 0.8
    assert main.verdict == learned.verdict == stable.verdict == "distinguishable from null"
    assert {"faithfulness", "curve", "audit"} <= set(found.parts)
    assert found.choices["judged_on"] == 6


def test_it_says_everything_as_json(found):
    body = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert body["schema"] == "cutaway.circuit/1"
    assert len(body["edges"]) == body["size"] == found.size
    assert len(body["evidence"]) == len(found.evidence)
    assert body["curve"]["sizes"]


def test_the_verb_lists_methods_and_refuses_what_it_does_not_know(capsys):
    assert run(["circuit", "--methods"]) == 0
    assert "eap-ig" in capsys.readouterr().out
    assert run(["circuit", "ioi", "--method", "eap-gi"]) == 2
    assert "nearest" in capsys.readouterr().err
