"""Exams: a room's methods beside what is known exactly, and the published cases that need several rooms.

`run_exam(room)` gives {"rows": [{name, truth, estimate, interval, tolerance, passed}, …]}; passed is None where a
figure is reported, not judged.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import signature
from typing import Any

EXAMS = {
    "abstraction": "abstraction:abstraction_exam",
    "circuits": "circuits:circuits_exam",
    "development": "development:development_exam",
    "features": "features:features_exam",
    "graphs": "graphs:graphs_exam",
    "ioi": "ioi.exam:ioi_exam",
    "superposition": "superposition:superposition_exam",
    "vision": "vision:vision_exam",
}
"""room -> module:function, imported when asked for."""
ROOMS = tuple(EXAMS)


def run_exam(
    room: str, *, quick: bool = False, seed: int = 0, say: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Examine a room, on the shipped model or on toys whose truth is exact. `say` gets a line of progress for each part
    of an exam that takes long, where the exam tells it. Raises UnknownName."""
    from cutaway.core import UnknownName

    if room not in EXAMS:
        raise UnknownName("room with an exam", room, ROOMS)
    module, _, name = EXAMS[room].partition(":")
    exam = getattr(import_module(f"{__name__}.{module}"), name)
    tells = {"say": say} if "say" in signature(exam).parameters else {}
    return {"rows": exam(quick=quick, seed=seed, **tells)}


__all__ = ["ROOMS", "run_exam"]
