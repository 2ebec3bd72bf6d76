"""A contestant of a benchmark: a process, in its own environment, that answers questions on a line of JSON each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any


class Contestant:
    """Runs `code`, which first prints one object (what it can do: `ready`), then one for each line that it is asked."""

    def __init__(self, python: str, code: str, *more: str) -> None:
        self.process = subprocess.Popen(
            [python, "-c", code, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )  # fmt: skip
        self.ready = self.answer()

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        sys.exit("a contestant's process ended")

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
