"""Two processes train what one does: twenty steps in float64, one threshold over the whole batch, dead features too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cutaway.core import InputError
from cutaway.features import DictionarySettings, TrainSettings, fit_rows
from cutaway.features.parallel import EXACT, checked

RUN = """
import sys, torch, torch.distributed as dist
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
from features import test_parallel
if {world} > 1:
    dist.init_process_group("gloo")
test_parallel.trained({out!r}, main=not dist.is_initialized() or dist.get_rank() == 0)
if dist.is_initialized():
    dist.destroy_process_group()
"""


def settings(rule):
    more = {"sparsity": 0.05} if rule == "relu" else {}
    return DictionarySettings(
        name=rule, kind="sae", at="resid_post.0", features=40, l0=3, activation=rule, dead_after=150, **more
    )


def rows():
    g = torch.Generator().manual_seed(0)
    # Uneven on purpose: a few huge rows make the whole batch's threshold differ from each half's.
    size = torch.where(torch.rand(640, 1, generator=g) < 0.1, 8.0, 1.0)
    return (torch.randn(640, 12, generator=g) * size).double()


def trained(out, main=True):
    made = fit_rows(rows(), TrainSettings(dictionaries=tuple(map(settings, EXACT)), tokens=20 * 64, batch=64))
    if main:
        tensors = {f"{n}.{k}": v.contiguous() for n, sae in made.items() for k, v in sae.tensors().items()}
        save_file(tensors, out)


def run(out, world):
    script = RUN.format(tests=str(Path(__file__).parents[1]), world=world, out=str(out))
    command = [sys.executable, "-c", script]
    if world > 1:
        path = out.with_suffix(".py")
        path.write_text(script)
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={world}",
            str(path),
        ]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(out)


@pytest.mark.slow
def test_two_processes_end_where_one_does(tmp_path):
    one, two = run(tmp_path / "one.safetensors", 1), run(tmp_path / "two.safetensors", 2)
    assert one["batchtopk.W_dec"].dtype == torch.float64
    assert set(one) == set(two)
    for name, value in one.items():
        assert (value - two[name]).abs().max() < 1e-8, name
    # They moved, so that agreeing means something.
    start = fit_rows(rows(), TrainSettings(dictionaries=(settings("batchtopk"),), tokens=64, batch=64))["batchtopk"]
    assert (one["batchtopk.W_dec"] - start.W_dec).abs().max() > 1e-2


@pytest.mark.parametrize("change", [{"activation": "jumprelu"}, {"adapt": 0.01, "activation": "relu"}, {"resample": 9}])
def test_what_is_no_mean_over_tokens_is_refused(change):
    with pytest.raises(InputError, match="means over tokens"):
        checked(DictionarySettings(name="x", kind="sae", at="resid_post.0", **change))
