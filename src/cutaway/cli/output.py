"""What every verb prints: results on stdout (a table, or with --json one object), everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

JSON = typer.Option(False, "--json", help="Print one JSON object on stdout, nothing else.")


def print_json(schema: str, body: dict[str, Any]) -> None:
    """One object on stdout, its `schema` first. Numbers that are not finite are an error of ours, never printed."""
    json.dump({"schema": schema, **body}, sys.stdout, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def say(message: str) -> None:
    """A line on stderr: progress, warnings, where things were written."""
    print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    say(f"cutaway: warning: {message}")


@contextmanager
def step(message: str) -> Iterator[None]:
    """A spinner on stderr while something runs; a plain line where stderr is no terminal."""
    if not sys.stderr.isatty():
        say(f"{message} …")
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{message} …"):
        yield
