"""Splits, linear classifiers and their balanced accuracy with intervals over groups."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cutaway.core import Estimate, InputError, Interval
from cutaway.evidence import wilson

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
RESAMPLES = 2000
_ATTEMPTS = 20
STRENGTHS = (0.01, 0.1, 1.0)  # of which C is chosen on validation items


@dataclass(frozen=True, eq=False)
class Split:
    """Numbers of the examples to learn from, to choose by, to report on. No group is on two sides."""

    train: Ints
    validation: Ints
    test: Ints


def split(label: Ints, group: Ints, seed: int = 0) -> Split:
    """60 / 20 / 20 % of the groups; where every group is one example, of each class.

    Raises InputError where a class is missing on a side.
    """
    single = len(np.unique(group)) == len(group)
    strata = [group[label == c] for c in np.unique(label)] if single else [np.unique(group)]
    every = set(np.unique(label).tolist())
    missing: list[set[int]] = []
    for attempt in range(_ATTEMPTS):  # a class that is rare among groups may fall on one side by chance
        rng = np.random.default_rng([seed, attempt])
        side = np.zeros(int(group.max()) + 1, dtype=np.int64)
        for members in strata:
            order = rng.permutation(members)
            held = max(1, round(0.2 * len(order)))
            side[order[:held]] = 2
            side[order[held : 2 * held]] = 1
        parts = [np.flatnonzero(side[group] == s) for s in range(3)]
        missing = [every - set(label[part].tolist()) for part in parts]
        if not any(missing):
            return Split(*parts)
    raise InputError(
        f"no split by group leaves every class on each side (of {len(every)} classes up to {max(map(len, missing))} "
        "are missing on one); give more groups, or leave rare classes out."
    )


@dataclass(frozen=True, eq=False)
class Linear:
    """score(x) = (x - mean) / scale @ weight.T + bias, [n, classes] (one column for two classes). `classes` names the
    columns: a class without an example to learn from has none."""

    mean: Floats
    scale: Floats
    weight: Floats
    bias: Floats
    classes: Ints

    def predict(self, x: Rows) -> Ints:
        scores = (x - self.mean) / self.scale @ self.weight.T + self.bias
        column = (scores[:, 0] > 0).astype(np.int64) if scores.shape[1] == 1 else scores.argmax(1)
        return np.asarray(self.classes[column], dtype=np.int64)

    @property
    def direction(self) -> Floats:
        """[classes, width] (or [1, width]) in the activations' own units."""
        return np.asarray(self.weight / self.scale)


def logistic(x: Rows, y: Ints, C: float) -> Linear:
    """Standardised logistic regression, classes weighted alike (scikit-learn, L2 of strength 1 / C)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, scale = _standard(x)
    model: Any = LogisticRegression(C=C, class_weight="balanced", max_iter=300, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 300 steps of L-BFGS: the rest changes no prediction
        model.fit((x - mean) / scale, y)
    return Linear(mean, scale, np.asarray(model.coef_), np.asarray(model.intercept_), np.asarray(model.classes_))


def centroids(x: Rows, y: Ints) -> Linear:
    """Difference in means: the class whose mean is nearest, in standardised units. Two classes: the one direction."""
    mean, scale = _standard(x)
    z = (x - mean) / scale
    classes = np.unique(y)
    means = np.stack([z[y == c].mean(0) for c in classes])
    weight, bias = means, -(means**2).sum(1) / 2  # argmin |z - m|^2 = argmax z.m - |m|^2 / 2
    if len(means) == 2:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    return Linear(mean, scale, weight, bias, classes)


def _standard(x: Rows) -> tuple[Floats, Floats]:
    mean, scale = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    return mean, np.where(scale > 1e-8 * max(1.0, float(scale.max(initial=0.0))), scale, 1.0)


def chosen(x: Rows, y: Ints, parts: Split, strengths: Sequence[float] = STRENGTHS) -> tuple[Linear, float, float]:
    """(classifier, its C, its balanced accuracy on validation items), C chosen there."""
    best: tuple[Linear, float, float] | None = None
    for C in strengths:
        fitted = logistic(x[parts.train], y[parts.train], C)
        score = balanced(fitted.predict(x[parts.validation]), y[parts.validation])
        if best is None or score > best[2]:
            best = (fitted, C, score)
    assert best is not None
    return best


def bag_of_tokens(bags: Sequence[Sequence[str]], y: Ints, parts: Split) -> Ints:
    """Predictions for the test items of a logistic regression on which tokens are there; C chosen on validation."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    counter: Any = CountVectorizer(analyzer=lambda bag: bag, binary=True)
    x = counter.fit_transform([bags[i] for i in parts.train])
    validation = counter.transform([bags[i] for i in parts.validation])
    best, predicted = -1.0, np.zeros(0, dtype=np.int64)
    for C in (0.1, 1.0, 10.0):
        model: Any = LogisticRegression(C=C, class_weight="balanced", max_iter=300, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(x, y[parts.train])
        score = balanced(model.predict(validation), y[parts.validation])
        if score > best:
            best = score
            predicted = np.asarray(model.predict(counter.transform([bags[i] for i in parts.test])), dtype=np.int64)
    return predicted


def balanced(predicted: Ints, truth: Ints) -> float:
    """The mean over classes of the share of its items that are right."""
    return float(np.mean([(predicted[truth == c] == c).mean() for c in np.unique(truth)]))


@functools.lru_cache(maxsize=2)
def _resamples(n: int, seed: int) -> Floats:
    """How often each of n groups is drawn, [resamples, n]."""
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return np.asarray(drawn, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Scores:
    """Hits and counts by group and class, [groups, classes]: what balanced accuracy and its resamples need."""

    hits: Floats
    counts: Floats

    @classmethod
    def of(cls, predicted: Ints, truth: Ints, group: Ints, classes: int) -> Scores:
        which = np.unique(group, return_inverse=True)[1]
        hits, counts = (np.zeros((int(which.max()) + 1, classes)) for _ in range(2))
        np.add.at(counts, (which, truth), 1.0)
        np.add.at(hits, (which, truth), (predicted == truth).astype(np.float64))
        return cls(hits, counts)

    @property
    def value(self) -> float:
        return float(self._of(np.ones((1, len(self.hits))))[0])

    def draws(self, seed: int = 0) -> Floats:
        """Balanced accuracy of resampled groups, [resamples]; the same seed draws the same groups."""
        return self._of(_resamples(len(self.hits), seed))

    def _of(self, counts: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = (counts @ self.hits) / (counts @ self.counts)  # [resamples, classes]
        return np.asarray(np.nanmean(recall, axis=1))

    def estimate(self, name: str, seed: int = 0) -> Estimate:
        """With a percentile interval over groups; Wilson's where no resample differs (all right, or all wrong)."""
        n, value = len(self.hits), self.value
        low, high = (float(end) for end in np.quantile(self.draws(seed), [0.025, 0.975]))
        interval = Interval(low=low, high=high, method="percentile bootstrap over groups of test items")
        if low == high and value in (0.0, 1.0):
            interval = wilson(round(value * n), n)
        return Estimate(name=name, value=value, interval=interval, n=int(self.counts.sum()))

    def less(self, other: Scores, seed: int = 0) -> Interval:
        """The interval of self - other on the same items, paired."""
        low, high = (float(x) for x in np.quantile(self.draws(seed) - other.draws(seed), [0.025, 0.975]))
        return Interval(low=low, high=high, method="percentile bootstrap over groups of test items, paired")


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores on the test items."""

    label: Ints
    group: Ints
    classes: int
    parts: Split

    def of(self, predicted: Ints, truth: Ints | None = None) -> Scores:
        label = self.label if truth is None else truth
        test = self.parts.test
        return Scores.of(predicted, label[test], self.group[test], self.classes)

    def test(self, classifier: Linear, x: Rows, truth: Ints | None = None) -> Scores:
        return self.of(classifier.predict(x[self.parts.test]), truth)
