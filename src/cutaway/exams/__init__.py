"""Exams: a room's methods beside what is known exactly, and the published cases that need several rooms.

`run_exam(room)` gives {"rows": [{name, truth, estimate, interval, tolerance, passed}, …]}; passed is None where a
figure is reported, not judged.
"""

from __future__ import annotations

from typing import Any

ROOMS = ("abstraction", "circuits", "development", "features", "graphs", "ioi", "superposition", "vision")


def run_exam(room: str, *, quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Examine a room, on the shipped model or on toys whose truth is exact. Raises UnknownName."""
    from cutaway.core import UnknownName

    if room not in ROOMS:
        raise UnknownName("room with an exam", room, ROOMS)
    if room == "abstraction":
        from cutaway.exams.abstraction import abstraction_exam

        return {"rows": abstraction_exam(quick=quick, seed=seed)}
    if room == "circuits":
        from cutaway.exams.circuits import circuits_exam

        return {"rows": circuits_exam(quick=quick, seed=seed)}
    if room == "features":
        from cutaway.exams.features import features_exam

        return {"rows": features_exam(quick=quick, seed=seed)}
    if room == "development":
        from cutaway.exams.development import development_exam

        return {"rows": development_exam(quick=quick, seed=seed)}
    if room == "ioi":
        from cutaway.exams.ioi.exam import ioi_exam

        return {"rows": ioi_exam(quick=quick, seed=seed)}
    if room == "superposition":
        from cutaway.exams.superposition import superposition_exam

        return {"rows": superposition_exam(quick=quick, seed=seed)}
    if room == "vision":
        from cutaway.exams.vision import vision_exam

        return {"rows": vision_exam(quick=quick, seed=seed)}
    from cutaway.exams.graphs import graphs_exam

    return {"rows": graphs_exam(quick=quick, seed=seed)}


__all__ = ["ROOMS", "run_exam"]
