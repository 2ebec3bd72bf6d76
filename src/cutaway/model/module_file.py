"""A module of one's own, from `file.py:factory`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import nn

from cutaway.core import InputError, UnknownName
from cutaway.core.own_file import run_own, where

_SPEC = re.compile(r"\.py:\w*$")


def is_spec(source: object) -> bool:
    """Whether a text names a factory in a file rather than a model."""
    return isinstance(source, str) and _SPEC.search(source) is not None


def load_module(spec: str) -> nn.Module:
    """The module that `factory()` in a Python file makes: `load_module("net.py:make")`. A name that already is a module
    is taken as it is. The file is run, with its own folder first on the path of imports while it is.

    Raises InputError: no `file.py:name`, no such file, a file or factory that fails (with the line of it), no such
    name (with the nearest), or something that is no nn.Module.
    """
    return load_own(spec)[0]


def load_own(spec: str) -> tuple[nn.Module, Any]:
    """(module, tokenizer) of a factory that gives both; the tokenizer is None where it gives a module alone. As
    `load_module`, which says what is raised."""
    file, colon, name = spec.rpartition(":")
    path = Path(file).expanduser()
    if not colon or not name.isidentifier() or path.suffix != ".py":
        raise InputError(f"a module is given as file.py:factory, for example net.py:make; given {spec!r}.")
    module = run_own(path, spec)
    names = vars(module)
    if name not in names:
        own = [n for n, value in names.items() if getattr(value, "__module__", None) == module.__name__]
        modules = [n for n, value in names.items() if isinstance(value, nn.Module)]
        known = [*(n for n in own if not n.startswith("_") and callable(names[n])), *modules]
        raise UnknownName(f"name in {path.name}", name, known)
    made: Any = names[name]
    if not isinstance(made, nn.Module):
        if not callable(made):
            raise InputError(f"{spec} is {type(made).__name__}; give a function that makes an nn.Module.")
        try:
            made = made()
        except Exception as error:
            raise InputError(f"{spec}() fails: {where(error, path)}") from error
    tokenizer = None
    if isinstance(made, tuple) and len(made) == 2:
        made, tokenizer = made
    if not isinstance(made, nn.Module):
        raise InputError(f"{spec}() gives {type(made).__name__}; it must give an nn.Module, or (module, tokenizer).")
    return made, tokenizer
