"""The verbs that judge, describe, search and use dictionaries: what they print, what they refuse."""

from __future__ import annotations

import json

import pytest

from cutaway.cli import run


def said(capsys, *arguments):
    status = run([str(a) for a in arguments])
    found = capsys.readouterr()
    return status, found.out, found.err


def test_evaluate_quick_says_what_it_left_out(capsys, small_sae):
    status, out, _ = said(capsys, "dictionary", "evaluate", small_sae, "--model", "almanac", "--tokens", 800, "--quick")
    assert status == 0
    for word in ("ICA", "raw neurons", "random dictionary", "untrained encoder", "KL, nats", "density", "not done"):
        assert word in out
    assert "coverage" not in out


def test_what_describe_wrote_is_searched(capsys, described, tmp_path):
    status, out, _ = said(capsys, "dictionary", "search", described, "--by", "frequency", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["schema"] == "cutaway.feature_search/1"
    feature = found["rows"][0]["feature"]
    status, out, _ = said(capsys, "dictionary", "search", described, "--card", feature)
    assert status == 0
    assert f"feature {feature}" in out
    status, out, err = said(capsys, "dictionary", "search", described, "--by", "efect")
    assert status == 2
    assert "effect" in err
    status, _, err = said(capsys, "dictionary", "search", tmp_path, "x")
    assert status == 2
    assert "holds no descriptions" in err


def test_arms_print_the_table_and_write_it(capsys, tmp_path):
    status, out, err = said(
        capsys, "dictionary", "arms", "--model", "almanac", "--at", "resid_post.0", "--tokens", 2000, "--features", 48,
        "--seeds", 1, "--out", tmp_path, "--json",
    )  # fmt: skip
    assert status == 0
    assert "training on control" in err
    rows = json.loads(out)["rows"]
    assert {row["arm"] for row in rows} == {"trained", "rerandomised_excl", "rerandomised_incl", "step0", "control"}
    assert json.loads((tmp_path / "arms.json").read_text())["schema"] == "cutaway.arm_study/1"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("dictionary", "describe", "nowhere", "--model", "almanac", "--out", "x"), "there is no dictionary nowhere"),
        (("dictionary", "arms", "--model", "almanac", "--at", "resid_post.9"), "no layer 9"),
        (("classify", "topic"), "topics"),
        (("classify", "topics", "--dictionary", "nowhere"), "there is no dictionary nowhere"),
    ],
)
def test_wrong_use_exits_two_and_says_what_to_do(capsys, arguments, word):
    status, out, err = said(capsys, *arguments)
    assert status == 2
    assert word in err
    assert out == ""
