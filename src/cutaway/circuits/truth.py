"""A ranking of edges against edges that are known: precision and recall along all of it.

`against_truth` has the AUROC and the precision at the true size; where true edges are few the AUROC flatters, and the
average precision says more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core import Estimate, InputError, Interval

Floats = NDArray[np.float64]


def precision_recall(scores: Tensor, exists: Tensor, truth: Tensor) -> tuple[Floats, Floats]:
    """(precision, recall) [k] at each of the k distinct values of |score|, the highest first; ties enter together.

    scores, exists, truth [source, destination]. Raises InputError where no edge is true.
    """
    s, labels = _flat(scores, exists, truth)
    order = np.argsort(-s, kind="stable")
    last = np.append(np.flatnonzero(np.diff(s[order]) != 0), s.size - 1)
    right = labels[order].cumsum()[last]
    return right / (last + 1), right / labels.sum()


def average_precision(
    scores: Tensor, exists: Tensor, truth: Tensor, *, resamples: int = 500, seed: int = 0
) -> tuple[Estimate, Estimate]:
    """(average precision, that of random rankings), over the full ranking of edges by |score|.

        AP = sum over k of (recall_k - recall_(k-1)) precision_k

    The first interval is a bootstrap over true and other edges apart (so that their numbers stay); the second is of
    `resamples` random rankings, whose mean is near the share of true edges.
    """
    s, labels = _flat(scores, exists, truth)
    rng = np.random.default_rng(seed)
    true, other = np.flatnonzero(labels), np.flatnonzero(~labels)
    drawn = np.empty(resamples)
    for i in range(resamples):
        index = np.concatenate([rng.choice(true, true.size), rng.choice(other, other.size) if other.size else other])
        drawn[i] = _area(s[index], labels[index])
    shuffled = np.array([_area(rng.permutation(s.size).astype(np.float64), labels) for _ in range(resamples)])

    def estimate(name: str, value: float, values: Floats, how: str) -> Estimate:
        low, high = np.quantile(values, [0.025, 0.975])
        return Estimate(name=name, value=value, n=s.size, interval=Interval(low=low, high=high, method=how))

    found = estimate("average precision", _area(s, labels), drawn, "percentile bootstrap over edges, by truth")
    chance = estimate("random rankings", float(shuffled.mean()), shuffled, f"middle 95% of {resamples} rankings")
    return found, chance


def _area(s: Floats, labels: NDArray[np.bool_]) -> float:
    order = np.argsort(-s, kind="stable")
    last = np.append(np.flatnonzero(np.diff(s[order]) != 0), s.size - 1)
    right = labels[order].cumsum()[last]
    return float((np.diff(right, prepend=0) / labels.sum() * right / (last + 1)).sum())


def _flat(scores: Tensor, exists: Tensor, truth: Tensor) -> tuple[Floats, NDArray[np.bool_]]:
    s, labels = scores[exists].abs().double().cpu().numpy(), truth[exists].cpu().numpy().astype(bool)
    if not labels.any():
        raise InputError("no edge is true: precision and recall have no meaning.")
    if not np.isfinite(s).all():
        raise InputError("some edges have scores that are not finite.")
    return s, labels
