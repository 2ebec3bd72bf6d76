"""Whether features are found again: over seeds, and over widths (the splitting tree), beside random directions.

    partner of i     the feature of the other dictionary whose decoder row has the largest cosine with i's
    geometric null   the same for random directions in place of i: what many rows in few dimensions give by chance
    found again      cosine over the null's 95 % quantile, and over 0.7

Cosines are of decoder rows: what a feature writes. Bricken et al. 2023 correlate activations too; on one text the two
agree mostly, and directions need no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.core.drawing import Drawn
from cutaway.evidence import random_directions

CLOSE = 0.7
_DRAWS = 2048


@dataclass(frozen=True, eq=False)
class Stability:
    """cosine [F]: of each feature with its partner, mean over the other dictionaries; partner [F] in the first of them;
    null: the 95 % quantile of what random directions have; over: how many dictionaries, of what."""

    cosine: Tensor
    partner: Tensor
    null: float
    null_median: float
    over: str

    @property
    def found_again(self) -> float:
        """Share of features over the null's 95 % quantile."""
        return float((self.cosine > self.null).float().mean())

    @property
    def close(self) -> float:
        """Share of features over .7, and over the null's quantile."""
        return float((self.cosine > max(self.null, CLOSE)).float().mean())

    def to_json(self) -> dict[str, Any]:
        q = torch.quantile(self.cosine, torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]))
        return {
            "over": self.over, "n_features": self.cosine.shape[0], "median": float(self.cosine.median()),
            "quantiles": [round(float(v), 4) for v in q], "found_again": self.found_again, "close": self.close,
            "null_median": self.null_median, "null_95": self.null,
        }  # fmt: skip

    def __str__(self) -> str:
        low, middle, high = torch.quantile(self.cosine, torch.tensor([0.25, 0.5, 0.75])).tolist()
        return (
            f"stability over {self.over}: a feature's nearest has cosine {middle:.2f} (quartiles {low:.2f} to "
            f"{high:.2f}); random directions {self.null_median:.2f}\n"
            f"  found again (over the random 95 %, {self.null:.2f}): {self.found_again:.0%}; with cosine over "
            f"{CLOSE}: {self.close:.0%}"
        )


@torch.no_grad()
def stability(own: Tensor, others: Sequence[Tensor], seed: int = 0, what: str = "dictionaries") -> Stability:
    """own [F, d] against decoders of other seeds [F', d]. Raises `InputError` for none, or for another width d."""
    if not others:
        raise InputError("stability is over other dictionaries: give at least one.")
    if any(other.shape[1] != own.shape[1] for other in others):
        raise InputError(f"decoders of one point have one width; {own.shape[1]} and others were given.")
    found = [nearest(own, other) for other in others]
    cosine = torch.stack([c for c, _ in found]).mean(0)
    chance = torch.cat([_by_chance(other, seed + i) for i, other in enumerate(others)])
    return Stability(
        cosine, found[0][1], float(torch.quantile(chance, 0.95)), float(chance.median()), f"{len(others)} {what}"
    )


@torch.no_grad()
def nearest(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """(cosine, index) [F] of the row of `other` that each row of `own` lies closest to."""
    unit = torch.nn.functional.normalize
    a, b = unit(own.float(), dim=1), unit(other.float(), dim=1)
    values, index = [], []
    for part in a.split(1024):  # type: ignore[no-untyped-call]
        top = (part @ b.T).max(1)
        values.append(top.values)
        index.append(top.indices)
    return torch.cat(values), torch.cat(index)


def _by_chance(other: Tensor, seed: int) -> Tensor:
    """Cosines of random directions with their nearest row."""
    like = torch.ones(min(_DRAWS, 4 * other.shape[0]), other.shape[1])
    return nearest(random_directions(like, seed=seed), other)[0]


@dataclass(frozen=True, eq=False)
class Splitting(Drawn):
    """Dictionaries of one point from narrow to wide. parents[i] [F_{i+1}]: the feature of width i that each feature of
    the next lies closest to, -1 where no closer than chance; cosines alike."""

    widths: tuple[int, ...]
    parents: tuple[Tensor, ...]
    cosines: tuple[Tensor, ...]
    null: tuple[float, ...]

    def children(self, level: int, feature: int) -> list[int]:
        """Features of the next width whose parent it is."""
        return [int(f) for f in (self.parents[level] == feature).nonzero()[:, 0]]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.splitting/1",
            "widths": list(self.widths),
            "null_95": list(self.null),
            "parents": [p.tolist() for p in self.parents],
            "cosines": [[round(v, 4) for v in c.tolist()] for c in self.cosines],
        }

    def __str__(self) -> str:
        lines = [f"splitting over widths {', '.join(map(str, self.widths))} (parents: nearest by decoder cosine)"]
        for i, parents in enumerate(self.parents):
            with_one = int((parents >= 0).sum())
            counts = torch.bincount(parents[parents >= 0], minlength=self.widths[i])
            lines.append(
                f"  {self.widths[i]} -> {self.widths[i + 1]}: {with_one / len(parents):.0%} have a parent (cosine over "
                f"chance, {self.null[i]:.2f}); {int((counts > 1).sum())} features split, the most into "
                f"{int(counts.max())}"
            )
        return "\n".join(lines)


@torch.no_grad()
def splitting(decoders: Sequence[Tensor], seed: int = 0) -> Splitting:
    """Decoders [F, d] of one point, ordered by width. Raises `InputError` for fewer than two."""
    if len(decoders) < 2:
        raise InputError("features split between widths: give at least two dictionaries of one point.")
    ordered = sorted(decoders, key=lambda w: w.shape[0])
    parents, cosines, nulls = [], [], []
    for narrow, wide in pairwise(ordered):
        cosine, index = nearest(wide, narrow)
        null = float(torch.quantile(_by_chance(narrow, seed), 0.95))
        parents.append(torch.where(cosine > null, index, -1))
        cosines.append(cosine)
        nulls.append(null)
    return Splitting(tuple(w.shape[0] for w in ordered), tuple(parents), tuple(cosines), tuple(nulls))
