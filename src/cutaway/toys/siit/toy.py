"""Trained programs as a toy of the `cutaway toy` verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from cutaway.core import InputError, UnknownName
from cutaway.core.drawing import Drawn
from cutaway.toys.rasp import compile_program, program, program_names
from cutaway.toys.registry import Asked
from cutaway.toys.siit.report import Report, make
from cutaway.toys.siit.train import Settings

QUICKEST = "mod_sum"  # seconds to train
_OPTIONS = {
    "steps": "of training at most",
    "batch": "pairs a step",
    "lr": "learning rate",
    "iit": "weight of the exchanges on the circuit",
    "behaviour": "weight of the plain answers",
    "strict": "weight of the exchanges off the circuit",
    "d_model": "width of the network",
    "heads": "a layer, at least one more than the program has",
    "n": "pairs a node whenever training looks at its scores",
    "every": "steps between looks",
    "seed": "of weights and draws",
    "pairs": "fresh pairs a node for the report, 500 by default",
    "baseline": "1 (default) also trains on the answers alone; 0 does not",
}


@dataclass(frozen=True, eq=False)
class Reports(Drawn):
    """Several trained programs."""

    reports: tuple[Report, ...]

    @property
    def passed(self) -> bool:
        return all(report.passed for report in self.reports)

    def __str__(self) -> str:
        return "\n\n".join(str(report) for report in self.reports)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.siit-several/1",
            "passed": self.passed,
            "programs": [report.to_json() for report in self.reports],
        }


def items() -> Mapping[str, str]:
    """None of its own: it takes the names of compiled programs."""
    return {}


def options() -> Mapping[str, str]:
    return _OPTIONS


def run(asked: Asked) -> Reports:
    """Train the programs named; the quickest where none is. Raises InputError, UnknownName."""
    named = asked.items or (QUICKEST,)
    if not asked.items:
        asked.on(f"no program was named, so {QUICKEST}; there are: {', '.join(program_names())}")
    if asked.given is not None:
        raise InputError("a trained program traces no input; write it with --out and load it.")
    settings, pairs, baseline = _settings(asked.options)
    programs = [program(name) for name in named]
    made = []
    for one in programs:
        report = make(compile_program(one), settings, baseline=baseline, n=pairs, on=asked.on)
        if asked.out is not None:
            report.save(asked.out / one.name if len(programs) > 1 else asked.out)
        made.append(report)
    return Reports(tuple(made))


def _settings(given: Mapping[str, str]) -> tuple[Settings, int, bool]:
    whole: Callable[[str], Any] = int
    kinds = {field.name: float if isinstance(field.default, float) else whole for field in fields(Settings)}
    chosen: dict[str, Any] = {}
    for name, text in given.items():
        if name not in _OPTIONS:
            raise UnknownName("option of trained programs", name, _OPTIONS)
        try:
            chosen[name] = kinds.get(name, whole)(text)
        except ValueError:
            raise InputError(f"{name} is a number ({_OPTIONS[name]}); given {text!r}.") from None
    pairs, baseline = int(chosen.pop("pairs", 500)), bool(chosen.pop("baseline", 1))
    if pairs < 1:
        raise InputError(f"pairs is at least 1; given {pairs}.")
    return Settings(**chosen), pairs, baseline
