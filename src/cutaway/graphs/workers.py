"""Many medium-sized tensor jobs on a CPU: one thread a job beats many threads an operation.

Products of a few hundred rows spend more time waiting for a second thread than it saves, most of all on a busy machine
(a build beside two other processes: 0.06 s against 1 s for a forward of six small layers).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")
_workers: ContextVar[int | None] = ContextVar("workers", default=None)


def workers() -> int:
    """How many jobs run at once: torch's number of threads, as it was outside `one_thread_an_operation`."""
    return _workers.get() or torch.get_num_threads()


@contextmanager
def one_thread_an_operation() -> Iterator[None]:
    """Torch uses one thread an operation, in the whole process, until this ends; `in_order` still runs jobs at once."""
    before, token = torch.get_num_threads(), _workers.set(workers())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        _workers.reset(token)
        torch.set_num_threads(before)


def in_order(work: Callable[[T], R], jobs: Sequence[T], *, on_cpu: bool) -> Iterator[R]:
    """`work` of each job, in the jobs' order; on a CPU as many at once as there are workers."""
    at_once = min(workers(), len(jobs)) if on_cpu else 1
    if at_once <= 1:
        yield from map(work, jobs)
        return
    with one_thread_an_operation(), ThreadPoolExecutor(at_once) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(work, job))
                if len(waiting) > at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
