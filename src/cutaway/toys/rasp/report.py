"""What a person is shown: the table of programs, and one program in full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from cutaway.core import InputError
from cutaway.core.drawing import Drawn
from cutaway.toys.rasp.check import Checked, check
from cutaway.toys.rasp.interpreter import interpret
from cutaway.toys.rasp.language import Value
from cutaway.toys.rasp.library import program, program_names
from cutaway.toys.rasp.program import CompiledProgram, Program, compile_program
from cutaway.toys.rasp.truth import Truth
from cutaway.toys.rasp.vocabulary import spelled

QUICK = 300  # inputs of each program, unless all are asked for


@dataclass(frozen=True)
class Row:
    """One program: its model's size, its true edges, and how it was checked."""

    name: str
    about: str
    layers: int
    heads: int  # that compute something, over all layers
    d_model: int
    edges: int
    structural: int
    causal: int
    inputs: int  # all that the program is for
    checked: int
    wrong: int


@dataclass(frozen=True)
class Table(Drawn):
    """All programs. Prints as a Markdown table."""

    rows: tuple[Row, ...]
    options: dict[str, Any]

    @property
    def passed(self) -> bool:
        return all(row.checked > 0 and row.wrong == 0 for row in self.rows)

    def __str__(self) -> str:
        head = ("program", "layers", "heads", "d_model", "edges", "structural", "causal", "inputs", "checked", "wrong")
        cells = [head, *(tuple(f"{getattr(row, field)}" for field in ("name", *head[1:])) for row in self.rows)]
        wide = [max(len(line[c]) for line in cells) for c in range(len(head))]

        def line(row: Sequence[str]) -> str:
            first, *others = row
            numbers = (x.rjust(w) for x, w in zip(others, wide[1:], strict=True))
            return " | ".join([f"| {first.ljust(wide[0])}", *numbers]) + " |"

        rule = "|" + "|".join("-" * (w + 1) + ("-" if c == 0 else ":") for c, w in enumerate(wide)) + "|"
        return "\n".join([line(head), rule, *map(line, cells[1:])])

    def legend(self) -> str:
        """What the columns mean, in three lines."""
        return (
            "heads: that compute something, in all layers. edges: from what writes the residual stream to what reads\n"
            "it later; structural: what is written is read; causal: resampling that edge from an input of the same\n"
            "length changes some output. inputs: all there are; checked: run through model and interpreter."
        )

    __repr__ = __str__

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.rasp-table/1",
            "passed": self.passed,
            "programs": [asdict(row) for row in self.rows],
            "options": self.options,
        }


def table(
    names: Sequence[str] = (),
    *,
    exhaustive: bool = False,
    on: Callable[[str], None] | None = None,
    **options: Any,
) -> Table:
    """Compile and check programs (all by default): their first 300 inputs, or with `exhaustive` every one.

    `options` are those of `compile_program`. `on` is called with each program's name. About 4 s for all, 10 s
    exhaustively, on one core. Raises UnknownName, InputError.
    """
    rows = []
    for name in names or program_names():
        if on is not None:
            on(name)
        rows.append(_row(compile_program(program(name), **options), exhaustive))
    return Table(tuple(rows), dict(options))


def _row(compiled: CompiledProgram, exhaustive: bool) -> Row:
    found = check(compiled, most=None if exhaustive else QUICK)
    edges, config = compiled.truth.edges, compiled.model.config
    return Row(
        compiled.name,
        compiled.program.about,
        config.num_hidden_layers,
        len(compiled.compiled.heads),
        config.hidden_size,
        edges.count("exists"),
        edges.count("structural"),
        edges.count("causal"),
        found.inputs if found.whole else sum(1 for _ in compiled.program.inputs()),
        found.inputs,
        found.wrong,
    )


@dataclass(frozen=True, eq=False)
class Shown(Drawn):
    """One compiled program: its source, size, variables, true edges, a traced input and the check."""

    program: Program
    truth: Truth
    size: dict[str, int]
    given: tuple[Value, ...]
    interpreter: dict[str, list[Value]]
    model: dict[str, list[Value]]
    output: list[Value]
    checked: Checked
    options: dict[str, Any]

    @property
    def passed(self) -> bool:
        return self.checked.passed and self.output == self.interpreter[self.truth.output]

    def __str__(self) -> str:
        p = self.program
        size = ", ".join(f"{name} {value}" for name, value in self.size.items())
        values = " ".join(spelled(value) for value in p.vocabulary)
        lengths = f"{p.longest}" if p.shortest == p.longest else f"{p.shortest} to {p.longest}"
        parts = [
            f"{p.name}: {p.about}",
            f"  {p.source}",
            f"  inputs: {lengths} of {values}{f' ({p.domain})' if p.domain else ''}, "
            f"{'causal' if p.causal else 'bidirectional'}",
            f"  model: {size}",
            "",
            str(self.truth),
            "whole at: where exchanging the variable's subspace is exchanging the variable. read by: a head's queries,",
            "keys or values (a2.h0<q>), an MLP (m1), the unembedding (logits).",
            "",
            str(self.truth.edges),
            "structural: what is written is read. causal: resampling that edge from an input of the same length",
            "changes some output.",
            "",
            self._traced(),
            "",
            str(self.checked),
        ]
        return "\n".join(parts)

    __repr__ = __str__

    def _traced(self) -> str:
        """The variables of one input, the interpreter's values and the model's where they differ."""
        words = [spelled(value) for value in self.given]
        lines = [["input", *words]]
        for name, values in self.interpreter.items():
            lines.append([name, *map(spelled, values)])
            if self.model[name] != values:
                lines.append(["  in the model", *map(spelled, self.model[name])])
        lines.append(["model's output", *map(spelled, self.output)])
        wide = [max(len(line[c]) for line in lines) for c in range(len(lines[0]))]
        text = ["one input: each variable at each position, by the interpreter (and in the model, where it differs)"]
        text += ["  ".join(x.ljust(w) for x, w in zip(line, wide, strict=True)).rstrip() for line in lines]
        return "\n".join(text)

    def to_json(self) -> dict[str, Any]:
        def spell(values: Sequence[Value]) -> list[str]:
            return [spelled(value) for value in values]

        return {
            "schema": "cutaway.rasp-program-shown/1",
            "passed": self.passed,
            "name": self.program.name,
            "about": self.program.about,
            "source": self.program.source,
            "model": self.size,
            "options": self.options,
            "truth": self.truth.to_json(),
            "traced": {
                "input": spell(self.given),
                "interpreter": {name: spell(values) for name, values in self.interpreter.items()},
                "model": {name: spell(values) for name, values in self.model.items()},
                "output": spell(self.output),
            },
            "check": self.checked.to_json(),
        }


def show(compiled: CompiledProgram, *, given: Sequence[Value] | None = None, exhaustive: bool = False) -> Shown:
    """One compiled program in full, traced on `given` (by default on an input in the middle of the longest)."""
    p, config = compiled.program, compiled.model.config
    traced = tuple(given) if given is not None else _example(p)
    if not p.admits(traced):
        known = " ".join(spelled(value) for value in p.vocabulary)
        raise InputError(
            f"{' '.join(map(spelled, traced))!r} is no input of {p.name}: give {p.shortest} to {p.longest} of {known}"
            f"{f' ({p.domain})' if p.domain else ''}."
        )
    size = {
        "layers": config.num_hidden_layers,
        "heads a layer": config.num_attention_heads,
        "d_model": config.hidden_size,
        "d_head": config.head_dim,
        "neurons a layer": config.intermediate_size,
        "vocabulary": config.vocab_size,
    }
    return Shown(
        p,
        compiled.truth,
        size,
        traced,
        compiled.interpret(traced),
        {name: rows[0] for name, rows in compiled.decoded([traced]).items()},
        compiled.outputs([traced])[0],
        check(compiled, most=None if exhaustive else QUICK),
        dict(compiled.options),
    )


def _example(p: Program) -> tuple[Value, ...]:
    """Of inputs of the greatest length up to 5, one whose output has the most different values."""

    def spread(given: tuple[Value, ...]) -> int:
        values = interpret(p.output, given, causal=p.causal)[p.output]
        return len({spelled(value) for value in values})

    longest = min(p.longest, max(p.shortest, 5))
    candidates = [given for given in islice(p.inputs(longest), 3000) if len(given) == longest]
    return max(candidates[:: max(1, len(candidates) // 60)], key=spread)
