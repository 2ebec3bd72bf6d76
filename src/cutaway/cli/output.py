"""What every verb prints: results on stdout (a table, or with --json one object), everything else on stderr."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import typer

JSON = typer.Option(False, "--json", help="Print one JSON object on stdout, nothing else.")


def print_json(schema: str, body: dict[str, Any]) -> None:
    """One object on stdout, its `schema` first. Numbers that are not finite are an error of ours, never printed."""
    utf8 = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    json.dump({"schema": schema, **body}, sys.stdout, ensure_ascii=not utf8, allow_nan=False)
    sys.stdout.write("\n")


def print_result(result: Any, out: Path | None, as_json: bool) -> None:
    """A result's table, or its JSON with the folder where its study lies."""
    if as_json:
        body = result.to_json()
        print_json(body.pop("schema"), {**body, "out": None if out is None else str(out)})
    else:
        print(result)


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


# What tables are drawn with, in the letters that every terminal has.
_PLAIN = {"→": "->", "…": "...", "·": ".", "×": "x", "⏎": "\\n", "␣": "_", "–": "-", "—": "-", "≤": "<=", "≥": ">="}


def spell_for_terminal(stream: TextIO) -> None:
    """Where a terminal's encoding lacks a letter, print a plain one, or its escape: never an error in mid-table."""
    codecs.register_error("cutaway-plain", _plain)
    if hasattr(stream, "reconfigure") and (stream.encoding or "").lower().replace("-", "") != "utf8":
        stream.reconfigure(errors="cutaway-plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    spelled = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in missing)
    return "".join(spelled), error.end
