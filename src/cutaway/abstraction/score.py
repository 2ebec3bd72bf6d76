"""Interchange intervention accuracy (IIA) and what it is made of, with intervals over items.

IIA = P(the network's output after the interchange = the causal model's). On balanced items it is the mean of
cause (IIA where the interchange changes the answer) and isolate (IIA where it does not), which RAVEL calls disentangle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.core import Comparison, Estimate
from cutaway.evidence import bootstrap_difference, wilson


@dataclass(frozen=True, eq=False)
class Score:
    """hits [seed, item]; changes [item]."""

    hits: Tensor
    changes: Tensor

    @property
    def iia(self) -> Estimate:
        return share(self.hits, "IIA")

    @property
    def cause(self) -> Estimate:
        return share(self.hits[:, self.changes], "cause: IIA where the answer changes")

    @property
    def isolate(self) -> Estimate:
        return share(self.hits[:, ~self.changes], "isolate: IIA where it does not")

    @property
    def disentangle(self) -> float:
        return (self.cause.value + self.isolate.value) / 2

    @property
    def seeds(self) -> list[float]:
        """IIA of each seed."""
        return [float(x) for x in self.hits.float().mean(1)]

    def named(self, name: str) -> Estimate:
        return share(self.hits, name)


@dataclass(frozen=True, eq=False)
class Attribute:
    """RAVEL's measures of one variable (Huang et al. 2024), on items that exchange it alone, for another value of it:
    cause where the answer should become the source's, isolate where the answer is about something else."""

    name: str
    cause: Estimate
    isolate: Estimate

    @property
    def disentangle(self) -> float:
        return (self.cause.value + self.isolate.value) / 2

    def to_json(self) -> dict[str, Any]:
        value = self.disentangle
        return {
            "name": self.name, "cause": self.cause.model_dump(mode="json"),
            "isolate": self.isolate.model_dump(mode="json"), "disentangle": value if math.isfinite(value) else None,
        }  # fmt: skip


def attributes(names: Sequence[str], score: Score, which: Tensor, differs: Tensor) -> tuple[Attribute, ...]:
    """which, differs [item, variable]: whether an item exchanges the variable, and whether its value then differs."""
    found = []
    for v, name in enumerate(names):
        alone = which[:, v] & (which.sum(1) == 1) & differs[:, v]
        found.append(
            Attribute(
                name,
                share(score.hits[:, alone & score.changes], f"cause of {name}"),
                share(score.hits[:, alone & ~score.changes], f"isolate of {name}"),
            )
        )
    return tuple(found)


def share(hits: Tensor, name: str) -> Estimate:
    """The mean of hits [seed, item] with Wilson's interval over items (their mean over seeds counted as so many hits of
    n items); the seeds' own values are in the note. NaN for no items."""
    n = int(hits.shape[1])
    if not n:
        return Estimate(name=name, value=math.nan, n=0)
    value = float(hits.double().mean())
    seeds = [f"{float(x):.3f}" for x in hits.double().mean(1)]
    note = f"{len(seeds)} seeds: {', '.join(seeds)}" if len(seeds) > 1 else ""
    span = wilson(round(value * n), n)
    # The rounding to whole hits must not leave the value outside its own interval.
    span = span.model_copy(update={"low": min(span.low, value), "high": max(span.high, value)})
    return Estimate(name=name, value=value, interval=span, n=n, note=note)


def beside(effect: Tensor, other: Tensor, name: str, seed: int = 0) -> Comparison:
    """Another arm's hits [seed, item] beside the effect's, on the same items: the difference is a paired bootstrap."""
    mine, theirs = effect.double().mean(0).numpy(), other.double().mean(0).numpy()
    difference = bootstrap_difference(mine, theirs, paired=True, over="items", seed=seed) if len(mine) > 1 else None
    return Comparison(estimate=share(other, name), difference=difference)


def balanced(rows: Tensor, changes: Tensor) -> Tensor:
    """As many rows that change as that do not (all, where one kind is missing), in their order."""
    yes, no = rows[changes[rows]], rows[~changes[rows]]
    size = min(len(yes), len(no))
    kept = rows if size == 0 else torch.cat([yes[:size], no[:size]]).sort().values
    return kept
