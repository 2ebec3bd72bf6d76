"""`cutaway exercise`: functions to write oneself, marked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cutaway.cli.output import JSON, print_json, say

if TYPE_CHECKING:
    from cutaway.exercises import Exercise


def exercise(
    name: str | None = typer.Argument(None, help="An exercise. None: list them."),
    answer: Path | None = typer.Argument(None, help="Your answer, a Python file, which is run and marked."),
    solution: bool = typer.Option(False, "--solution", help="Print a solution."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the starter here (a new file), to be filled in."),
    as_json: bool = JSON,
) -> None:
    """Learn by doing: small functions to write, from superposition and dictionaries to patching and nulls.

    Without an answer, the question is printed as a Python file to begin from. An answer is run beside the solution and
    beside mistakes that people make there; one that makes such a mistake is told which. Exit status 1 when it is not
    right yet.

    Example:  cutaway exercise induction-scores --out answer.py; cutaway exercise induction-scores answer.py
    """
    from cutaway.exercises import EXERCISES, read_answer

    if name is None:
        _list(as_json)
        return
    asked = EXERCISES[name]
    if answer is None:
        _show(asked, solution, out, as_json)
        return
    marked = asked.mark(read_answer(asked, answer))
    if as_json:
        print_json("cutaway.exercise/1", marked.to_json())
    else:
        print(marked)
        if not marked.passed:
            say(f"The question again: cutaway exercise {name}; a solution: cutaway exercise {name} --solution")
    if not marked.passed:
        raise typer.Exit(1)


def _show(asked: Exercise, solution: bool, out: Path | None, as_json: bool) -> None:
    from cutaway.core import InputError, write_text

    text = asked.solved if solution else asked.starter
    if out is not None:
        if out.exists():
            raise InputError(f"{out} exists; name a new file, so that no answer is lost.")
        write_text(out, text)
        say(f"wrote {out}; when it is written: cutaway exercise {asked.name} {out}")
    elif as_json:
        body = {"exercise": asked.name, "title": asked.title, "source": asked.source, "question": asked.question}
        print_json("cutaway.exercise.question/1", {**body, "solution" if solution else "starter": text})
    else:
        print(f"# {asked.title}. Source: {asked.source}\n\n{text}", end="")
        if not solution:
            say(
                f"\nBegin: cutaway exercise {asked.name} --out answer.py; then: cutaway exercise {asked.name} answer.py"
            )


def _list(as_json: bool) -> None:
    from cutaway.exercises import EXERCISES

    topics = EXERCISES.topics()
    if as_json:
        listed = [
            {"exercise": e.name, "topic": topic, "title": e.title, "source": e.source}
            for topic, found in topics.items()
            for e in found
        ]
        print_json("cutaway.exercises/1", {"exercises": listed})
        return
    for topic, found in topics.items():
        print(topic)
        for e in found:
            print(f"  {e.name:22} {e.title}")
    say("\nA question: cutaway exercise NAME; an answer, marked: cutaway exercise NAME answer.py")
