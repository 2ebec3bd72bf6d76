"""Exams: a room's methods beside what is known exactly, and the published cases that need several rooms.

`run_exam(room)` gives {"rows": [{name, truth, estimate, interval, tolerance, passed}, …]}; passed is None where a
figure is reported, not judged.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
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
    room: str,
    *,
    quick: bool = False,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
    keep: Path | None = None,
) -> dict[str, Any]:
    """Examine a room, on the shipped model or on toys whose truth is exact. Raises UnknownName.

    Where an exam takes long it may tell `say` a line for each part, and keep what each part gave in the folder `keep`,
    to go on from when it is run again.
    """
    from cutaway.core import UnknownName

    if room not in EXAMS:
        raise UnknownName("room with an exam", room, ROOMS)
    module, _, name = EXAMS[room].partition(":")
    exam = getattr(import_module(f"{__name__}.{module}"), name)
    takes = signature(exam).parameters
    more = {key: value for key, value in {"say": say, "keep": keep}.items() if key in takes}
    return {"rows": exam(quick=quick, seed=seed, **more)}


__all__ = ["ROOMS", "run_exam"]
