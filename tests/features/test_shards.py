"""Shards hold what the model computes, say so by hash, and a run that was cut short ends with the same bytes."""

from __future__ import annotations

import json

import pytest
import torch

from cutaway.core import InputError
from cutaway.features.shards import INDEX, open_shards, write_shards

POINTS = ["resid_post.0", "z.1"]


def made(model, rows, out, **more):
    return write_shards(model, rows, POINTS, out, rows_a_shard=16, **{"dtype": "float32", **more})


def test_every_activation_is_there_once_and_points_go_together(model, rows, tmp_path):
    kept = made(model, rows, tmp_path)
    run = model.run(rows.long(), read=POINTS)
    assert kept.n == rows.numel()
    assert len(kept) == 4
    together = torch.cat([kept.rows(p) for p in POINTS], 1)
    expected = torch.cat([run[p].flatten(2).flatten(0, 1) for p in POINTS], 1)

    def ordered(x):
        return x[(x[:, 0] * 1e6).round().argsort(stable=True)]

    torch.testing.assert_close(ordered(together), ordered(expected), rtol=1e-4, atol=1e-4)
    assert not torch.equal(together, expected)  # shuffled
    assert kept.rows("z.1", limit=5).shape == (5, 16)


@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 2**-8), ("int8", 0.5 / 127)])
def test_narrow_numbers_err_by_no_more_than_half_a_step(model, rows, tmp_path, dtype, error):
    exact, narrow = made(model, rows, tmp_path / "a"), made(model, rows, tmp_path / "b", dtype=dtype)
    x, y = exact.rows("resid_post.0"), narrow.rows("resid_post.0")
    scale = x.abs().amax(1, keepdim=True) if dtype == "int8" else x.abs()
    assert ((x - y).abs() <= error * scale + 1e-6).all()
    size = [(tmp_path / f / "shard_00000.safetensors").stat().st_size for f in "ab"]
    assert size[1] < 0.6 * size[0]


def test_a_run_cut_short_goes_on_to_the_same_bytes(model, rows, tmp_path):
    made(model, rows, tmp_path / "whole")

    def stop(message):
        if message.startswith("shard 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(model, rows, tmp_path / "cut", on=stop)
    with pytest.raises(InputError, match="cut short after 2 shards"):
        open_shards(tmp_path / "cut")
    said = []
    made(model, rows, tmp_path / "cut", on=said.append)
    assert len(said) == 2
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "cut" / path.name).read_bytes()


def test_an_altered_truncated_or_missing_shard_is_named_with_its_hash(model, rows, tmp_path):
    kept = made(model, rows, tmp_path)
    digest = json.loads((tmp_path / INDEX).read_text())["shards"][1]["sha256"]
    path = tmp_path / "shard_00001.safetensors"
    whole = path.read_bytes()
    for broken in (whole[:-3], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=f"shard_00001.safetensors is altered or cut short.*{digest}"):
            list(kept)
    path.unlink()
    with pytest.raises(InputError, match=f"missing.*{digest}"):
        kept.read(1)


def test_other_settings_and_wrong_use_are_refused(model, rows, tmp_path):
    made(model, rows, tmp_path)
    with pytest.raises(InputError, match="seed differ"):
        made(model, rows, tmp_path, seed=1)
    with pytest.raises(InputError, match="float32, bfloat16 or int8"):
        made(model, rows, tmp_path / "x", dtype="int4")
    with pytest.raises(InputError, match="holds no shards"):
        open_shards(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"not resid_post\.1"):
        open_shards(tmp_path).rows("resid_post.1")
