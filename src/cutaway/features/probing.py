"""Sparse probing: how well k features tell a concept, chosen by the difference of their means (Gurnee et al. 2023).

Beside the dictionary's features: the point's own neurons and random directions, with as many coordinates, and a probe
on all coordinates. Kantamneni et al. (2025) found no consistent gain of features over the last.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.core import Estimate
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import auroc as scored
from cutaway.evidence import bootstrap
from cutaway.features.statistics import short

SIZES = (1, 2, 5)
ROWS = 3000


@dataclass(frozen=True)
class SparseProbing(Drawn):
    """Mean held-out AUROC over concepts: table[what][k], k in SIZES, and `whole`: of the probe on all coordinates."""

    n_concepts: int
    table: Mapping[str, Mapping[int, Estimate]]
    whole: Estimate

    def to_json(self) -> dict[str, Any]:
        found = {
            what: {str(k): one.model_dump(mode="json") for k, one in row.items()} for what, row in self.table.items()
        }
        return {
            "schema": "cutaway.sparse_probing/1", "n_concepts": self.n_concepts, "table": found,
            "whole": self.whole.model_dump(mode="json"),
        }  # fmt: skip

    def __str__(self) -> str:
        rows = [["sparse probing", *(f"k = {k}" for k in SIZES)]]
        rows += [[what, *(short(row[k]) for k in SIZES)] for what, row in self.table.items()]
        return "\n".join(
            [
                *columns(rows, right=range(1, len(rows[0]))),
                f"  all coordinates: {short(self.whole)}; mean held-out AUROC, 95 % bootstrap over {self.n_concepts} "
                "concepts",
            ]
        )

    __repr__ = __str__


def sparse_probing(
    coordinates: Mapping[str, Tensor], x: Tensor, labels: Tensor, learn: Tensor, seed: int = 0
) -> SparseProbing:
    """coordinates: what -> [n, m]; x [n, d]; labels [n, C] bool; learn [n] bool. Cost: a logistic regression a concept,
    kind and k, on at most 3,000 positions."""
    first, second = _some(learn, seed), _some(~learn, seed + 1)
    table: dict[str, dict[int, Estimate]] = {}
    for what, values in coordinates.items():
        fit, test = values[first].float(), values[second].float()
        spread = fit.std(0)
        found: dict[int, list[float]] = {k: [] for k in SIZES}
        for c in range(labels.shape[1]):
            holds = labels[first, c]
            apart = (fit[holds].mean(0) - fit[~holds].mean(0)).abs() / spread.clamp_min(1e-8)
            order = apart.masked_fill(spread == 0, -1).argsort(descending=True)
            for k in SIZES:
                some = order[:k]
                found[k].append(probe_auroc(fit[:, some], holds, test[:, some], labels[second, c]))
        table[what] = {k: bootstrap(values, name=f"{what}, k = {k}", over="concepts") for k, values in found.items()}
    whole = [probe_auroc(x[first], labels[first, c], x[second], labels[second, c]) for c in range(labels.shape[1])]
    return SparseProbing(labels.shape[1], table, bootstrap(whole, name="all coordinates", over="concepts"))


def probe_auroc(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor) -> float:
    """Held-out AUROC of a logistic regression on standardised coordinates [n, m]; .5 where a class is missing."""
    from sklearn.linear_model import LogisticRegression

    if len(torch.unique(y)) < 2 or len(torch.unique(y_test)) < 2:
        return 0.5
    mean, spread = x.double().mean(0), x.double().std(0).clamp_min(1e-8)
    fit = LogisticRegression(C=1.0, max_iter=100, class_weight="balanced")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit.fit(((x.double() - mean) / spread).numpy(), y.numpy())
    score = fit.decision_function(((x_test.double() - mean) / spread).numpy())
    return float(scored(np.asarray(score), y_test.numpy()).value)


def direction(x: Tensor, y: Tensor) -> Tensor:
    """The unit direction of such a probe in the coordinates' own units, [m]."""
    from sklearn.linear_model import LogisticRegression

    spread = x.double().std(0).clamp_min(1e-8)
    fit = LogisticRegression(C=1.0, max_iter=100, class_weight="balanced")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit.fit(((x.double() - x.double().mean(0)) / spread).numpy(), y.numpy())
    w = torch.as_tensor(fit.coef_[0]) / spread
    unit: Tensor = (w / w.norm()).to(x.dtype)
    return unit


def _some(which: Tensor, seed: int) -> Tensor:
    index = which.nonzero()[:, 0]
    return index[torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))[:ROWS]]
