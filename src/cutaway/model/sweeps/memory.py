"""How much memory a batch takes, measured: the most bytes of tensors alive at once while it runs."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cutaway.core import InputError
from cutaway.core.numbers import finite

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class _Tensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of every storage made while it is on, until it is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {_storage(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and _storage(x) not in given:  # a view of a weight is no memory of ours
                self._count(x)
        return result

    def _count(self, x: Tensor) -> None:
        storage = x.untyped_storage()
        key, size = _storage(x), storage.nbytes()
        if key in self._known or size == 0:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def _storage(x: Tensor) -> int:
    key: int = x.untyped_storage()._cdata
    return key


def peak(work: Callable[[], Any], device: torch.device) -> int:
    """Bytes that `work` holds at its highest, beyond what was held before. Runs it once."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device)) - int(before)
    with _Tensors() as seen:
        work()
    highest: int = seen.peak
    return highest


def free(device: torch.device) -> int:
    """Bytes that could be taken on the device: what CUDA reports, or what the system says is available."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            found = re.search(r"MemAvailable:\s+(\d+) kB", file.read())
    except OSError:
        found = None
    return int(found[1]) << 10 if found else 4 << 30


def in_bytes(value: int | float | str) -> int:
    """A number of bytes, or text as "2GB", "512 MiB" (both in powers of 1024). Raises InputError."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", value.lower())
        if match is None:
            raise InputError(f"memory= is a number of bytes or text as '2GB'; given {value!r}.")
        value = float(match[1]) * _UNITS[match[2]]
    return int(finite(value, "memory=, in bytes,", 1))
