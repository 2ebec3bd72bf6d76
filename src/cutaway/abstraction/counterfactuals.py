"""Counterfactual data: base inputs, source inputs, and what a causal model says should come out.

Pairs are drawn so that the answer changes as often as not: a network left alone is then right on half of them, and an
exchange that changes nothing is no success. The two parts, "train" and "test", share no input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cutaway.abstraction.causal_model import CausalModel, NoMeaning, Values
from cutaway.core import InputError, UnknownName

Part = Literal["train", "test"]
Hypothesis = tuple[CausalModel, tuple[str, ...]]
TRAINED = 0.65  # share of the inputs that are for training
FEW = 40  # inputs below which pairs are held out instead of inputs
ROUNDS = 6  # each draws twice as many candidates as the one before


@dataclass(frozen=True, eq=False)
class Counterfactuals:
    """n items. `sources[v][i]` is the input that slot v of item i takes its value from, if `which[i, v]`.

    A slot is a variable of the first causal model, and the one of the same number of each rival. `rate`: how often the
    answer changed among pairs drawn at random, before balancing. `held_out`: "inputs" or "pairs".
    """

    base: tuple[Values, ...]
    sources: tuple[tuple[Values, ...], ...]
    which: Tensor
    rate: float
    held_out: str

    def __len__(self) -> int:
        return len(self.base)

    def take(self, index: Sequence[int]) -> Counterfactuals:
        return Counterfactuals(
            tuple(self.base[i] for i in index),
            tuple(tuple(slot[i] for i in index) for slot in self.sources),
            self.which[list(index)],
            self.rate,
            self.held_out,
        )

    def plus(self, other: Counterfactuals) -> Counterfactuals:
        sources = tuple((*a, *b) for a, b in zip(self.sources, other.sources))
        which = torch.cat([self.which, other.which])
        return Counterfactuals((*self.base, *other.base), sources, which, self.rate, self.held_out)

    def expected(self, model: CausalModel, variables: Sequence[str]) -> list[Any]:
        """The output of each item after the interchange of `variables`, one a slot."""
        found = []
        for i, base in enumerate(self.base):
            swapped = {v: self.sources[s][i] for s, v in enumerate(variables) if bool(self.which[i, s])}
            found.append(model.interchange(base, swapped)[model.out])
        return found

    def differs(self, model: CausalModel, variables: Sequence[str]) -> Tensor:
        """[n, variable] whether a source has another value of the variable than the base."""
        rows = []
        for i, base in enumerate(self.base):
            own = model.run(base)
            rows.append([model.run(self.sources[s][i])[v] != own[v] for s, v in enumerate(variables)])
        return torch.tensor(rows, dtype=torch.bool)

    def before(self, model: CausalModel) -> list[Any]:
        """The output of each base."""
        return [model.run(base)[model.out] for base in self.base]

    def changes(self, model: CausalModel, variables: Sequence[str]) -> Tensor:
        """[n] whether the interchange changes the output."""
        return torch.tensor([a != b for a, b in zip(self.expected(model, variables), self.before(model))])


def counterfactuals(
    model: CausalModel,
    variables: Sequence[str] | str,
    n: int,
    *,
    part: Part | None = None,
    seed: int = 0,
    rivals: Sequence[Hypothesis] = (),
    balance: bool = True,
) -> Counterfactuals:
    """n items, half of which change the answer of `model` (as they fall without `balance`); with `rivals`, spread
    evenly over which of them say so too.

    With several variables, each item exchanges a random non-empty set of them, each from a source of its own.
    Costs runs of the causal models alone: at least 2 n, at most 64 n. Raises InputError: no variable, the output
    itself where its answers never change, an interchange that never (or always) changes the answer.
    """
    variables = (variables,) if isinstance(variables, str) else tuple(variables)
    check(model, variables)
    hypotheses = [(model, variables), *rivals]
    drawer = _Drawer(model, hypotheses, part, seed)
    want, drawn = 2 * n, 0
    for _ in range(ROUNDS):
        drawer.draw(want - drawn)
        drawn = want
        if not balance and drawer.total >= n:
            break
        if balance and drawer.enough(n):
            break
        want *= 2
    what = ", ".join(variables)
    if not drawer.total and drawer.left_out:
        raise InputError(f"exchanging {what} never has a meaning: {drawer.why}")
    if not drawer.total:
        raise InputError(f"{model.name}: its inputs have too few values to hold any pair of them out.")
    if balance and not drawer.count(True):
        raise InputError(
            f"{model.name}: exchanging {what} never changed {model.out} in {drawn} pairs{drawer.constant()}, so no "
            "network could show that it does. Exchange a variable that matters, or give draw= inputs on which it does."
        )
    chosen = drawer.balanced(n) if balance else drawer.in_order[:n]
    rate = drawer.count(True) / max(1, drawer.total)
    base, sources, which = zip(*chosen)
    return Counterfactuals(
        tuple(base), tuple(zip(*sources)), torch.tensor(which, dtype=torch.bool), rate, drawer.held_out
    )


def check(model: CausalModel, variables: Sequence[str]) -> None:
    """Raise where they are not variables of the model, or none, or one twice."""
    if not variables:
        raise InputError("name at least one variable to align.")
    for name in variables:
        if name not in model.variables:
            raise UnknownName(f"variable of {model.name}", name, model.variables)
    if len(set(variables)) < len(variables):
        raise InputError(f"a variable is named twice: {', '.join(variables)}.")


class _Drawer:
    """Candidates by which hypotheses say that the answer changes."""

    def __init__(self, model: CausalModel, hypotheses: Sequence[Hypothesis], part: Part | None, seed: int) -> None:
        self.model, self.hypotheses, self.part = model, hypotheses, part
        self.rng = np.random.default_rng(np.random.SeedSequence([20311, seed, 0 if part != "test" else 1]))
        self.slots = max(len(variables) for _, variables in hypotheses)
        every = model.every_input
        self.held_out = "pairs" if every is not None and len(every) < FEW else "inputs"
        if model.held_out:
            self.held_out = f"values of {', '.join(model.held_out)}"
        self.listed: list[Values] | None = None
        if every is not None:
            self.listed = [v for v in every if self._mine(v)] if self.held_out != "pairs" else list(every)
        self.found: dict[tuple[bool, ...], list[Any]] = {}
        self.in_order: list[Any] = []
        self.total = self.left_out = 0
        self.why = ""
        self._runs: dict[tuple[int, Any], Values] = {}

    def _mine(self, *values: Values) -> bool:
        if self.part is None:
            return True
        by = self.model.held_out
        told = [sorted((name, x) for name, x in v.items() if not by or name in by) for v in values]
        digest = hashlib.blake2b(repr(told).encode(), digest_size=4).digest()
        return (int.from_bytes(digest, "big") / 2**32 < TRAINED) == (self.part == "train")

    def _input(self, base: Values | None = None) -> Values:
        made = base is not None and self.model.draw_source is not None
        if self.listed is not None and not made:
            return self.listed[int(self.rng.integers(len(self.listed)))]
        for _ in range(10_000):
            found = self.model.drawn(self.rng, base)
            if self.held_out == "pairs" or self._mine(found):
                return found
        raise InputError(f"{self.model.name}: draw gives too few different inputs to hold any out.")

    def draw(self, n: int) -> None:
        for _ in range(n):
            base = self._input()
            sources = tuple(self._input(base) for _ in range(self.slots))
            if self.held_out == "pairs" and not self._mine(base, *sources):
                continue
            which = tuple(bool(b) for b in self.rng.random(self.slots) < 0.5) if self.slots > 1 else (True,)
            if not any(which):
                forced = int(self.rng.integers(self.slots))
                which = tuple(s == forced for s in range(self.slots))
            try:
                key = tuple(self._changes(number, base, sources, which) for number in range(len(self.hypotheses)))
            except NoMeaning as error:
                self.left_out, self.why = self.left_out + 1, str(error)
                continue
            self.total += 1
            self.found.setdefault(key, []).append((base, sources, which))
            self.in_order.append((base, sources, which))

    def _changes(self, number: int, base: Values, sources: tuple[Values, ...], which: tuple[bool, ...]) -> bool:
        model, variables = self.hypotheses[number]
        set_to = {v: self._run(number, sources[s])[v] for s, v in enumerate(variables) if which[s]}
        return bool(model.run(base, set_to)[model.out] != self._run(number, base)[model.out])

    def _run(self, number: int, values: Values) -> Values:
        try:
            key = (number, tuple(values.values()))
            if key not in self._runs:
                self._runs[key] = self.hypotheses[number][0].run(values)
            return self._runs[key]
        except TypeError:  # a value that cannot be hashed
            return self.hypotheses[number][0].run(values)

    def enough(self, n: int) -> bool:
        """Whether each half can be filled, with equal shares of its keys."""
        for changes, wanted in ((True, (n + 1) // 2), (False, n // 2)):
            sizes = [len(items) for key, items in self.found.items() if key[0] == changes]
            if not sizes or min(sizes) < wanted // len(sizes):
                return False
        return True

    def constant(self) -> str:
        """In words, a variable that has the same value in all candidates; or nothing."""
        model, variables = self.hypotheses[0]
        for name in variables:
            values = {repr(model.run(base)[name]) for base, _, _ in self.in_order[:200]}
            if len(values) == 1:
                return f" ({name} was {values.pop()} in all of them)"
        return ""

    def count(self, changes: bool) -> int:
        return sum(len(items) for key, items in self.found.items() if key[0] == changes)

    def balanced(self, n: int) -> list[Any]:
        """Half of the items change the answer (all do where none leaves it); within a half, keys in equal shares."""
        halves = []
        for changes in (True, False):
            groups = [list(items) for key, items in sorted(self.found.items()) if key[0] == changes]
            halves.append(_evenly(groups, (n + 1) // 2 if changes else n // 2))
        if halves[1]:
            size = min(map(len, halves))
            halves = [halves[0][: size + n % 2], halves[1][:size]]
        items = [item for half in halves for item in half]
        return [items[i] for i in self.rng.permutation(len(items))]


def _evenly(groups: list[list[Any]], n: int) -> list[Any]:
    """Up to n items, one from each group in turn."""
    chosen: list[Any] = []
    at = 0
    while len(chosen) < n and any(at < len(group) for group in groups):
        chosen += [group[at] for group in groups if at < len(group)]
        at += 1
    return chosen[:n]


def shown(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
