"""Errors that name what was given, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CutawayError(Exception):
    """A failure of the work itself (exit status 1 on the command line)."""


class InputError(CutawayError, ValueError):
    """Wrong use or bad input: the caller can mend it (exit status 2 on the command line)."""


class UnknownName(InputError):
    """A name that is not among the valid ones; the message carries the nearest."""

    def __init__(self, what: str, given: str, valid: Iterable[str], hint: str = "") -> None:
        self.given = given
        self.valid = tuple(valid)
        super().__init__(unknown(what, given, self.valid) + (f" {hint}" if hint else ""))


def unknown(what: str, given: str, valid: Iterable[str]) -> str:
    """`no point 'resid_psot.3'; the nearest: resid_post.3, …`"""
    names = list(dict.fromkeys(valid))
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    if near:
        return f"no {what} {given!r}; the nearest: {', '.join(near)}."
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"no {what} {given!r}; there are: {shown or 'none'}."


_MADE_BY = {"model": "cw.load({!r})", "task": "cw.task({!r}, model)"}


def refuse_name(call: str, **given: object) -> None:
    """Raise InputError where the name of a model or task stands for the thing: the commonest slip in a notebook.

    refuse_name("sweep", model=model, task=task)
    """
    for what, value in given.items():
        if isinstance(value, str):
            raise InputError(f"{call} takes a {what}, not its name: give {_MADE_BY[what].format(value)}.")
