"""Progress of long work, on stderr: nothing for the first seconds, then a line now and again."""

from __future__ import annotations

import math
import sys
import time
from typing import Any


class Progress:
    """`step(k)` after k units of `total` are done. On a terminal the line is written over, elsewhere one a while."""

    def __init__(self, total: float, what: str, unit: str = "", shown: bool | None = None, after: float = 3.0) -> None:
        self.total, self.what, self.unit, self.after = total, what, unit, after
        self.shown = True if shown is None else shown
        self.done = 0.0
        self.begun = self._last = time.monotonic()
        self._written = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._written and sys.stderr.isatty():
            print(file=sys.stderr)

    def step(self, units: float) -> None:
        self.done += units
        now = time.monotonic()
        tty = sys.stderr.isatty()
        if not self.shown or now - self.begun < self.after or now - self._last < (0.2 if tty else 10.0):
            return
        self._last, self._written = now, True
        if math.isnan(self.total):
            line = f"{self.what}: {self.done:,.0f} {self.unit}"
        else:
            share = min(1.0, self.done / max(self.total, 1e-12))
            left = (now - self.begun) * (1 - share) / max(share, 1e-12)
            line = f"{self.what}: {share:4.0%} of {self.total:,.0f} {self.unit}, about {_time(left)} left"
        print(f"\r{line}\x1b[K" if tty else line, end="" if tty else "\n", file=sys.stderr, flush=True)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
