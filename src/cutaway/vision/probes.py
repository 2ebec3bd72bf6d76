"""Which classes a unit serves: sparse linear probes on a point's units, a few units a class.

Goh et al. (2021): about three neurons a class carry much of what a dense probe reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutaway.core import Estimate, InputError
from cutaway.evidence import proportion
from cutaway.vision.units import Floats

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SparseProbe:
    """`units` [class][k] and their `weights` (per SD of the unit), the held-out accuracy, and beside it that of as
    many random units a class and that of a dense probe."""

    classes: tuple[str, ...]
    units: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    accuracy: Estimate
    random: Estimate
    dense: Estimate

    def serves(self, unit: int) -> list[tuple[str, float]]:
        """The classes that use a unit with its weight, strongest first."""
        found = [
            (name, w)
            for name, units, weights in zip(self.classes, self.units, self.weights)
            for u, w in zip(units, weights)
            if u == unit
        ]
        return sorted(found, key=lambda pair: -abs(pair[1]))

    def to_json(self) -> dict[str, Any]:
        return {
            "classes": [
                {"class": c, "units": list(u), "weights": [round(x, 4) for x in w]}
                for c, u, w in zip(self.classes, self.units, self.weights)
            ],
            "accuracy": self.accuracy.model_dump(mode="json"),
            "random": self.random.model_dump(mode="json"),
            "dense": self.dense.model_dump(mode="json"),
        }


def sparse_probe(values: Floats, labels: Ints, classes: tuple[str, ...], k: int = 3, seed: int = 0) -> SparseProbe:
    """One against the rest for each class on its k units of the largest difference in means (in SDs), fitted by
    logistic regression on two thirds, measured on the rest: the class of the largest score.

    `values` [n, unit], `labels` [n] index `classes`. Raises InputError for fewer than six items a class.
    """
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < 6:
        raise InputError(f"a probe needs six pictures a class; {classes[int(counts.argmin())]} has {counts.min()}.")
    rng = np.random.default_rng(seed)
    train = np.zeros(len(labels), dtype=bool)
    for c in range(len(classes)):
        rows = rng.permutation(np.flatnonzero(labels == c))
        train[rows[: 2 * len(rows) // 3]] = True
    mean, spread = values[train].mean(0), values[train].std(0)
    x = (values - mean) / np.where(spread > 1e-8, spread, np.inf)
    chosen, weights, scores = [], [], []
    random_scores = []
    for c in range(len(classes)):
        of = labels == c
        gap = x[train & of].mean(0) - x[train & ~of].mean(0)
        best = np.argsort(-np.abs(gap), kind="stable")[:k]
        w, score = _fit(x, of, train, best)
        chosen.append(tuple(int(u) for u in best))
        weights.append(tuple(float(v) for v in w))
        scores.append(score)
        random_scores.append(_fit(x, of, train, rng.choice(x.shape[1], min(k, x.shape[1]), replace=False))[1])
    test = ~train
    sparse, drawn = (np.stack(s, 1)[test].argmax(1) == labels[test] for s in (scores, random_scores))
    dense = _dense(x, labels, train) == labels[test]
    n = int(test.sum())
    return SparseProbe(
        classes,
        tuple(chosen),
        tuple(weights),
        proportion(int(sparse.sum()), n, name=f"accuracy, {k} units a class"),
        proportion(int(drawn.sum()), n, name=f"accuracy, {k} random units a class"),
        proportion(int(dense.sum()), n, name="accuracy, all units"),
    )


def _fit(x: Floats, of: NDArray[np.bool_], train: NDArray[np.bool_], units: Ints) -> tuple[Floats, Floats]:
    """(weights [k], log-odds of every item [n]) of a logistic regression on some units."""
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression(C=10.0, max_iter=200).fit(x[train][:, units], of[train])
    # Log-odds at the class's own share of the items, so that scores of classes of unlike size compare.
    share = of[train].mean()
    return found.coef_[0], found.decision_function(x[:, units]) - np.log(share / (1 - share))


def _dense(x: Floats, labels: Ints, train: NDArray[np.bool_]) -> Ints:
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression(C=1.0, max_iter=300).fit(x[train], labels[train])
    return np.asarray(found.predict(x[~train]), dtype=np.int64)
