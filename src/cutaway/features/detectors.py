"""Which concepts a dictionary has a feature for: coverage against frequency, and what firing strongly or weakly means.

For each concept the best feature is chosen by AUROC on half of the rows and reported on the other half, beside the best
neuron and the best of as many random directions, chosen alike (either sign), and a linear probe on all coordinates.

    covered      held-out AUROC of the best feature >= .95
    specificity  of a band of activations: share of its tokens where the concept holds       (Scaling Monosemanticity)
    sensitivity  share of the concept's tokens where the feature fires at least so strongly
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from cutaway.core import Estimate, Evidence
from cutaway.core.drawing import Drawn
from cutaway.core.evidence import Comparison
from cutaway.core.table import columns
from cutaway.evidence import auroc, bootstrap, correlation

COVERED = 0.95
BANDS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the feature's largest activation
ROWS = 6000  # positions of either half, at most
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Detected:
    """One concept: how often it holds, the feature chosen for it, and held-out AUROCs of that feature and of others.

    bands: (specificity, sensitivity, n) of the quarters of the feature's activations, weakest first.
    """

    name: str
    frequency: float
    feature: int
    auroc: Estimate
    beside: Mapping[str, float]
    bands: tuple[tuple[float, float, int], ...]

    def to_json(self) -> dict[str, Any]:
        bands = [
            {"from": low, "to": high, "specificity": s if math.isfinite(s) else None, "sensitivity": r, "n": n}
            for (low, high), (s, r, n) in zip(pairwise(BANDS), self.bands)
        ]
        return {
            "name": self.name, "frequency": self.frequency, "feature": self.feature,
            "auroc": self.auroc.model_dump(mode="json"), "beside": dict(self.beside), "bands": bands,
        }  # fmt: skip


@dataclass(frozen=True)
class Coverage(Drawn):
    """All concepts, the most frequent first."""

    source: str
    n_positions: int
    found: tuple[Detected, ...]
    with_frequency: Estimate
    evidence: Evidence
    units: str = "tokens"

    def covered(self, by: str | None = None) -> int:
        """How many concepts the dictionary (or what stands beside it) covers."""
        values = [d.auroc.value if by is None else d.beside[by] for d in self.found]
        return sum(value >= COVERED for value in values)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.coverage/1",
            "source": self.source,
            "n": self.n_positions,
            "units": self.units,
            "covered_at": COVERED,
            "concepts": [one.to_json() for one in self.found],
            "with_frequency": self.with_frequency.model_dump(mode="json"),
            "evidence": self.evidence.to_json(),
        }

    def __str__(self) -> str:
        beside = list(self.found[0].beside)
        table = [["concept", self.units, "feature", "AUROC", *beside, "weak -> strong: holds at", "fires there"]]
        for one in self.found:
            bands = " ".join("  -" if not n else f"{s:3.0%}".rjust(3) for s, _, n in one.bands)
            table.append([
                one.name, f"{one.frequency:.2%}", str(one.feature), f"{one.auroc.value:.3f}",
                *(f"{one.beside[name]:.3f}" for name in beside), bands, f"{one.bands[0][1]:.0%}",
            ])  # fmt: skip
        counts = ", ".join(f"{name} {self.covered(name)}" for name in beside)
        return "\n".join(
            [
                f"coverage of {len(self.found)} known concepts ({self.source})",
                f"the best feature is chosen on half of "
                f"the rows, scored on the other ({self.n_positions:,} {self.units})",
                *columns(table, right=range(1, len(table[0]))),
                f"  AUROC >= {COVERED}: {self.covered()} of {len(self.found)} concepts; {counts}",
                f"  rank correlation of AUROC with frequency: {self.with_frequency}",
                f"  best feature beside the best neuron and the best random direction: {self.evidence.verdict_text}",
            ]
        )

    __repr__ = __str__


def coverage(
    a: Tensor, beside: Mapping[str, Tensor], labels: Tensor, names: tuple[str, ...], learn: Tensor, *,
    source: str, x: Tensor, seed: int = 0, units: str = "tokens",
) -> Coverage:  # fmt: skip
    """a [n, F] activations; beside: name -> [n, m] signed coordinates of what stands beside; labels [n, C] bool; learn
    [n] bool: where features are chosen; x [n, d]: what a probe reads. Cost: n log n ranks of every column."""
    from cutaway.features.probing import probe_auroc

    first, second = _some(learn, seed), _some(~learn, seed + 1)
    held = labels[second].numpy()
    best = _chosen(a[first], labels[first], signed=False)
    others = {name: _chosen(v[first], labels[first], signed=True) for name, v in beside.items()}
    out = []
    for c, name in enumerate(names):
        feature = int(best[0][c])
        scores = a[second, feature].double().numpy()
        at = {
            key: float(auroc(value[second, int(index[c])].double().numpy() * sign[c], held[:, c]).value)
            for (key, value), (index, sign) in zip(beside.items(), others.values())
        }
        at["linear probe"] = probe_auroc(x[first], labels[first, c], x[second], labels[second, c])
        out.append(
            Detected(
                name, float(labels[:, c].float().mean()), feature, auroc(scores, held[:, c], name=name), at,
                _bands(scores, held[:, c]),
            )
        )  # fmt: skip
    out.sort(key=lambda one: -one.frequency)
    values = np.array([one.auroc.value for one in out])
    nulls = tuple(
        Comparison(
            estimate=bootstrap([one.beside[name] for one in out], name=f"best of {name}", over="concepts"),
            difference=_difference(values, [one.beside[name] for one in out]),
        )
        for name in beside
    )
    random = tuple(n for n in nulls if "random" in n.estimate.name)
    evidence = Evidence(
        claim="one feature tells whether a known concept holds",
        effect=bootstrap(values, name="mean held-out AUROC of the best feature", over="concepts"),
        nulls=random,
        baselines=tuple(n for n in nulls if n not in random),
        seeds=(seed,),
        how="feature chosen on half of the rows, AUROC on the other half; neurons and random directions chosen alike",
    )
    many = correlation([one.frequency for one in out], values, over="concepts", name="rank correlation")
    return Coverage(source, len(second), tuple(out), many, evidence, units)


def _difference(ours: Floats, theirs: list[float]) -> Any:
    from cutaway.evidence import bootstrap_difference

    return bootstrap_difference(ours, theirs, paired=True, over="concepts")


def _some(which: Tensor, seed: int) -> Tensor:
    index = which.nonzero()[:, 0]
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))
    return index[order[:ROWS]]


def _chosen(values: Tensor, labels: Tensor, *, signed: bool) -> tuple[Floats, Floats]:
    """(column [C], sign [C]) with the best AUROC of each concept."""
    found = all_aurocs(values, labels)  # [m, C]
    away = np.abs(found - 0.5) if signed else found
    index = np.nan_to_num(away, nan=-1).argmax(0)
    sign = np.where(found[index, np.arange(found.shape[1])] >= 0.5, 1.0, -1.0) if signed else np.ones(found.shape[1])
    return index.astype(np.float64), sign


def all_aurocs(values: Tensor, labels: Tensor) -> Floats:
    """Columns [n, m] as scores of labels [n, C] bool -> AUROC [m, C]; NaN where a label has one class."""
    positive = labels.double().numpy()
    n1 = positive.sum(0)
    n0 = positive.shape[0] - n1
    out = np.empty((values.shape[1], positive.shape[1]))
    for start in range(0, values.shape[1], 256):  # ranks in blocks: [n, 256] doubles at a time
        ranks = stats.rankdata(values[:, start : start + 256].numpy(), axis=0)
        out[start : start + 256] = ranks.T @ positive
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((out - n1 * (n1 + 1) / 2) / (n1 * n0), dtype=np.float64)


def _bands(scores: Floats, holds: NDArray[np.bool_]) -> tuple[tuple[float, float, int], ...]:
    peak, total = float(scores.max()), max(1, int(holds.sum()))
    out = []
    for low, high in pairwise(BANDS):
        inside = (scores > low * peak) & (scores <= high * peak)
        n = int(inside.sum())
        fired = float((holds & (scores > low * peak)).sum()) / total
        out.append((float(holds[inside].mean()) if n else math.nan, fired, n))
    return tuple(out)
