"""Tasks as verbs make them: of a name, of a file, of a file whose counterfactuals are made."""

from __future__ import annotations

import pytest

import cutaway as cw
from cutaway.cli import run
from cutaway.cli.findings import make_task

PAIRS = "clean,answer,wrong\n" + "".join(
    f"the capital of {state} is,{right},{wrong}\n"
    for state, right, wrong in (("Texas", "Austin", "Denver"), ("Colorado", "Denver", "Austin")) * 2
)


@pytest.fixture
def pairs(tmp_path):
    (tmp_path / "pairs.csv").write_text(PAIRS)
    return tmp_path / "pairs.csv"


@pytest.mark.parametrize("kind", ["shuffle", "resample"])
def test_counterfactuals_of_a_file_are_made_in_every_verb(kind, pairs):
    made = make_task(str(pairs), cw.load("almanac"), n=None, counterfactual=kind)
    assert len(made) == 4
    clean, other = (sorted(map(sorted, batch.ids.tolist())) for batch in (made.clean, made.counterfactual))
    if kind == "shuffle":
        assert clean == other  # the same words in another order
    assert made.clean.ids.tolist() != made.counterfactual.ids.tolist()


def test_a_split_is_asked_of_the_task(capsys):
    assert run(["tasks", "ioi", "-m", "almanac", "--split", "absent"]) == 2
    assert "there are: test, train, any" in capsys.readouterr().err
    assert make_task("ioi", cw.load("almanac"), n=4, split="train").to_json()["split"] == "train"


def test_a_file_without_counterfactuals_is_refused(pairs, capsys):
    assert run(["sweep", str(pairs), "--quick"]) == 2
    assert "no column for counterfactual" in capsys.readouterr().err
