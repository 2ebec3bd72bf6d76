"""Whether models trained alike from different seeds find the same circuit, though their heads have no common numbering.

Heads of two models are matched by what they do *off* the task: attention on random tokens, the eigenvalues of what they
copy, their layer. Then one asks whether matched heads are in the circuit together, and have the same class there. The
null matches at random within each layer, so that depth alone counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from cutaway.core import Comparison, Estimate, Evidence, InputError, Interval
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.exams.ioi.classes import CLASSES
from cutaway.exams.ioi.result import IOICase

SCHEMA = "cutaway.ioi-across/1"
Floats = NDArray[np.float64]
OFF_TASK = ("previous token", "duplicate token", "prefix matching", "first token", "OV copying (eigenvalues)")


@dataclass(frozen=True, eq=False, repr=False)
class Across(Drawn):
    """`jaccard`, `classes` [pair]: of circuits under the matching; share of matched circuit heads with a class in
    common. `p`: of each mean, by permutation."""

    models: tuple[str, ...]
    cases: tuple[IOICase, ...]
    pairs: tuple[tuple[str, str], ...]
    jaccard: tuple[float, ...]
    agreement: tuple[float, ...]
    p: tuple[float, float]
    evidence: tuple[Evidence, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "models": list(self.models),
            "classes": {
                c: {one.model: {"circuit": list(one.named.inside[c]), "others": list(one.named.outside[c])}
                    for one in self.cases}
                for c in CLASSES
            },
            "pairs": [
                {"models": list(pair), "jaccard": j, "agreement": a}
                for pair, j, a in zip(self.pairs, self.jaccard, self.agreement)
            ],
            "p": {"jaccard": self.p[0], "agreement": self.p[1]},
            "evidence": [item.to_json() for item in self.evidence],
        }  # fmt: skip

    def __str__(self) -> str:
        rows = [("class", *self.models)]
        for c in CLASSES:
            cells = []
            for one in self.cases:
                inside, outside = one.named.inside[c], one.named.outside[c]
                other = f" ({', '.join(outside)})" if outside else ""
                cells.append((", ".join(inside) or ("absent" if c in one.named.absent else "-")) + other)
            rows.append((c, *cells))
        rows.append(
            ("no class", *(", ".join(h for h in one.heads if not one.named.of(h)) or "-" for one in self.cases))
        )
        rows.append(("heads", *(f"{len(one.heads)} of {len(one.behaviours.heads)}" for one in self.cases)))
        title = "Classes in each model; in brackets heads outside its circuit"
        return "\n\n".join(["\n".join([title, *columns(rows)]), *map(str, self.evidence)])

    __repr__ = __str__


def across(cases: Sequence[IOICase], *, permutations: int = 2000, seed: int = 0) -> Across:
    """Compare the circuits of models of one shape. Costs no forward. Raises InputError for fewer than two."""
    shapes = {len(one.behaviours.heads) for one in cases}
    if len(cases) < 2 or len(shapes) > 1:
        raise InputError("circuits are compared across at least two models with as many heads each.")
    rng = np.random.default_rng(seed)
    pairs = list(combinations(range(len(cases)), 2))
    matched = [_match(cases[a], cases[b]) for a, b in pairs]
    observed = np.array([_agree(cases[a], cases[b], m) for (a, b), m in zip(pairs, matched)])  # [pair, 2]
    null = np.empty((permutations, 2))
    for i in range(permutations):
        drawn = [_agree(cases[a], cases[b], _shuffled(cases[b], rng)) for a, b in pairs]
        null[i] = np.nanmean(np.array(drawn), axis=0)
    mean = np.nanmean(observed, axis=0)
    p = tuple(float((1 + (null[:, k] >= mean[k] - 1e-12).sum()) / (1 + permutations)) for k in range(2))
    evidence = tuple(
        _evidence(claim, name, mean[k], observed[:, k], null[:, k], p[k], len(pairs), seed)
        for k, (claim, name) in enumerate(
            (
                ("Heads that are alike off the task are in the circuit together", "Jaccard of circuits, heads matched"),
                ("… and have a class in common", "share of matched circuit heads with a class in common"),
            )
        )
    )
    names = tuple(one.model for one in cases)
    return Across(
        names, tuple(cases), tuple((names[a], names[b]) for a, b in pairs), tuple(observed[:, 0].tolist()),
        tuple(observed[:, 1].tolist()), (p[0], p[1]), evidence,
    )  # fmt: skip


def _features(case: IOICase) -> Floats:
    """[head, feature]: off the task, and the layer; each with unit spread."""
    b = case.behaviours
    layer = np.array([int(h[1:].partition(".")[0]) for h in b.heads], dtype=np.float64)
    x = np.stack([*(b.scores[name] for name in OFF_TASK), layer], 1)
    return np.asarray((x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1.0))


def _match(a: IOICase, b: IOICase) -> NDArray[np.int64]:
    """[head of a] -> head of b, each once, the sum of squared distances least."""
    apart = ((_features(a)[:, None] - _features(b)[None]) ** 2).sum(-1)
    return np.asarray(linear_sum_assignment(apart)[1], dtype=np.int64)


def _shuffled(case: IOICase, rng: np.random.Generator) -> NDArray[np.int64]:
    layers = np.array([h.partition(".")[0] for h in case.behaviours.heads])
    order = np.arange(len(layers))
    for layer in np.unique(layers):
        (members,) = np.nonzero(layers == layer)
        order[members] = rng.permutation(members)
    return order


def _agree(a: IOICase, b: IOICase, match: NDArray[np.int64]) -> tuple[float, float]:
    """(Jaccard of the circuits, share of a's and b's matched circuit heads with a class in common; of all in either)"""
    there = [b.behaviours.heads[i] for i in match]
    both = [(x, y) for x, y in zip(a.behaviours.heads, there) if x in a.heads and y in b.heads]
    either = sum(x in a.heads or y in b.heads for x, y in zip(a.behaviours.heads, there))
    alike = sum(bool(set(a.named.of(x)) & set(b.named.of(y))) for x, y in both)
    return len(both) / max(1, either), alike / max(1, either)


def _evidence(
    claim: str, name: str, mean: float, each: Floats, null: Floats, p: float, pairs: int, seed: int
) -> Evidence:
    low, high = (float(x) for x in np.quantile(null, [0.025, 0.975]))
    span = Interval(low=float(each.min()), high=float(each.max()), method=f"least and most of {pairs} pairs of models")
    return Evidence(
        claim=claim,
        effect=Estimate(name=name, value=float(mean), interval=span, n=pairs),
        nulls=(
            Comparison(
                estimate=Estimate(
                    name="heads matched at random within layers", value=float(null.mean()), n=len(null),
                    interval=Interval(low=low, high=high, method="middle 95% of permutations"),
                )
            ),
        ),
        seeds=(seed,),
        how=f"Hungarian matching on attention to random tokens, OV eigenvalues and layer; permutation p = {p:.3g}.",
        settings={"p": p},
    )  # fmt: skip
