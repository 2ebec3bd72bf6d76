"""The live frontier of a training run on stderr, and its log on disk."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from cutaway.features.learner import Step


class Frontier:
    """Shows where a run is: rewritten in place on a terminal, a block of lines now and then elsewhere."""

    def __init__(
        self,
        steps: int,
        batch: int,
        log: Path | None,
        *,
        start: int = 0,
        every: float = 15.0,
        stream: TextIO | None = None,
    ) -> None:
        self.steps, self.batch, self.log, self.every = steps, batch, log, every
        self.stream = sys.stderr if stream is None else stream
        self.live = self.stream.isatty()
        self.begun = self.shown = time.monotonic()
        self.first = start
        self.lines = 0

    def update(self, step: int, tokens: int, reports: Mapping[str, Step], note: str = "", **more: Any) -> None:
        """After `step` steps and `tokens` tokens in all; `reports` by dictionary. Appends one line to the log."""
        now = time.monotonic()
        done = step - self.first
        rate = done * self.batch / (now - self.begun) if done and now > self.begun else 0.0
        if self.log is not None:
            numbers = {name: vars(report) for name, report in reports.items()}
            entry = {"step": step, "tokens": tokens, "phase": note or "reconstruction", "dictionaries": numbers, **more}
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**entry, "tokens_per_second": round(rate)}) + "\n")
        if not self.live and now - self.shown < self.every and step < self.steps and done:
            return
        self.shown = now
        left = (self.steps - step) * self.batch / rate if rate else None
        self._draw(
            [
                f"step {step:,}/{self.steps:,}  {tokens:,} tokens  {rate:,.0f} tokens/s  "
                f"{_duration(left)} left{'  ' + note if note else ''}",
                *(f"  {name:10} {_summary(report)}" for name, report in reports.items()),
            ]
        )

    def say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)
        self.lines = 0

    def _draw(self, lines: list[str]) -> None:
        up = f"\x1b[{self.lines}F\x1b[J" if self.live and self.lines else ""
        self.stream.write(up + "\n".join(lines) + "\n")
        self.stream.flush()
        self.lines = len(lines)


def _summary(report: Step) -> str:
    n = len(report.l0)
    l0, explained = sum(report.l0) / n, sum(report.explained_variance) / n
    errors = " ".join(f"{error:.3f}" for error in report.median_error)
    return (
        f"loss {report.loss:.3f}  L0 {l0:.1f}  explained variance {explained:.3f}  median error {errors}  "
        f"dead {report.dead:.1%}"
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
