"""Many medium-sized tensor jobs on a CPU: one thread a job beats many threads an operation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], jobs: Sequence[T], *, on_cpu: bool) -> Iterator[R]:
    """`work` of each job, in the jobs' order; on a CPU as many at once as torch has threads.

    For its duration torch uses one thread an operation, in the whole process: products of a few hundred rows spend more
    time waiting for a second thread than it saves, most of all on a busy machine.
    """
    workers = min(torch.get_num_threads(), len(jobs)) if on_cpu else 1
    if workers <= 1:
        yield from map(work, jobs)
        return
    with _single_threaded(), ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(work, job))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def _single_threaded() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
