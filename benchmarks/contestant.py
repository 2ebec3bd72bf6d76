"""A contestant of a benchmark: a process, in its own environment, that answers questions on a line of JSON each."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from typing import Any


class Contestant:
    """Runs `code`, which first prints one object (what it can do: `ready`), then one for each line that it is asked.

    Where an answer takes longer than `limit` seconds the process is ended; where it fails at one it has ended itself.
    `out` says which, and it is asked no more.
    """

    def __init__(self, python: str, code: str, *more: str, limit: float | None = None) -> None:
        self.limit, self.out = limit, ""
        self.ready: dict[str, Any] = {}
        self.process = subprocess.Popen(
            [python, "-c", code, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )  # fmt: skip
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.ready = self.answer() or sys.exit("a contestant was not ready in time")

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def ask(self, **question: Any) -> dict[str, Any]:
        """The answer; ends the benchmark where there is none."""
        return self.try_ask(**question) or sys.exit(f"a contestant gave no answer: {self.out}")

    def try_ask(self, **question: Any) -> dict[str, Any] | None:
        """The answer, or None from one that took too long, now or before."""
        if self.out:
            return None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any] | None:
        while True:
            try:
                line = self._lines.get(timeout=self.limit)
            except queue.Empty:
                self.out = f"over {self.limit:.0f} s"
                self.process.kill()
                return None
            if line is None:
                self.out = "failed"  # its own error is on stderr
                return None
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def table(rows: list[list[str]]) -> str:
    """Markdown, the first row being its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
