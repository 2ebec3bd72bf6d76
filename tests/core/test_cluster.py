"""Work spread over processes gives what it gives here; a lost worker's piece is done again; errors come home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cutaway.core import CutawayError, InputError
from cutaway.core.cluster import mapped


def _times(shared, item):
    return shared * item, os.getpid()


def _dies_once(folder, item):
    marker = Path(folder) / f"seen-{item}"
    if item == 2 and not marker.exists():
        marker.write_text("")
        os._exit(1)  # as a machine that is lost
    return item


def _dies(shared, item):
    os._exit(1)


def _refuses(shared, item):
    raise InputError(f"{item} is no good.")


def test_without_a_cluster_things_are_done_here_in_order():
    assert list(mapped(_times, [1, 2, 3], 10)) == [(10, os.getpid()), (20, os.getpid()), (30, os.getpid())]
    assert list(mapped(_times, [])) == []


def test_a_cluster_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match="not installed"):
        list(mapped(_times, [1], 1, ray="local"))


@pytest.fixture(scope="module")
def two_workers():
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    paths = os.pathsep.join([str(Path(__file__).parent), *map(str, __import__("sys").path)])
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        _node_ip_address="127.0.0.1", runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )  # fmt: skip
    yield
    ray.shutdown()


def test_two_processes_give_what_one_gives_in_the_same_order(two_workers):
    found = list(mapped(_times, range(8), 10, ray="local"))
    assert [value for value, _ in found] == [10 * i for i in range(8)]
    assert os.getpid() not in {process for _, process in found}


def test_a_piece_of_a_lost_worker_is_done_again(two_workers, tmp_path):
    assert list(mapped(_dies_once, range(4), str(tmp_path), ray="local")) == [0, 1, 2, 3]
    assert (tmp_path / "seen-2").exists()


def test_what_goes_wrong_comes_home(two_workers, monkeypatch):
    with pytest.raises(InputError, match=r"^7 is no good\.$"):
        list(mapped(_refuses, [7], ray="local"))
    monkeypatch.setattr("cutaway.core.cluster.RETRIES", 0)
    with pytest.raises(CutawayError, match="lost on the cluster"):
        list(mapped(_dies, [1], ray="local"))


def test_shards_made_by_two_processes_hold_what_one_makes(two_workers, tmp_path):
    import torch

    import cutaway as cw
    from cutaway.features.shards import write_shards

    almanac = cw.load("almanac")
    rows = torch.randint(5, 400, (40, 12), generator=torch.Generator().manual_seed(0))
    points = ["resid_post.1", "z.0"]
    one, two = (
        write_shards(almanac, rows, points, tmp_path / name, rows_a_shard=8, dtype="float32", ray=ray)
        for name, ray in (("one", None), ("two", "local"))
    )
    assert len(one) == len(two) == 5
    assert one.index["finished"]
    for point in points:
        torch.testing.assert_close(one.rows(point), two.rows(point), rtol=1e-4, atol=1e-5)


def test_a_cluster_that_is_not_there_is_said():
    pytest.importorskip("ray", reason="Ray is not installed")
    import ray

    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(InputError, match="no Ray cluster at"):
        list(mapped(_times, [1], 1, ray="auto"))
