"""The Triton kernels against the CPU path, in Triton's interpreter: no GPU is needed, and none has run them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = "import sys; sys.path.insert(0, {tests!r}); from features import test_triton; test_triton.compared()"


def gradients(dtype):
    """Values and all gradients on random pairs; one token and one feature have none."""
    from cutaway.features.sparse import Active, at_features, decode, encode_at

    g = torch.Generator().manual_seed(0)
    n, F, d, m = 6, 40, 130, 257  # no multiples of a block
    fires = torch.rand(n, F, generator=g) < 0.2
    fires[3] = fires[:, 7] = False
    at = fires.nonzero()
    active = Active.of(at[:, 0], at[:, 1], n, F)
    x, W_enc, b, W_dec = (
        torch.randn(*s, generator=g).to(dtype).requires_grad_() for s in ((n, d), (F, d), (F,), (F, m))
    )
    values = encode_at(x, W_enc, b, active) * at_features(b.exp(), active)
    y = decode(values, W_dec, active)
    (y.square().sum() + values.sin().sum()).backward()
    return [y, values, x.grad, W_enc.grad, b.grad, W_dec.grad]


def compared():
    from cutaway.features import sparse, triton_kernels

    calls = []

    def counted(x):
        calls.append(x)
        return triton_kernels

    plain = sparse._kernels
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        expected = gradients(dtype)
        sparse._kernels = counted
        found = gradients(dtype)
        sparse._kernels = plain
        for ours, theirs in zip(found, expected):
            assert (ours - theirs).abs().max() < tolerance * theirs.abs().max()
    assert len(calls) >= 16


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_the_kernels_give_what_the_cpu_path_gives():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(tests=str(Path(__file__).parents[1]))], capture_output=True, text=True,
        timeout=300, check=False, env={**os.environ, "TRITON_INTERPRET": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
