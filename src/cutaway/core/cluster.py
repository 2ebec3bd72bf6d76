"""The same work on many things: one after the other here, or spread over a Ray cluster, with the same results."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from cutaway.core.errors import CutawayError, InputError

T = TypeVar("T")
R = TypeVar("R")
LOCAL = "local"
RETRIES = 3  # of a piece whose worker was lost


def mapped(work: Callable[[Any, T], R], items: Iterable[T], shared: Any = None, ray: str | None = None) -> Iterator[R]:
    """work(shared, item) for each item, in their order, each given out as soon as those before it are done.

    ray: None runs them here; "local" starts workers on this machine, one a core; "auto" or an address ("ray://…",
    "host:port") joins a cluster, whose machines have the same Cutaway installed and see the same files. `shared` (a
    model) is sent once, not with each item. What a lost worker was doing is done again, up to three times; so `work`
    must do no harm when it is done twice. A worker has one thread.
    Raises InputError where Ray is not installed or the cluster is not reached; CutawayError where a piece failed for
    good. What `work` raises is raised here.
    """
    if ray is None:
        for item in items:
            yield work(shared, item)
        return
    with _joined(ray) as cluster:
        run = cluster.remote(_one).options(max_retries=RETRIES, num_cpus=1)
        kept = cluster.put((work, shared))
        waiting = [run.remote(kept, item) for item in items]
        while waiting:
            try:
                yield cluster.get(waiting.pop(0))
            except cluster.exceptions.RayTaskError as error:
                raise (error.cause or error) from None
            except cluster.exceptions.RayError as error:
                raise CutawayError(f"a piece was lost on the cluster {1 + RETRIES} times: {error}") from error


def _one(kept: tuple[Callable[[Any, T], R], Any], item: T) -> R:
    import torch

    torch.set_num_threads(1)
    work, shared = kept
    return work(shared, item)


@contextmanager
def _joined(address: str) -> Iterator[Any]:
    try:
        import ray
    except ImportError:
        raise InputError('Ray is not installed: pip install "cutaway[ray]", or leave --ray out.') from None
    if ray.is_initialized():  # the caller's own: it is left as it is
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    here: dict[str, Any] = {"_node_ip_address": "127.0.0.1"} if address == LOCAL else {}
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **here)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"no Ray cluster at {address!r}: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
