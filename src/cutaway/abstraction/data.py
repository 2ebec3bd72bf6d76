"""Counterfactuals as one network runs them: its base rows with everything before any change kept, and the vectors that
the sources have at each place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cutaway.abstraction.causal_model import CausalModel
from cutaway.abstraction.continuation import Continuation, Heads, vectors
from cutaway.abstraction.counterfactuals import Counterfactuals
from cutaway.abstraction.places import Place
from cutaway.abstraction.written import Written, answers, columns, right, tokens, written
from cutaway.core import InputError
from cutaway.model.sweeps.replay import Base

if TYPE_CHECKING:
    from cutaway.model import Model


@dataclass(frozen=True, eq=False)
class Spot:
    """One place on one data set: base columns [item, P] and the source's vectors there [item, P, width]."""

    address: str
    head: Heads
    columns: Tensor
    source: Tensor

    @property
    def width(self) -> int:
        return int(self.source.shape[-1])


class Data:
    """The items of `pairs`, run once. `wanted` [n, s]: the tokens that are right after the interchange, padded with -1;
    `unchanged` those right before it; `changes` [n]: whether the interchange makes what the network says wrong;
    `competent` [n]: whether the network is right on the base and on every source.

    Costs two forwards of the base rows, and one of each slot's source rows.
    """

    def __init__(
        self, model: Model, causal: CausalModel, variables: Sequence[str], pairs: Counterfactuals,
        addresses: Sequence[str],
    ) -> None:  # fmt: skip
        self.model, self.causal, self.variables, self.pairs = model, causal, tuple(variables), pairs
        names = list(dict.fromkeys(name for a in addresses for name in model.addresses(a)))
        self.rows = written(model, causal, pairs.base)
        self.continuation = Continuation(model, self.rows.batch, answers(model, causal, self.rows), names)
        self.unchanged = tokens(model, causal, pairs.before(causal))
        self.wanted = self.labels(causal, variables)
        # Where what the network says alone stays right (answers may be sets), an exchange is not asked to do anything.
        self.changes = pairs.changes(causal, variables) & ~right(self.continuation.logits, self.wanted).cpu()
        self.competent = right(self.continuation.logits, self.unchanged).cpu()
        self.source_rows: list[Written] = []
        self._sources: list[dict[str, Tensor]] = []
        for slot, inputs in enumerate(pairs.sources):
            rows = written(model, causal, inputs)
            seen = Base(model, rows.batch, answers(model, causal, rows), [model.site(name) for name in names])
            own = tokens(model, causal, [causal.run(values)[causal.out] for values in inputs])
            self.competent &= right(seen.logits, own).cpu() | ~pairs.which[:, slot]
            self.source_rows.append(rows)
            self._sources.append(seen.read)
        if vocab := self.continuation.vocab:
            most = int(self.wanted.max())
            if most >= vocab:
                raise InputError(f"answer= names output {most}, and {model.name} has {vocab} (0 … {vocab - 1}).")

    def __len__(self) -> int:
        return len(self.pairs)

    def labels(self, causal: CausalModel, variables: Sequence[str]) -> Tensor:
        """[n, s] what a causal model says should come out, as tokens."""
        return tokens(self.model, causal, self.pairs.expected(causal, variables))

    def spot(self, place: Place, slot: int) -> Spot:
        """A place with what slot's sources have there. Raises InputError: no such point or position."""
        names = self.model.addresses(place.at)
        if len(names) != 1:
            raise InputError(
                f"{place.at} stands for {len(names)} points; a variable has one place (align_sweep takes many)."
            )
        (address,) = names
        here = self._columns(place, self.rows)
        there = self._columns(place, self.source_rows[slot])
        if here.shape[1] != there.shape[1]:
            raise InputError(
                f"{place.where}: the bases have {here.shape[1]} such positions, the sources {there.shape[1]}."
            )
        source = vectors(self._sources[slot][address], there, place.head, address)
        if place.head is not None and self.continuation.read[address].ndim != 4:
            raise InputError(f"{address} has no heads to select.")
        return Spot(address, place.head, here, source)

    def _columns(self, place: Place, rows: Written) -> Tensor:
        if self.model.site(place.at).free and self.continuation.read[self.model.addresses(place.at)[0]].ndim == 2:
            if place.positions not in ("answer", None):
                raise InputError(f"{place.at} is [row, width] and has no positions; leave positions= out.")
            return torch.zeros(len(rows.inputs), 1, dtype=torch.long)
        return columns(self.model, self.causal, rows, place.positions, place.where)

    def base(self, spot: Spot) -> Tensor:
        """[item, P, width]: what the bases have at a spot."""
        return self.continuation.vectors(spot.address, spot.columns, spot.head)
