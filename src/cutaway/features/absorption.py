"""Absorption: a feature for a concept that is silent where a more special feature has taken the concept over.

After Chanin et al. (2024, "A is for Absorption"), on first letters: a probe's direction w stands for "begins with c".
The main features of c are the ones that tell it best (up to 3, while each raises the F1 by .03). A token of c is

    missed     where no main feature fires
    absorbed   missed, and one other feature writes along w: it has a cosine of at least .025 with w, the largest
               share of what the active features write along w, and at least twice that of the next

Rates are shares of the held-out tokens of the letter. The original tests causal effects where this looks at what is
written (as SAEBench does beyond the last layers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from cutaway.core import Estimate
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import proportion
from cutaway.features.probing import direction

COSINE, MAIN, RAISE = 0.025, 3, 0.03
_ROWS = 6000


class _Encodes(Protocol):
    @property
    def written(self) -> Tensor: ...

    def encode(self, x: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Letter:
    """One letter: its main features, their F1 on the learning half, tokens looked at, missed and absorbed."""

    name: str
    main: tuple[int, ...]
    f1: float
    n: int
    missed: int
    absorbed: int


@dataclass(frozen=True)
class Absorption(Drawn):
    """letters of the dictionary; null: the rate of the same in random directions at the same L0."""

    letters: tuple[Letter, ...]
    rate: Estimate
    missed: Estimate
    null: Estimate

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.absorption/1",
            "letters": [vars(one) for one in self.letters],
            "rate": self.rate.model_dump(mode="json"),
            "missed": self.missed.model_dump(mode="json"),
            "null": self.null.model_dump(mode="json"),
        }

    def __str__(self) -> str:
        rows = [["letter", "main features", "F1", "tokens", "missed", "absorbed"]]
        for one in sorted(self.letters, key=lambda one: -one.n)[:8]:
            rows.append([
                one.name[-1], " ".join(map(str, one.main)), f"{one.f1:.2f}", str(one.n), f"{one.missed / one.n:.0%}",
                f"{one.absorbed / one.n:.0%}",
            ])  # fmt: skip
        return "\n".join(
            [
                f"absorption of first letters: {self.rate.value:.1%} {_span(self.rate)} of {self.rate.n:,} tokens "
                f"(missed {self.missed.value:.1%}); random directions {self.null.value:.1%} {_span(self.null)}",
                *columns(rows, right=range(2, 6)),
                f"  the {min(8, len(self.letters))} most frequent of {len(self.letters)} letters",
            ]
        )

    __repr__ = __str__


@torch.no_grad()
def absorption(
    dictionary: _Encodes, random: _Encodes, x: Tensor, labels: Tensor, names: Sequence[str], learn: Tensor
) -> Absorption:
    """x [n, d]; labels [n, C] bool of letters; learn [n] bool. random: the same, with features that mean nothing.
    Cost: a logistic regression a letter, two encodings."""
    ours = _letters(dictionary, x, labels, names, learn)
    theirs = _letters(random, x, labels, names, learn)
    n, m = sum(one.n for one in ours), sum(one.n for one in theirs)
    return Absorption(
        tuple(ours),
        proportion(sum(one.absorbed for one in ours), n, name="absorbed"),
        proportion(sum(one.missed for one in ours), n, name="missed"),
        proportion(sum(one.absorbed for one in theirs), m, name="absorbed, random directions"),
    )


def _letters(dictionary: _Encodes, x: Tensor, labels: Tensor, names: Sequence[str], learn: Tensor) -> list[Letter]:
    first, second = learn.nonzero()[:_ROWS, 0], (~learn).nonzero()[:_ROWS, 0]
    W = dictionary.written.float()
    unit = torch.nn.functional.normalize(W, dim=1)
    fit = dictionary.encode(x[first])
    fires = (fit != 0).float()
    out = []
    for c, name in enumerate(names):
        holds = labels[first, c]
        mine = second[labels[second, c]]
        if int(holds.sum()) < 5 or len(mine) == 0:
            continue
        w = direction(x[first], holds).float()
        main, f1 = _main(fires, holds)
        a = dictionary.encode(x[mine])
        silent = (a[:, list(main)] == 0).all(1)
        written = a * (W @ w)
        written[:, list(main)] = 0
        written[:, (unit @ w) < COSINE] = 0
        top = written.topk(min(2, written.shape[1]), dim=1).values
        taken = silent & (top[:, 0] > 0) & (top[:, 0] >= 2 * top[:, -1].clamp_min(0))
        out.append(Letter(name, main, f1, len(mine), int(silent.sum()), int(taken.sum())))
    return out


def _main(fires: Tensor, holds: Tensor) -> tuple[tuple[int, ...], float]:
    """Up to MAIN features whose union tells the letter best, by F1 of firing."""
    any_fires = torch.zeros(fires.shape[0], dtype=torch.bool)
    chosen: list[int] = []
    best = 0.0
    total = float(holds.sum())
    for _ in range(MAIN):
        union = torch.maximum(fires, any_fires[:, None].float())
        hit = union[holds].sum(0)
        f1 = 2 * hit / (union.sum(0) + total)
        top = int(f1.argmax())
        if float(f1[top]) < best + RAISE and chosen:
            break
        best = float(f1[top])
        chosen.append(top)
        any_fires |= fires[:, top] > 0
    return tuple(chosen), best


def _span(estimate: Estimate) -> str:
    span = estimate.interval
    return f"[{span.low:.1%}, {span.high:.1%}]" if span else ""
