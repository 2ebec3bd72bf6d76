"""Compiled programs as a toy of the `cutaway toy` verb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cutaway.core import InputError, UnknownName
from cutaway.toys.rasp.library import program, program_names
from cutaway.toys.rasp.program import compile_program
from cutaway.toys.rasp.report import Shown, Table, show, table
from cutaway.toys.rasp.save import save
from cutaway.toys.rasp.vocabulary import Vocabulary
from cutaway.toys.registry import Asked

_OPTIONS = {
    "coldness": "sharpness of attention, 100 by default; 10 lets gradients through",
    "dtype": "float32 (default) or float64",
    "rotate": "a seed: turn the residual stream by a random rotation",
}
_KINDS = {"coldness": float, "dtype": str, "rotate": int}


def items() -> Mapping[str, str]:
    """Every program and what it computes."""
    return {name: program(name).about for name in program_names()}


def options() -> Mapping[str, str]:
    return _OPTIONS


def run(asked: Asked) -> Table | Shown:
    """One program in full, or the table of several (all by default). Raises UnknownName, InputError."""
    chosen = _options(asked.options)
    if len(asked.items) != 1:
        if asked.given is not None:
            raise InputError("an input is traced through one program; name it.")
        made = table(asked.items, exhaustive=asked.exhaustive, on=asked.on, **chosen)
        if asked.out is not None:
            for name in asked.items or program_names():
                save(compile_program(program(name), **chosen), asked.out / name)
        return made
    compiled = compile_program(program(asked.items[0]), **chosen)
    given = None if asked.given is None else _parsed(asked.given, compiled.vocabulary)
    asked.on(compiled.name)
    shown = show(compiled, given=given, exhaustive=asked.exhaustive)
    if asked.out is not None:
        save(compiled, asked.out)
    return shown


def _parsed(text: str, vocabulary: Vocabulary) -> list[Any]:
    """The words of `text` as values. Raises UnknownName."""
    known = dict(zip(vocabulary.spellings()[2:], vocabulary.values, strict=True))
    inputs = list(known)[: vocabulary.inputs]
    for word in text.split():
        if word not in inputs:
            raise UnknownName("input token", word, inputs)
    return [known[word] for word in text.split()]


def _options(given: Mapping[str, str]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, text in given.items():
        if name not in _KINDS:
            raise UnknownName("option of compiled programs", name, _KINDS)
        try:
            chosen[name] = _KINDS[name](text)
        except ValueError:
            raise InputError(f"{name} is {_OPTIONS[name]}; given {text!r}.") from None
    return chosen
