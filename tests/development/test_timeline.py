"""Timelines: the same however often they were interrupted; bad checkpoints are refused by name."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cutaway.core import Estimate, InputError
from cutaway.core.protocols import Measure
from cutaway.development import (
    Data,
    Function,
    Setting,
    find_checkpoints,
    llc_measure,
    loss_measure,
    outputs_measure,
    squared_error,
    timeline,
    trace_measure,
    weight_norm,
)


class Stopped(Exception):
    pass


@pytest.fixture
def folder(tmp_path):
    """Four checkpoints of a line that grows."""
    for step in (0, 10, 100, 1000):
        place = tmp_path / "run" / f"step-{step:06d}"
        place.mkdir(parents=True)
        save_file({"weight": torch.full((2, 3), 0.1 * math.log(step + 1))}, place / "model.safetensors")
    return tmp_path / "run"


def opened(checkpoint):
    from pathlib import Path

    from safetensors.torch import load_file

    held = load_file(Path(checkpoint.source) / "model.safetensors")["weight"]
    module = nn.Linear(held.shape[1], held.shape[0], bias=False)
    module.weight.data = held
    return module


X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
DATA = Data((X, 0.5 * X[:, :2]), squared_error, "line")


def measures():
    setting = Setting(20.0, 10.0, 1e-3, chains=2, draws=20, burn_in=5, batch=4)
    return [
        loss_measure(DATA),
        llc_measure(DATA, setting),
        weight_norm(),
        trace_measure(DATA, probes=4),
        outputs_measure(X, numbers=8),
    ]


def test_measures_are_measures(folder):
    assert all(isinstance(measure, Measure) for measure in measures())
    line = timeline(find_checkpoints(folder, opened), measures())
    assert line.steps == (0, 10, 100, 1000)
    assert list(line.series) == ["loss", "llc", "weight norm", "hessian trace"]
    assert line.values("weight norm")[-1] == pytest.approx(6**0.5 * 0.1 * math.log(1001), rel=1e-5)
    assert line.arrays["outputs"].shape == (4, 8)
    # The trace of a linear regression does not move with its weights.
    assert np.ptp(line.values("hessian trace")) < 1e-4


def test_a_resumed_timeline_is_the_uninterrupted_one(folder, tmp_path):
    found = find_checkpoints(folder, opened)
    whole = timeline(found, measures(), tmp_path / "whole")
    seen = []

    def stopping(subject):
        if len(seen) == 2:
            raise Stopped
        seen.append(subject)
        return {"weight norm": weight_norm()(subject)["weight norm"]}

    broken = [m if m.name != "weight norm" else Function("weight norm", stopping) for m in measures()]
    with pytest.raises(Stopped):
        timeline(found, broken, tmp_path / "broken")
    rows = tmp_path / "broken" / "rows.jsonl"
    assert len(rows.read_text().splitlines()) == 2
    rows.write_text(rows.read_text() + '{"step": 100, "cut sh')  # a kill in mid-line
    again = timeline(found, measures(), tmp_path / "broken")
    assert again.series == whole.series or str(again.series) == str(whole.series)
    assert np.array_equal(again.arrays["outputs"], whole.arrays["outputs"])
    assert [json.loads(line)["step"] for line in rows.read_text().splitlines()] == [0, 10, 100, 1000]


def test_a_folder_of_other_measures_is_refused(folder, tmp_path):
    found = find_checkpoints(folder, opened)
    timeline(found, [weight_norm()], tmp_path / "out")
    with pytest.raises(InputError, match="other measures or settings"):
        timeline(found, [weight_norm("norm")], tmp_path / "out")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="other files"):
        timeline(found, [weight_norm()], tmp_path / "theirs")


def test_nan_is_kept_and_said(folder):
    torch_nan = torch.full((2, 3), float("nan"))
    save_file({"weight": torch_nan}, folder / "step-000100" / "model.safetensors")
    line = timeline(find_checkpoints(folder, opened), measures()[:2])
    assert math.isnan(line.values("loss")[2])
    assert "NaN" in line.series["loss"][2].note
    assert math.isnan(line.values("llc")[2])
    assert np.isfinite(line.values("loss")[[0, 1, 3]]).all()
    body = line.with_changepoints().to_json()
    assert body["panels"][0]["values"][2] is None
    json.dumps(body, allow_nan=False)
    assert "-!" in str(line)


def test_one_checkpoint_is_no_timeline(folder, tmp_path):
    import shutil

    for step in ("000010", "000100", "001000"):
        shutil.rmtree(folder / f"step-{step}")
    with pytest.raises(InputError, match="at least two checkpoints"):
        find_checkpoints(folder, opened)
    with pytest.raises(InputError, match="no checkpoints at"):
        find_checkpoints(tmp_path / "nowhere")


def test_checkpoints_of_different_shapes_are_refused_by_name(folder):
    save_file({"weight": torch.ones(2, 5)}, folder / "step-000100" / "model.safetensors")
    with pytest.raises(InputError, match=r"step-000100 is another architecture.*weight is \(2, 5\)"):
        timeline(find_checkpoints(folder, opened), [weight_norm()])


def test_names_give_steps_in_order(tmp_path):
    for name in ("checkpoint-20", "checkpoint-3", "checkpoint-100"):
        (tmp_path / name).mkdir()
        save_file({"weight": torch.ones(1, 1)}, tmp_path / name / "model.safetensors")
    found = find_checkpoints(tmp_path)
    assert [one.step for one in found.items] == [3, 20, 100]
    assert [one.step for one in find_checkpoints(tmp_path, every=2).items] == [3, 100]
    hub = find_checkpoints("someone/model@step0,step512,step1000")
    assert [one.step for one in hub.items] == [0, 512, 1000]
    assert hub.items[1].source == "someone/model@step512"
    with pytest.raises(InputError, match="no step in the name"):
        find_checkpoints([tmp_path / "checkpoint-3", tmp_path])


def test_two_measures_of_one_name_are_refused(folder):
    with pytest.raises(InputError, match="different names"):
        timeline(find_checkpoints(folder, opened), [weight_norm(), weight_norm()])


def test_any_function_is_a_measure(folder):
    mine = Function("mine", lambda module: {"a": 1.0, "b": Estimate(name="b", value=2.0, n=3, unit=" nats")})
    line = timeline(find_checkpoints(folder, opened), [mine])
    assert line.series["b"][0].unit == "nats"
    assert line.series["b"][0].n == 3


def test_more_checkpoints_go_on_and_another_training_is_refused(folder, tmp_path):
    found = find_checkpoints(folder, opened)
    seen = []
    mine = Function("mine", lambda module: seen.append(module) or {"mine": float(module.weight.detach().sum())})
    timeline(find_checkpoints(folder, opened, every=3), [mine], tmp_path / "out")
    assert len(seen) == 2
    line = timeline(found, [mine], tmp_path / "out")
    assert len(seen) == 4
    assert line.steps == (0, 10, 100, 1000)
    moved = tmp_path / "moved"
    folder.rename(moved)
    with pytest.raises(InputError, match="of one training"):
        timeline(find_checkpoints(moved, opened), [mine], tmp_path / "out")


def test_a_folder_without_checkpoints_says_what_it_holds(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="in it: nothing"):
        find_checkpoints(tmp_path / "empty")
    with pytest.raises(InputError, match="one checkpoint, not several"):
        find_checkpoints(folder / "step-000010")
    old = tmp_path / "old" / "checkpoint-5"
    old.mkdir(parents=True)
    (old / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(InputError, match="only pickled weights"):
        find_checkpoints(tmp_path / "old")


def test_a_damaged_file_is_named(folder):
    whole = (folder / "step-000100" / "model.safetensors").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not tensors at all, only words"):
        (folder / "step-000100" / "model.safetensors").write_bytes(damaged)
        with pytest.raises(InputError, match=r"checkpoint step-000100 .* cannot be read"):
            timeline(find_checkpoints(folder, opened), [weight_norm()])


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("rows.jsonl", "{broken\n", "line 1: no row"),
        ("rows.jsonl", '{"step": 1}\n', "line 1: no row"),
        ("rows.jsonl", '{"step": 1, "label": "", "source": "", "values": {"loss": 3}, "arrays": []}\n', "'loss' is no"),
        (
            "rows.jsonl",
            '{"step": 1, "label": "", "source": "", "values": {"a": {"value": "x"}}, "arrays": []}\n',
            "'a' is",
        ),
        ("settings.json", "[]", "no settings"),
        ("settings.json", '{"measures": []}', "no settings"),
        ("arrays/*", None, "missing or damaged"),
        ("arrays/*", "short", "missing or damaged"),
    ],
)
def test_a_damaged_timeline_is_refused_by_name(folder, tmp_path, file, text, said):
    found = find_checkpoints(folder, opened)
    measures = [Function("norm", lambda subject: {"norm": 1.0, "kept": np.ones(3)})]
    timeline(found, measures, tmp_path / "out")
    damaged = sorted((tmp_path / "out").glob(file))[0]
    damaged.unlink() if text is None else damaged.write_text(text)
    with pytest.raises(InputError, match=said):
        timeline(found, measures, tmp_path / "out")


def test_a_step_that_is_too_large_leaves_a_gap_with_its_reason(folder):
    wild = llc_measure(DATA, Setting(1e4, 1.0, 10.0, chains=2, draws=60, burn_in=0))
    line = timeline(find_checkpoints(folder, opened), [wild])
    assert np.isnan(line.values("llc")).all()
    assert "left the floats" in line.series["llc"][0].note
    assert line.with_changepoints().found == {}


def hub_layout(cache, repository: str, revisions: dict[str, nn.Module]) -> None:
    """The layout of the hub's cache: refs name snapshots by commit."""
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    for i, (revision, model) in enumerate(revisions.items()):
        commit = f"{i:040x}"
        (root / "refs" / revision).write_text(commit)
        model.save_pretrained(root / "snapshots" / commit)


def test_hub_revisions_are_read_from_the_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 8, "vocab_size": 20, "n_positions": 12}
    models = {}
    for i, revision in enumerate(("step0", "step512", "step1000")):
        torch.manual_seed(i)
        models[revision] = GPT2LMHeadModel(GPT2Config(**sizes))
    hub_layout(tmp_path, "someone/small", models)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    line = timeline(find_checkpoints("someone/small@step1000,step0,step512"), [weight_norm()])
    assert line.steps == (0, 512, 1000)
    for i, model in enumerate(models.values()):
        norm = sum(p.square().sum() for p in model.parameters()).sqrt()
        assert line.values("weight norm")[i] == pytest.approx(float(norm), rel=1e-5)
    with pytest.raises(InputError, match="'step9' of 'someone/small' is neither"):
        timeline(find_checkpoints("someone/small@step0,step9"), [weight_norm()])


def test_checkpoints_without_a_tokenizer_take_the_one_above_them():
    found = find_checkpoints("almanac", every=11)
    assert found.open(found.items[0]).tokenizer is not None
