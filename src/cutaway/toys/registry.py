"""The toys by name. Each is a module with `items()` and `run(asked)`, imported when it is first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cutaway.core import UnknownName


class ToyResult(Protocol):
    """What a toy gives: prints as a table, and says whether what must hold of it does."""

    @property
    def passed(self) -> bool: ...

    def to_json(self) -> dict[str, Any]: ...


def _silent(message: str) -> None:
    del message


@dataclass(frozen=True)
class Asked:
    """What is asked of a toy: items of it (all if none), whether to check everything, an input to trace, options of its
    own, a folder to write, and where progress goes."""

    items: tuple[str, ...] = ()
    exhaustive: bool = False
    given: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    out: Path | None = None
    on: Callable[[str], None] = _silent


class ToyModule(Protocol):
    """What the module of a toy offers. `options()`: name -> what it does."""

    def items(self) -> Mapping[str, str]: ...

    def options(self) -> Mapping[str, str]: ...

    def run(self, asked: Asked) -> ToyResult: ...


@dataclass(frozen=True)
class Toy:
    """One kind of toy: what it is, and the module that makes it."""

    about: str
    module: str

    def open(self) -> ToyModule:
        """Its module, imported."""
        return importlib.import_module(self.module)


TOYS: dict[str, Toy] = {
    "rasp": Toy(
        "RASP programs compiled to transformer weights; every variable and edge is known", "cutaway.toys.rasp.toy"
    ),
    "superposition": Toy(
        "toy models of superposition: every experiment with theory, null and figure", "cutaway.toys.superposition.toy"
    ),
    "singular": Toy(
        "losses whose learning coefficient is known exactly: what development/ is examined on", "cutaway.toys.singular"
    ),
    "siit": Toy("networks trained to be a compiled program, by interchange; minutes each", "cutaway.toys.siit.toy"),
}


def find(name: str) -> tuple[Toy, str | None]:
    """The toy of that name; or the toy that has an item of that name, and the item. Raises UnknownName."""
    if name in TOYS:
        return TOYS[name], None
    known = list(TOYS)
    for toy in TOYS.values():
        items = toy.open().items()
        if name in items:
            return toy, name
        known += items
    raise UnknownName("toy", name, known)
