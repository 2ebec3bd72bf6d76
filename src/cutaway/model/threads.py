"""One thread for small forwards on the CPU. Handing an operation of microseconds to many threads costs more than the
operation, and many times more where other processes use the cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# An operation of tokens * d_model^2 multiply-adds takes about 0.1 ms on one core; below that a second is in the way.
SMALL = 4_000_000

_DEFAULT = torch.get_num_threads()
_lock = threading.Lock()
_inside = 0
_before = _DEFAULT


def told() -> bool:
    """Whether somebody chose a number of threads: torch.set_num_threads, since this library was imported."""
    return (_before if _inside else torch.get_num_threads()) != _DEFAULT


@contextmanager
def suited(width: int, tokens: int, device: torch.device) -> Iterator[None]:
    """One thread inside, if the work is small, on the CPU, and nobody chose a number; afterwards as before.

    `width` is d_model (0: not known, and nothing is done), `tokens` how many positions run in all.
    """
    global _inside, _before
    if not width or device.type != "cpu" or tokens * width * width > SMALL or told():
        yield
        return
    with _lock:  # several runs may be inside at a time: the first remembers, the last puts back
        if not _inside:
            _before = torch.get_num_threads()
            torch.set_num_threads(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                torch.set_num_threads(_before)
