"""`cutaway dictionary` for SAEs: train at a point, judge, convert; what cannot be is one clear message and exit 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cutaway.cli.app import app
from cutaway.features import SAE, load


def run(*arguments):
    return CliRunner().invoke(app, ["dictionary", *map(str, arguments)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two architectures in one pass at one point of the shipped model, and one of them on its twin."""
    folder = tmp_path_factory.mktemp("saes")
    text = folder / "text.txt"
    text.write_text("Mary and John went to the shop . John gave a book to Mary . " * 120)
    common = [
        "train",
        "-m",
        "almanac",
        "-t",
        text,
        "--at",
        "resid_post.1",
        "--features",
        64,
        "--l0",
        6,
        "--tokens",
        8192,
    ]
    both = run(*common, "-a", "topk,batchtopk", "--out", folder / "both", "--json")
    assert both.exit_code == 0, both.output
    made = run(*common, "-a", "topk", "--twin", "--out", folder / "both" / "resid_post.1-topk-null", "--json")
    assert made.exit_code == 0, made.output
    return folder, text, json.loads(both.stdout)


def test_train_writes_dictionaries_that_load_and_reports_each(trained):
    _, _, report = trained
    assert [entry["name"] for entry in report["dictionaries"]] == ["resid_post.1-topk", "resid_post.1-batchtopk"]
    for entry in report["dictionaries"]:
        found = load(entry["folder"])
        assert isinstance(found, SAE)
        assert found.point == "resid_post.1"
        assert found.metrics["schema"] == "cutaway.sae_report/2"
        assert len(entry["report"]["rows"]) >= 3


def test_evaluate_stands_a_dictionary_beside_pca_untrained_and_its_null(trained):
    folder, text, _ = trained
    common = ["-m", "almanac", "-t", text, "--tokens", 1500]
    found = run("evaluate", folder / "both" / "resid_post.1-topk", *common, "--quick", "--json")
    assert found.exit_code == 0, found.output
    names = [row["name"] for row in json.loads(found.stdout)["report"]["rows"]]
    assert names[0] == "this dictionary"
    assert {"untrained encoder", "re-randomised model's own"} <= set(names)
    shown = run("evaluate", folder / "both" / "resid_post.1-batchtopk", *common, "--quick")
    assert "verdict" in shown.output
    assert "not done: null model" in shown.output


def test_convert_and_read_back(trained, tmp_path):
    folder, text, _ = trained
    found = run("convert", folder / "both" / "resid_post.1-topk", "--to", "saelens", "--out", tmp_path / "sl")
    assert found.exit_code == 0, found.output
    assert load(tmp_path / "sl").point == "resid_post.1"
    again = run("evaluate", tmp_path / "sl", "-m", "almanac", "-t", text, "--tokens", 1000, "--quick")
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "-m", "almanac", "--at", "resid_post.1", "-a", "topl", "-o", "x"], "topk"),
        (["train", "-m", "almanac", "--at", "resid_post.1", "-a", "topk,relu"], "--out"),
        (["train", "-m", "almanac", "-a", "topk,relu"], "--at"),
        (["train", "-m", "almanac", "--at", "resid_post.99", "-o", "x", "--tokens", 64], "no layer 99"),
        (["convert", "nowhere", "--to", "saelens", "--out", "x"], "no dictionary"),
    ],
)
def test_what_cannot_be_is_said(arguments, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run(*arguments)
    assert found.exit_code != 0
    assert told in str(found.exception) + found.output


def test_a_format_that_cannot_hold_it_is_refused(trained, tmp_path):
    folder, _, _ = trained
    found = run("convert", folder / "both" / "resid_post.1-batchtopk", "--to", "sparsify", "--out", tmp_path / "s")
    assert "TopK" in str(found.exception) + found.output
    assert not (tmp_path / "s" / "cfg.json").exists()


@pytest.mark.slow
def test_two_processes_train_from_shards_what_one_does(trained, tmp_path):
    _, text, _ = trained
    common = ["dictionary", "train", "-m", "almanac", "-t", str(text), "--at", "resid_post.0", "--features", "64",
              "--l0", "4", "--tokens", "4096", "--shards", str(tmp_path / "kept"), "--json"]  # fmt: skip
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "cutaway"]
    done = subprocess.run(
        [*torchrun, *common, "--split", "features", "--out", str(tmp_path / "two")], capture_output=True, text=True,
        timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["dictionaries"][0]["name"] == "resid_post.0-batchtopk"  # printed once
    kept = (tmp_path / "kept" / "shards.json").read_bytes()
    assert CliRunner().invoke(app, [*common, "--out", str(tmp_path / "one")]).exit_code == 0
    assert (tmp_path / "kept" / "shards.json").read_bytes() == kept  # read, not written again
    one, two = load(tmp_path / "one"), load(tmp_path / "two")
    assert (one.W_dec - two.W_dec).abs().max() < 1e-3
