"""Two processes train what one does, each with a share of the batch or of the features: twenty steps in float64, dead
features too; and the trainer itself, model, checkpoints and last phase."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from features.tiny import tiny_llama
from safetensors.torch import load_file, save_file

from cutaway.core import InputError
from cutaway.features import ARCHITECTURES, DictionarySettings, TrainSettings, fit_rows, processes, train
from cutaway.features.learner import Learner

RUN = """
import pathlib, sys, torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
from cutaway.features import processes
from features import test_parallel
with processes.launched():
    for what in {jobs!r}:
        test_parallel.JOBS[what](pathlib.Path({folder!r}) / f"{{what}}.safetensors")
"""


def settings(rule):
    return DictionarySettings(
        name=rule, kind="sae", at="resid_post.0", features=40, l0=3, activation=rule, dead_after=150,
        **{**ARCHITECTURES[rule].recipe, "pre_activation": 0.01},
    )  # fmt: skip


def rows():
    g = torch.Generator().manual_seed(0)
    # Uneven on purpose: a few huge rows make the whole batch's threshold differ from each half's.
    size = torch.where(torch.rand(640, 1, generator=g) < 0.1, 8.0, 1.0)
    return (torch.randn(640, 12, generator=g) * size).double()


def kept(out, made):
    if processes.is_main():
        save_file({f"{n}.{k}": v.contiguous() for n, sae in made.items() for k, v in sae.tensors().items()}, out)


def batch_shared(out):
    run = TrainSettings(dictionaries=tuple(map(settings, ARCHITECTURES)), tokens=20 * 64, batch=64)
    kept(out, fit_rows(rows(), run))


def features_shared(out):
    rules = [rule for rule in ARCHITECTURES if rule != "matching_pursuit"]  # which is refused
    run = TrainSettings(dictionaries=tuple(map(settings, rules)), tokens=20 * 64, batch=64)
    kept(out, fit_rows(rows(), run, split="features"))


def trained(out, split="batch", folder=None):
    """The trainer itself: a model's stream, a cross-layer transcoder, its last phase, a checkpoint, an SAE beside."""
    rows = torch.randint(1, 37, (60, 12), generator=torch.Generator().manual_seed(3), dtype=torch.int32)
    clt = DictionarySettings(name="clt", features=24, l0=3, finetune=128, dead_after=100)
    sae = settings("jumprelu").model_copy(update={"at": "z.1"})
    run = TrainSettings(dictionaries=(clt, sae), tokens=512, batch=64, block=300, bf16=False)
    folder = folder or out.parent / f"{split}{processes.world()}"
    made = train(tiny_llama(), rows, run, folder, split=split, checkpoint_steps=3, quiet=True)
    if processes.is_main():
        assert len((folder / "training" / "log.jsonl").read_text().splitlines()) == 1
        held = {f"clt.{i}.{k}": v for i, layer in enumerate(made["clt"].layers) for k, v in layer.tensors().items()}
        held |= {f"sae.{k}": v for k, v in made["jumprelu"].tensors().items()}
        save_file({name: value.contiguous() for name, value in held.items()}, out)


def trained_by_features(out):
    trained(out, "features")


def begun_by_features(out):
    """Stopped after its sixth step, behind a checkpoint."""
    update, steps = Learner.update, []

    def stopping(self, *arguments):
        if self.settings.name == "clt":
            steps.append(None)
            if len(steps) > 6:
                raise KeyboardInterrupt
        update(self, *arguments)

    Learner.update = stopping
    try:
        with contextlib.suppress(KeyboardInterrupt):
            trained(out, "features", out.parent / "begun")
    finally:
        Learner.update = update
    if processes.is_main():
        save_file({"steps": torch.tensor(len(steps))}, out)


JOBS = {job.__name__: job for job in (batch_shared, features_shared, trained, trained_by_features, begun_by_features)}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder where two processes, begun once, have done every job; each job's tensors lie under its name."""
    folder = tmp_path_factory.mktemp("two")
    script = folder / "run.py"
    script.write_text(RUN.format(tests=str(Path(__file__).parents[1]), folder=str(folder), jobs=list(JOBS)))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def trained_alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "one.safetensors"
    trained(out)
    return load_file(out)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["batch_shared", "features_shared"])
def test_two_processes_end_where_one_does(tmp_path, two, what):
    both = load_file(two / f"{what}.safetensors")
    batch_shared(tmp_path / "one.safetensors")  # alone, nothing is shared
    one = load_file(tmp_path / "one.safetensors")
    assert one["batchtopk.W_dec"].dtype == torch.float64
    assert {name.partition(".")[0] for name in both} >= set(ARCHITECTURES) - {"matching_pursuit"}
    for name, value in both.items():
        assert (value - one[name]).abs().max() < 1e-8, name
    # They moved, so that agreeing means something.
    start = fit_rows(rows(), TrainSettings(dictionaries=(settings("batchtopk"),), tokens=64, batch=64))["batchtopk"]
    assert (one["batchtopk.W_dec"] - start.W_dec).abs().max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("what", ["trained", "trained_by_features"])
def test_the_trainer_in_two_processes_makes_what_it_makes_in_one(two, trained_alone, what):
    both = load_file(two / f"{what}.safetensors")
    for name, value in trained_alone.items():
        torch.testing.assert_close(both[name], value, rtol=2e-3, atol=2e-3, msg=name)  # float32: forwards of other rows


@pytest.mark.slow
def test_what_two_processes_began_one_ends(tmp_path, two, trained_alone):
    assert int(load_file(two / "begun_by_features.safetensors")["steps"]) == 7
    shutil.copytree(two / "begun", tmp_path / "begun")
    trained(tmp_path / "ended.safetensors", folder=tmp_path / "begun")
    ended = load_file(tmp_path / "ended.safetensors")
    for name, value in trained_alone.items():
        torch.testing.assert_close(ended[name], value, rtol=2e-3, atol=2e-3, msg=name)


class TestRefused:
    @pytest.fixture(autouse=True)
    def _two_processes(self, monkeypatch):
        """As if a second were there, for what is refused before anything is told to it."""
        monkeypatch.setattr(processes, "active", lambda: True)
        monkeypatch.setattr(processes, "world", lambda: 2)
        monkeypatch.setattr(processes, "rank", lambda: 0)

    def one(self, split="batch", batch=64, **change):
        held = settings("batchtopk").model_copy(update=change)
        return fit_rows(rows(), TrainSettings(dictionaries=(held,), tokens=64, batch=batch), split=split)

    def test_resampling_draws_from_the_whole_batch(self):
        with pytest.raises(InputError, match="resampling"):
            self.one(resample=9)

    def test_a_batch_or_features_that_do_not_divide(self):
        with pytest.raises(InputError, match=r"65.*does not divide over 2"):
            self.one(batch=65)
        with pytest.raises(InputError, match=r"features.*41.*does not divide over 2"):
            self.one("features", features=41)

    def test_matching_pursuit_keeps_its_features_together(self):
        with pytest.raises(InputError, match="split the batch"):
            self.one("features", activation="matching_pursuit")

    def test_an_unknown_split(self):
        with pytest.raises(InputError, match="batch or features"):
            self.one("layers")
