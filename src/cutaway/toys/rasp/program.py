"""A program, and what compiling it gives: a model, the interpreter beside it, and the truth about both."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cutaway.core import InputError, UnknownName
from cutaway.toys.rasp.assemble import Assembled, assemble
from cutaway.toys.rasp.compiler import Compiled, compile_graph
from cutaway.toys.rasp.craft import Array
from cutaway.toys.rasp.interpreter import interpret
from cutaway.toys.rasp.language import SOp, Value
from cutaway.toys.rasp.transformer import RaspForCausalLM
from cutaway.toys.rasp.vocabulary import Vocabulary

if TYPE_CHECKING:
    from cutaway.toys.rasp.truth import Truth

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, eq=False)
class Program:
    """A RASP program and the inputs that it is for: every sequence over `vocabulary` of `shortest` … `longest` tokens
    for which `valid` holds. `causal`: no position sees a later one."""

    name: str
    about: str
    source: str
    output: SOp
    vocabulary: tuple[Value, ...]
    longest: int
    shortest: int = 1
    causal: bool = False
    valid: Callable[[Sequence[Value]], bool] | None = None
    domain: str = ""  # what `valid` says, in words

    def inputs(self, longest: int | None = None) -> Iterator[tuple[Value, ...]]:
        """Every input, shortest first; of at most `longest` tokens where given."""
        for length in range(self.shortest, min(self.longest, longest or self.longest) + 1):
            for given in product(self.vocabulary, repeat=length):
                if self.valid is None or self.valid(given):
                    yield given

    def pairs(
        self, n: int, *, seed: int = 0, length: int | None = None, differ: bool = True
    ) -> list[tuple[tuple[Value, ...], tuple[Value, ...]]]:
        """`n` pairs (input, counterfactual) of one length (the longest by default), drawn with repetition. `differ`:
        only pairs whose outputs differ at some position. Raises InputError where there is no such pair."""
        length = self.longest if length is None else length
        rows = [given for given in self.inputs(length) if len(given) == length]
        outputs = [interpret(self.output, given, causal=self.causal)[self.output] for given in rows] if differ else []
        if not rows or (differ and all(output == outputs[0] for output in outputs)):
            what = "whose outputs differ" if rows else "at all"
            raise InputError(f"{self.name} has no two inputs of {length} tokens {what}.")
        rng, found = random.Random(seed), list[tuple[tuple[Value, ...], tuple[Value, ...]]]()
        while len(found) < n:
            a, b = rng.randrange(len(rows)), rng.randrange(len(rows))
            if not differ or outputs[a] != outputs[b]:
                found.append((rows[a], rows[b]))
        return found

    def admits(self, given: Sequence[Value]) -> bool:
        """Whether `given` is one of the inputs."""
        known = all(value in self.vocabulary for value in given)
        return known and self.shortest <= len(given) <= self.longest and (self.valid is None or self.valid(given))


@dataclass(frozen=True, eq=False)
class CompiledProgram:
    """A program as a transformer. `model` is the Hugging Face module (`cutaway.load(program.model)` opens it, `load`
    gives it its tokenizer too)."""

    program: Program
    compiled: Compiled
    vocabulary: Vocabulary
    assembled: Assembled
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def model(self) -> RaspForCausalLM:
        return self.assembled.model

    @cached_property
    def tokenizer(self) -> Any:
        return self.vocabulary.tokenizer()

    @property
    def variables(self) -> dict[str, SOp]:
        """The program's variables by name, parents first."""
        return {name: sop for sop, name in self.compiled.names.items()}

    def basis(self, name: str) -> Array:
        """[size, d_model]: the orthonormal directions of a variable in the model's residual stream."""
        return self.compiled.residual.basis(name) @ self.assembled.rotation.T

    @cached_property
    def truth(self) -> Truth:
        """Every variable's subspace and component, and the true edges."""
        from cutaway.toys.rasp.truth import truth_of

        return truth_of(self.program, self.compiled, self.vocabulary, self.basis, self.model.dtype)

    def load(self) -> Any:
        """The compiled model as `cutaway.Model`, with its tokenizer."""
        from cutaway.model import load

        model = load(self.model, tokenizer=self.tokenizer)
        model.name = self.name
        return model

    # ---- running both

    def interpret(
        self, given: Sequence[Value], set_to: Mapping[str, Sequence[Value]] | None = None
    ) -> dict[str, list[Value]]:
        """Every variable's exact values; `set_to` gives some of them instead: an intervention on the program.

        Raises InputError for a variable that is none, Ambiguous where an intervention leaves the program no meaning.
        """
        variables = self.variables
        for name in set_to or {}:
            if name not in variables:
                raise UnknownName("variable", name, variables)
        changed = {variables[name]: values for name, values in (set_to or {}).items()}
        trace = interpret(self.program.output, given, causal=self.program.causal, set_to=changed)
        return {self.compiled.names[sop]: values for sop, values in trace.items()}

    def expected(self, given: Sequence[Value]) -> list[Value]:
        """The program's output at each position, from the interpreter."""
        return interpret(self.program.output, given, causal=self.program.causal)[self.program.output]

    def ids(self, inputs: Sequence[Sequence[Value]]) -> torch.Tensor:
        """Token ids [row, 1 + position] of inputs of one length, BOS first."""
        lengths = {len(given) for given in inputs}
        if len(lengths) != 1 or 0 in lengths:
            raise InputError(f"give inputs of one length, at least 1; these have lengths {sorted(lengths)}.")
        if max(lengths) > self.program.longest:
            raise InputError(f"{self.name} takes at most {self.program.longest} tokens; given {max(lengths)}.")
        return torch.tensor([self.vocabulary.encode(given) for given in inputs])

    def outputs(self, inputs: Sequence[Sequence[Value]]) -> list[list[Value]]:
        """The compiled model's output at each position (BOS not counted) of inputs of one length. One forward."""
        with torch.no_grad():
            best = self.model(self.ids(inputs)).logits[:, 1:].argmax(-1)
        return [[self.vocabulary.decode(token) for token in row] for row in best.tolist()]

    def decoded(self, inputs: Sequence[Sequence[Value]]) -> dict[str, list[list[Value]]]:
        """Every variable as it stands in the model's last residual stream: name -> [input][position]. One forward."""
        with torch.no_grad():
            final = self._final(self.ids(inputs))
        found: dict[str, list[list[Value]]] = {}
        for name, space in self.compiled.residual.subspaces.items():
            coordinates = (final @ self.basis(name).T)[:, 1:]
            found[name] = [space.decode(row) for row in coordinates]
        return found

    def _final(self, ids: torch.Tensor) -> Array:
        out: Array = self.model.model(ids).numpy().astype(np.float64)
        return out


def compile_program(
    program: Program,
    *,
    coldness: float = 100.0,
    dtype: str = "float32",
    rotate: int | None = None,
) -> CompiledProgram:
    """The program as a transformer (Lindner et al. 2023). Milliseconds to a tenth of a second.

    coldness: how sharp attention is: 100 is exact in float32; at 10 a head leaves about exp(-5) of its attention on
    BOS, and gradients flow through it, at the price of a few wrong outputs (docs/rasp.md). dtype: float32 or float64.
    rotate: a seed; turns the residual stream by a random rotation, so that no variable lies along a coordinate.
    Raises InputError.
    """
    if dtype not in DTYPES:
        raise InputError(f"no dtype {dtype!r}; there are: {', '.join(DTYPES)}.")
    compiled = compile_graph(
        program.output, program.vocabulary, program.longest, causal=program.causal, coldness=coldness
    )
    found = compiled.values[program.output]
    vocabulary = Vocabulary.of(program.vocabulary, [*found.values, *([None] if found.none else [])])
    assembled = assemble(compiled, vocabulary, dtype=DTYPES[dtype], rotate=rotate)
    options = {"coldness": coldness, "dtype": dtype, "rotate": rotate}
    return CompiledProgram(program, compiled, vocabulary, assembled, options)
