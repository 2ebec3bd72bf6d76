"""Exercises: small functions to write oneself, from superposition to nulls, with checkers that say what is wrong.

`EXERCISES` are by name; `EXERCISES[name].mark(function)` marks an answer, `read_answer` takes it from a file.
`cutaway exercise` is the same from the shell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from cutaway.core import UnknownName
from cutaway.exercises.exercise import Exercise, Finding, Marked, read_answer

# In the order in which one meets them.
_FILES = {
    "superposition": "Superposition",
    "dictionaries": "Dictionaries",
    "reading": "Reading",
    "controls": "Controls",
}


class _Exercises(Mapping[str, Exercise]):
    """By name, read when first asked for: the solutions need torch."""

    def __init__(self) -> None:
        self._found: dict[str, Exercise] | None = None

    def _all(self) -> dict[str, Exercise]:
        if self._found is None:
            self._found = {e.name: e for file in _FILES for e in import_module(f"{__name__}.{file}").EXERCISES}
        return self._found

    def __getitem__(self, name: str) -> Exercise:
        if name not in self._all():
            raise UnknownName("exercise", name, self._all())
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def topics(self) -> dict[str, tuple[Exercise, ...]]:
        """The exercises of each topic, in order."""
        return {topic: import_module(f"{__name__}.{file}").EXERCISES for file, topic in _FILES.items()}


EXERCISES = _Exercises()

__all__ = ["EXERCISES", "Exercise", "Finding", "Marked", "read_answer"]
