"""Causal models as plain Python: variables with domains, parents and mechanisms, run in topological order.

An intervention overrides a mechanism; an interchange intervention sets a variable to the value that it has on another
input (Geiger et al. 2021, "Causal abstractions of neural networks"; 2025, "Causal abstraction", JMLR).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from cutaway.core import InputError, UnknownName

Inputs = Mapping[str, Any]
Values = dict[str, Any]
SIZE = 200_000  # most inputs that are listed one by one


class NoMeaning(InputError):
    """An interchange that leads outside a domain, or to what a mechanism says has no value. Such items are left out
    where counterfactuals are drawn; a mechanism may raise it."""


@dataclass(frozen=True, eq=False)
class Variable:
    """One variable. `domain`: the values it may take, None for any. An input has no parents and no mechanism."""

    name: str
    domain: tuple[Any, ...] | None
    parents: tuple[str, ...] = ()
    mechanism: Callable[..., Any] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class CausalModel:
    """A high-level algorithm.

    inputs: name -> its domain (any iterable, None for any value). mechanisms: name -> a function whose parameters are
    named like its parents, or (names of the parents, a function of their values). output: the variable that the
    network's answer is compared with (the last mechanism by default). domains: name -> values of a mechanism, checked
    whenever it is computed or set.

    prompt: inputs -> what the network is given: text, token ids, or a row of numbers. answer: a value of the output ->
    what the network should say: the text of a token, its id, or several of either where all are right.
    positions: name -> where it stands in a prompt: a number, the text of a token, or a function of the inputs that
    gives one; the answer is read at "answer", by default the last token.
    draw: a generator -> inputs, where they are not to be drawn evenly from the domains. draw_source: a generator and a
    base -> a source for it, where sources are not to be drawn as bases are. held_out: inputs of which the test has
    other values than training (an entity, say, whatever is asked of it); by default no whole input is in both.

    Raises InputError: a cycle, a parent that is no variable (with the nearest), a name given twice.
    """

    inputs: Mapping[str, Iterable[Any] | None]
    mechanisms: Mapping[str, Any]
    output: str = ""
    name: str = "causal model"
    domains: Mapping[str, Iterable[Any]] = field(default_factory=dict)
    prompt: Callable[[Inputs], Any] | None = None
    answer: Callable[[Any], Any] | None = None
    positions: Mapping[str, Any] = field(default_factory=dict)
    draw: Callable[[np.random.Generator], Inputs] | None = None
    draw_source: Callable[[np.random.Generator, Inputs], Inputs] | None = None
    held_out: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.inputs:
            raise InputError(f"{self.name} has no inputs.")
        if not self.mechanisms:
            raise InputError(f"{self.name} has no mechanism: nothing is computed from its inputs.")
        if both := set(self.inputs) & set(self.mechanisms):
            raise InputError(f"{self.name}: {', '.join(sorted(both))} is both an input and a mechanism.")
        known = [*self.inputs, *self.mechanisms]
        if empty := [name for name, one in self.variables.items() if one.domain == ()]:
            raise InputError(f"{self.name}: the domain of {empty[0]} is empty; it has no value to take.")
        for name in self.domains:
            if name not in self.mechanisms:
                raise UnknownName(f"mechanism of {self.name} to give a domain", name, self.mechanisms)
        for name in self.held_out:
            if name not in self.inputs:
                raise UnknownName(f"input of {self.name} to hold out", name, self.inputs)
        if self.output and self.output not in self.mechanisms:
            raise UnknownName(f"mechanism of {self.name} for its output", self.output, self.mechanisms)
        for name in self.mechanisms:
            for parent in self.variables[name].parents:
                if parent not in known:
                    raise UnknownName(f"variable of {self.name}, a parent of {name},", parent, known)
        _ = self.order

    @property
    def out(self) -> str:
        """The name of the output."""
        return self.output or list(self.mechanisms)[-1]

    @cached_property
    def variables(self) -> dict[str, Variable]:
        found = {n: Variable(n, None if domain is None else tuple(domain)) for n, domain in self.inputs.items()}
        for name, mechanism in self.mechanisms.items():
            domain = self.domains.get(name)
            parents, function = _mechanism(name, mechanism)
            found[name] = Variable(name, None if domain is None else tuple(domain), parents, function)
        return found

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Every variable, parents first. Raises InputError naming a cycle."""
        done: dict[str, None] = {}
        path: list[str] = []

        def visit(name: str) -> None:
            if name in done:
                return
            if name in path:
                raise InputError(f"{self.name} has a cycle: {' -> '.join([*path[path.index(name) :], name])}.")
            path.append(name)
            for parent in self.variables[name].parents:
                visit(parent)
            path.pop()
            done[name] = None

        for name in self.variables:
            visit(name)
        return tuple(done)

    # ---- run

    def run(self, inputs: Inputs, set_to: Inputs | None = None) -> Values:
        """Every variable's value. `set_to`: variables whose values are given in place of being computed.

        Raises InputError: an input without a value, a value outside a domain, a mechanism that fails; UnknownName.
        """
        given = dict(set_to or {})
        for name in (*inputs, *given):
            if name not in self.variables:
                raise UnknownName(f"variable of {self.name}", name, self.variables)
        values: Values = {}
        for name in self.order:
            variable = self.variables[name]
            if name in given:
                value = given[name]
            elif variable.mechanism is None:
                if name not in inputs:
                    raise InputError(f"{self.name} needs a value for its input {name}; given: {', '.join(inputs)}.")
                value = inputs[name]
            else:
                value = self._computed(variable, values)
            if variable.domain is not None and value not in variable.domain:
                wrong = NoMeaning if given and name not in given and variable.mechanism is not None else InputError
                raise wrong(f"{self.name}: {name} = {value!r} is not in its domain {_shown(variable.domain)}.")
            values[name] = value
        return values

    def _computed(self, variable: Variable, values: Values) -> Any:
        assert variable.mechanism is not None
        arguments = {parent: values[parent] for parent in variable.parents}
        try:
            return variable.mechanism(*arguments.values())
        except NoMeaning:
            raise
        except Exception as error:
            shown = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
            raise InputError(
                f"{self.name}: the mechanism of {variable.name} fails on {shown}: {type(error).__name__}: {error}"
            ) from error

    def interchange(self, base: Inputs, sources: Mapping[str, Inputs]) -> Values:
        """The values on `base`, with each variable in `sources` set to its value on that other input."""
        return self.run(base, {name: self.run(source)[name] for name, source in sources.items()})

    # ---- inputs

    @cached_property
    def every_input(self) -> tuple[Values, ...] | None:
        """All inputs, where they can be listed: each has a domain, there is no `draw`, and at most 200,000 of them."""
        domains = [self.variables[name].domain for name in self.inputs]
        if self.draw is not None or any(domain is None for domain in domains):
            return None
        sizes = [len(domain) for domain in domains if domain is not None]
        if np.prod(sizes, dtype=float) > SIZE:
            return None
        grids: list[Values] = [{}]
        for name, domain in zip(self.inputs, domains):
            assert domain is not None
            grids = [{**row, name: value} for row in grids for value in domain]
        return tuple(grids)

    def drawn(self, rng: np.random.Generator, base: Inputs | None = None) -> Values:
        """One input (a source for `base`, where given), by `draw` or `draw_source`, or evenly from the domains.
        Raises InputError for an input that has none."""
        if base is not None and self.draw_source is not None:
            return dict(self.draw_source(rng, base))
        if self.draw is not None:
            return dict(self.draw(rng))
        found: Values = {}
        for name in self.inputs:
            domain = self.variables[name].domain
            if domain is None:
                raise InputError(
                    f"{self.name}: the input {name} has no domain; give draw=, a function that makes inputs."
                )
            found[name] = domain[int(rng.integers(len(domain)))]
        return found

    # ---- shown

    def layers(self) -> list[list[str]]:
        """Variables by their depth: inputs first."""
        depth: dict[str, int] = {}
        for name in self.order:
            depth[name] = 1 + max((depth[p] for p in self.variables[name].parents), default=-1)
        return [[name for name in self.order if depth[name] == d] for d in range(max(depth.values()) + 1)]

    def to_json(self) -> dict[str, Any]:
        """Variables, domains and parents; mechanisms by their source where Python has it. (They are not read back.)"""
        rows = []
        for name in self.order:
            variable = self.variables[name]
            rows.append(
                {
                    "name": name,
                    "domain": None if variable.domain is None else _shown(variable.domain),
                    "parents": list(variable.parents),
                    "mechanism": None if variable.mechanism is None else _source(self.mechanisms[name]),
                }
            )
        return {"schema": "cutaway.causal-model/1", "name": self.name, "output": self.out, "variables": rows}

    def to_svg(self, marked: Mapping[str, str] | None = None) -> str:
        """A drawing. `marked`: variables to fill, each with a line below its name (such as its place)."""
        from cutaway.abstraction.draw import svg

        return svg(self, marked or {})

    def __str__(self) -> str:
        from cutaway.abstraction.draw import text

        return text(self)

    __repr__ = __str__


def _mechanism(name: str, mechanism: Any) -> tuple[tuple[str, ...], Callable[..., Any]]:
    """(parents, a function of their values in that order). A function's parameters name its parents."""
    if isinstance(mechanism, tuple):
        if len(mechanism) != 2 or not callable(mechanism[1]) or not all(isinstance(p, str) for p in mechanism[0]):
            raise InputError(f"the mechanism of {name} is a function, or (names of its parents, a function of them).")
        return tuple(mechanism[0]), mechanism[1]
    if not callable(mechanism):
        raise InputError(f"the mechanism of {name} is a function of its parents; given {type(mechanism).__name__}.")
    try:
        parameters = inspect.signature(mechanism).parameters.values()
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the parameters of the mechanism of {name} cannot be read ({error}); write it as a lambda or a def."
        ) from error
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if odd := [p.name for p in parameters if p.kind not in plain]:
        raise InputError(f"the mechanism of {name} takes *{odd[0]}; name its parents as parameters.")
    parents = tuple(p.name for p in parameters if p.default is inspect.Parameter.empty)
    return parents, lambda *values: mechanism(**dict(zip(parents, values)))


def _shown(domain: Sequence[Any]) -> str:
    listed = ", ".join(map(repr, domain[:6]))
    return f"{{{listed}}}" if len(domain) <= 6 else f"{{{listed}, …}} ({len(domain)} values)"


def _source(mechanism: Any) -> str | None:
    try:
        lines = inspect.getsource(mechanism[1] if isinstance(mechanism, tuple) else mechanism).strip()
    except (OSError, TypeError):
        return None
    return lines if len(lines) < 400 else lines[:399] + "…"
