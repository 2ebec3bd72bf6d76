"""Two processes train what one does: twenty steps in float64, one threshold over the whole batch, dead features too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cutaway.features import ARCHITECTURES, DictionarySettings, TrainSettings, fit_rows, processes

RUN = """
import sys, torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
from cutaway.features import processes
from features import test_parallel
with processes.launched():
    test_parallel.{what}({out!r})
"""
RULES = tuple(rule for rule in ARCHITECTURES if rule != "matching_pursuit")


def settings(rule):
    return DictionarySettings(
        name=rule, kind="sae", at="resid_post.0", features=40, l0=3, activation=rule, dead_after=150,
        pre_activation=0.01, **ARCHITECTURES[rule].recipe,
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
    run = TrainSettings(dictionaries=tuple(map(settings, RULES)), tokens=20 * 64, batch=64)
    kept(out, fit_rows(rows(), run))


def features_shared(out):
    run = TrainSettings(dictionaries=tuple(map(settings, RULES)), tokens=20 * 64, batch=64)
    kept(out, fit_rows(rows(), run, split="features"))


def run(out, world, what):
    out.with_suffix(".py").write_text(RUN.format(tests=str(Path(__file__).parents[1]), out=str(out), what=what))
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"] if world > 1 else []
    done = subprocess.run(
        [sys.executable, *torchrun, str(out.with_suffix(".py"))], env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(out)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["batch_shared", "features_shared"])
def test_two_processes_end_where_one_does(tmp_path, what):
    two = run(tmp_path / "two.safetensors", 2, what)
    batch_shared(tmp_path / "one.safetensors")  # alone, nothing is shared
    one = load_file(tmp_path / "one.safetensors")
    assert one["batchtopk.W_dec"].dtype == torch.float64
    assert set(one) == set(two)
    for name, value in one.items():
        assert (value - two[name]).abs().max() < 1e-8, name
    # They moved, so that agreeing means something.
    start = fit_rows(rows(), TrainSettings(dictionaries=(settings("batchtopk"),), tokens=64, batch=64))["batchtopk"]
    assert (one["batchtopk.W_dec"] - start.W_dec).abs().max() > 1e-2
