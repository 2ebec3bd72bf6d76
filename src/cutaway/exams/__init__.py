"""Exams: a room's methods beside what is known exactly, and the published cases that need several rooms.

`run_exam(room)` gives {"rows": [{name, truth, estimate, interval, tolerance, passed}, …]}; passed is None where a
figure is reported, not judged.
"""

from __future__ import annotations

from typing import Any

ROOMS = ("graphs",)


def run_exam(room: str, *, quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Examine a room on the shipped model. Raises UnknownName for a room without an exam."""
    from cutaway.core import UnknownName

    if room not in ROOMS:
        raise UnknownName("room with an exam", room, ROOMS)
    from cutaway.exams.graphs import graphs_exam

    return {"rows": graphs_exam(quick=quick, seed=seed)}


__all__ = ["ROOMS", "run_exam"]
