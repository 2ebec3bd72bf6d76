"""What an exercise is, and how an answer to it is marked.

A question is the docstring of a function to write. An answer is run on cases beside the solution, and beside the
mistakes that people make there: an answer that does what a mistake does is told which one.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cutaway.core import CutawayError, UnknownName
from cutaway.core.drawing import Drawn
from cutaway.core.own_file import run_own, where

Answer = Callable[..., Any]


@dataclass(frozen=True)
class Finding:
    """One thing that was checked of an answer: what it is, whether it holds, and why not."""

    what: str
    holds: bool
    why: str = ""

    def __str__(self) -> str:
        return f"{'right' if self.holds else 'WRONG'}  {self.what}" + (f"\n       {self.why}" if self.why else "")


@dataclass(frozen=True)
class Case:
    """Arguments on which an answer must do what the solution does."""

    what: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Exercise:
    """A question, its solution, and how an answer is marked.

    `solution`'s docstring is the question. Where the right answer is one value, `cases()` gives the arguments and
    `mistakes` maps what to tell somebody to the wrong function that they wrote. Where many answers are right, `laws`
    yields what must hold of an answer.
    """

    name: str
    title: str
    source: str
    solution: Answer
    cases: Callable[[], Sequence[Case]] | None = None
    mistakes: Mapping[str, Answer] = field(default_factory=dict)
    laws: Callable[[Answer], Iterator[Finding]] | None = None
    imports: tuple[str, ...] = ("import torch", "from torch import Tensor")

    @property
    def function(self) -> str:
        return self.solution.__name__

    @property
    def question(self) -> str:
        return inspect.cleandoc(self.solution.__doc__ or "")

    @property
    def starter(self) -> str:
        """A Python file to begin from: the signature and the question, with no body."""
        return "\n".join(self.imports) + f"\n\n\n{self._head()}\n    raise NotImplementedError\n"

    @property
    def solved(self) -> str:
        """The solution as such a file."""
        return "\n".join(self.imports) + f"\n\n\n{textwrap.dedent(inspect.getsource(self.solution))}"

    def _head(self) -> str:
        lines = textwrap.dedent(inspect.getsource(self.solution)).splitlines()
        made = ast.parse("\n".join(lines)).body[0]
        assert isinstance(made, ast.FunctionDef)
        return "\n".join(lines[: made.body[0].end_lineno])

    def mark(self, answer: Answer) -> Marked:
        """Run an answer, and say of each thing that was checked whether it holds. Whatever it raises is a finding."""
        findings: list[Finding] = []
        try:
            for found in self._findings(answer):
                findings.append(found)
        except CutawayError as error:
            findings.append(Finding("it runs", False, str(error)))
        except NotImplementedError:
            findings.append(
                Finding("it is written", False, "the starter's `raise NotImplementedError` is still there.")
            )
        except Exception as error:
            findings.append(Finding("it runs", False, _raised(error, answer)))
        return Marked(self.name, tuple(findings))

    def _findings(self, answer: Answer) -> Iterator[Finding]:
        if self.cases is not None:
            for case in self.cases():
                yield self._compared(case, answer)
        if self.laws is not None:
            yield from self.laws(answer)

    def _compared(self, case: Case, answer: Answer) -> Finding:
        given = _copied(case.arguments)
        found = answer(*given)
        if not all(_same(a, b) for a, b in zip(given, case.arguments, strict=True)):
            return Finding(case.what, False, "it changes its arguments in place; make a new tensor.")
        expected = self.solution(*_copied(case.arguments))
        wrong = unlike(found, expected)
        if not wrong:
            return Finding(case.what, True)
        for says, mistake in self.mistakes.items():
            if not unlike(found, mistake(*_copied(case.arguments))):
                return Finding(case.what, False, says)
        return Finding(case.what, False, wrong)


@dataclass(frozen=True)
class Marked(Drawn):
    """How an answer did."""

    exercise: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        return bool(self.findings) and all(found.holds for found in self.findings)

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "not yet"
        return "\n".join([*map(str, self.findings), f"{self.exercise}: {verdict}"])

    __repr__ = __str__

    def to_json(self) -> dict[str, Any]:
        """The schema is cutaway.exercise/1."""
        return {"exercise": self.exercise, "passed": self.passed, "findings": [vars(f) for f in self.findings]}


def read_answer(exercise: Exercise, file: str | Path) -> Answer:
    """The function that a file defines. The file is run.

    Raises InputError: no such file, or one that fails; UnknownName: it does not define the function.
    """
    names = vars(run_own(file))
    if not callable(found := names.get(exercise.function)):
        own = [n for n, value in names.items() if inspect.isfunction(value)]
        raise UnknownName(f"function in {Path(file).name}", exercise.function, own)
    return found


def unlike(found: Any, expected: Any, tolerance: float = 1e-4) -> str:
    """How a value differs from what is expected, in words; empty where it does not. Numbers may differ by `tolerance`
    of the largest expected one."""
    if isinstance(expected, tuple):
        if not isinstance(found, tuple) or len(found) != len(expected):
            return f"it gives {_kind(found)}; expected a tuple of {len(expected)}."
        return next((wrong for a, b in zip(found, expected, strict=True) if (wrong := unlike(a, b, tolerance))), "")
    if not isinstance(expected, (torch.Tensor, float, int)):
        return "" if found == expected else f"it gives {found!r}; expected {expected!r}."
    if not isinstance(found, (torch.Tensor, float, int)):
        return f"it gives {_kind(found)}; expected {_kind(expected)}."
    a, b = torch.as_tensor(found), torch.as_tensor(expected)
    if a.shape != b.shape:
        return f"it has shape {list(a.shape)}; expected {list(b.shape)}."
    a, b = a.detach().double(), b.detach().double()
    if not torch.isfinite(a).all():
        return "it has values that are not finite."
    apart = (a - b).abs().max().item() if a.numel() else 0.0
    if apart <= tolerance * max(b.abs().max().item(), 1e-6):
        return ""
    if a.numel() == 1:
        return f"it gives {a.item():.4g}; expected {b.item():.4g}."
    at = tuple(int(i) for i in torch.unravel_index((a - b).abs().argmax(), a.shape))
    return f"the largest difference is at {list(at)}: it has {a[at].item():.4g}; expected {b[at].item():.4g}."


def _kind(value: Any) -> str:
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"


def _copied(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        {k: v.clone() for k, v in a.items()} if isinstance(a, dict) else a.clone() if isinstance(a, torch.Tensor) else a
        for a in arguments
    )


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else True


def _raised(error: Exception, answer: Answer) -> str:
    file = inspect.getsourcefile(answer) if inspect.isfunction(answer) else None
    if file is not None:
        return where(error, Path(file))
    return traceback.format_exception_only(error)[-1].strip()
