"""Intervals, tests and rank statistics, vectorised, with every resample drawn from a seed.

A number that could not be formed is NaN with its n, without a warning: a correlation with constant input, a bootstrap
whose resamples are mostly undefined. Input that is not finite, or whose lengths differ, is an `InputError`.

Sources: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 14 (BCa); Wilson (1927); Newcombe,
Statistics in Medicine 25 (2006), method 5 (the interval of an AUROC); Benjamini & Hochberg (1995); Holm (1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from cutaway.core import Estimate, InputError, Interval

Floats = NDArray[np.float64]
Statistic = Callable[..., Floats]
"""Takes k arrays [rows, n], gives [rows]: each row is one sample of n units."""

Correlation = Literal["spearman", "pearson"]
RESAMPLES = 2000
_CELLS = 4_000_000  # of one block of resamples: 32 MB


def mean(values: Floats) -> Floats:
    """[rows, n] -> [rows]."""
    return np.asarray(values.mean(axis=-1), dtype=np.float64)


def median(values: Floats) -> Floats:
    """[rows, n] -> [rows]."""
    return np.asarray(np.median(values, axis=-1), dtype=np.float64)


def pearson(x: Floats, y: Floats) -> Floats:
    """[rows, n], [rows, n] -> [rows]; NaN where either is constant or n < 3."""
    if x.shape[-1] < 3:
        return np.full(x.shape[:-1], np.nan)
    dx, dy = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    constant = (np.ptp(x, axis=-1) == 0) | (np.ptp(y, axis=-1) == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Scaled first, so that squares of tiny or huge effects neither vanish nor overflow.
        dx, dy = (d / np.abs(d).max(axis=-1, keepdims=True) for d in (dx, dy))
        r = (dx * dy).sum(axis=-1) / np.sqrt((dx**2).sum(axis=-1) * (dy**2).sum(axis=-1))
    return np.where(constant, np.nan, np.clip(r, -1.0, 1.0))


def spearman(x: Floats, y: Floats) -> Floats:
    """Pearson's correlation of the ranks, ties sharing their mean rank. [rows, n], [rows, n] -> [rows]."""
    if x.shape[-1] < 3:
        return np.full(x.shape[:-1], np.nan)
    return pearson(stats.rankdata(x, axis=-1), stats.rankdata(y, axis=-1))


def _spearman_counted(x: Floats, y: Floats, counts: Floats) -> Floats:
    """`spearman` of resamples given as how often each unit was drawn, counts [rows, n]; x, y [n]; -> [rows].

    Units are sorted once, and a resample's ranks are running sums of its counts: no sort a resample.
    """
    rx, ry = _ranks_counted(x, counts), _ranks_counted(y, counts)
    total = counts.sum(axis=-1, keepdims=True)
    rx -= (counts * rx).sum(axis=-1, keepdims=True) / total
    ry -= (counts * ry).sum(axis=-1, keepdims=True) / total
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (counts * rx * ry).sum(-1) / np.sqrt((counts * rx**2).sum(-1) * (counts * ry**2).sum(-1))
    return np.asarray(np.clip(r, -1.0, 1.0), dtype=np.float64)


def _ranks_counted(x: Floats, counts: Floats) -> Floats:
    """Mean ranks [rows, n] of the units of x [n] in resamples that hold each of them counts [rows, n] times."""
    order = np.argsort(x, kind="stable")
    drawn = counts[:, order]
    upto = drawn.cumsum(axis=-1)
    first = np.flatnonzero(np.concatenate([[True], np.diff(x[order]) != 0]))
    group = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(x))))
    last = np.append(first[1:], len(x)) - 1
    # Ranks before + 1 … upto, shared by all that are equal.
    shared = (upto[:, first] - drawn[:, first] + upto[:, last] + 1) / 2
    ranks = np.empty_like(upto)
    ranks[:, order] = shared[:, group]
    return ranks


# ---------------------------------------------------------------------------------------------------- the bootstrap


def bootstrap(
    *samples: ArrayLike,
    statistic: Statistic = mean,
    name: str = "mean",
    over: str = "units",
    unit: str = "",
    method: Literal["bca", "percentile"] = "bca",
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """The statistic of the samples, with a bootstrap interval over their units.

    `samples`: k arrays [n]; the k values of a unit are resampled together (so two arrays make a paired bootstrap).
    Resamples in which the statistic is undefined are left out; where they are more than 1 - `level` of all, the
    interval is undefined (NaN). One unit, or none, has no interval.
    Cost: `resamples` evaluations of the statistic, and n more for BCa.
    Raises `InputError` for samples that differ in length, are not one-dimensional or are not finite.
    """
    data = _samples(samples)
    n = data[0].shape[0]
    value = float(statistic(*[d[None] for d in data])[0]) if n else math.nan
    if n < 2 or not math.isfinite(value):
        return Estimate(name=name, value=value, n=n, unit=unit)
    draws = _resampled(data, statistic, resamples, np.random.default_rng(seed))
    low, high = _limits(value, draws, level, lambda: _jackknife(data, statistic) if method == "bca" else None)
    label = f"{'BCa' if method == 'bca' else 'percentile'} bootstrap over {over}"
    interval = Interval(low=low, high=high, level=level, method=label)
    return Estimate(name=name, value=value, interval=interval, n=n, unit=unit)


def bootstrap_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    paired: bool,
    statistic: Statistic = mean,
    over: str = "units",
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The percentile interval of statistic(a) - statistic(b).

    Paired: unit i of `a` [n] and of `b` [n] are the same unit and are drawn together. Unpaired: each is drawn alone.
    Either may be a stack [k, n] for a statistic of k arrays (a correlation).
    """
    first, second = _stack(a), _stack(b)
    if paired and first.shape[1] != second.shape[1]:
        raise InputError(
            f"a paired difference needs the same units: {first.shape[1]} and {second.shape[1]} were given."
        )
    rng = np.random.default_rng(seed)
    label = f"percentile bootstrap over {over}, {'paired' if paired else 'unpaired'}"
    if min(first.shape[1], second.shape[1]) < 2:
        return Interval(low=math.nan, high=math.nan, level=level, method=label)
    # Paired: the same seed and the same n draw the same units.
    again = np.random.default_rng(seed) if paired else rng
    draws = _resampled([*first], statistic, resamples, rng) - _resampled([*second], statistic, resamples, again)
    low, high = _limits(math.nan, draws, level, lambda: None)
    return Interval(low=low, high=high, level=level, method=label)


def correlation(
    x: ArrayLike,
    y: ArrayLike,
    kind: Correlation = "spearman",
    *,
    name: str = "",
    over: str = "units",
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Spearman's or Pearson's correlation of two arrays [n], with a BCa bootstrap interval over units.

    NaN (with n) for constant input or fewer than three units.
    """
    statistic = {"spearman": spearman, "pearson": pearson}[kind]
    return bootstrap(
        x, y, statistic=statistic, name=name or f"{kind.title()} correlation", over=over, level=level,
        resamples=resamples, seed=seed,
    )  # fmt: skip


def _resampled(data: Sequence[Floats], statistic: Statistic, resamples: int, rng: np.random.Generator) -> Floats:
    """[n] arrays -> the statistic of `resamples` resamples, in blocks that bound the memory."""
    n = data[0].shape[0]
    block = max(1, _CELLS // max(n, 1))
    out = []
    for start in range(0, resamples, block):
        index = rng.integers(0, n, size=(min(block, resamples - start), n))
        if statistic is spearman and n >= 3:
            flat = index + n * np.arange(len(index))[:, None]
            counts = np.bincount(flat.ravel(), minlength=index.size).reshape(index.shape).astype(np.float64)
            out.append(_spearman_counted(data[0], data[1], counts))
        else:
            out.append(statistic(*[d[index] for d in data]))
    return np.concatenate(out)


def _jackknife(data: Sequence[Floats], statistic: Statistic) -> Floats:
    """The statistic with each unit left out in turn, [n]."""
    n = data[0].shape[0]
    block = max(1, _CELLS // n)
    out = []
    for start in range(0, n, block):
        left_out = np.arange(start, min(start + block, n))[:, None]
        kept = np.arange(n - 1)[None] + (np.arange(n - 1)[None] >= left_out)
        out.append(statistic(*[d[kept] for d in data]))
    return np.concatenate(out)


def _limits(value: float, draws: Floats, level: float, jackknife: Callable[[], Floats | None]) -> tuple[float, float]:
    """The interval's ends from the resampled values; BCa where the jackknife values are given, else percentile."""
    if not 0 < level < 1:
        raise InputError(f"the level of an interval lies between 0 and 1; {level} was given.")
    good = draws[np.isfinite(draws)]
    if good.size == 0 or good.size < level * draws.size:
        return math.nan, math.nan
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    left_out = jackknife()
    if left_out is not None:
        # z0 = Phi^-1(share of resamples below the estimate), ties by half; a = skewness of the jackknife / 6.
        below = (good < value).mean() + (good == value).mean() / 2
        z0 = float(special.ndtri(np.clip(below, 0.5 / good.size, 1 - 0.5 / good.size)))
        d = left_out[np.isfinite(left_out)]
        d = d.mean() - d if d.size else np.zeros(1)
        spread = float((d**2).sum())
        a = float((d**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
        z = z0 + special.ndtri(tails)
        denominator = 1 - a * z
        # Beyond the pole of the correction its limit is the outermost resample.
        tails = np.where(denominator > 0, special.ndtr(z0 + z / np.where(denominator > 0, denominator, 1)), z > 0)
    low, high = np.quantile(good, tails)
    return float(low), float(high)


# ------------------------------------------------------------------------------------------------------ proportions


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion; [0, 1] where n = 0."""
    if not 0 <= successes <= n:
        raise InputError(f"{successes} successes out of {n} is no proportion.")
    if n == 0:
        return Interval(low=0.0, high=1.0, level=level, method="Wilson")
    z = float(special.ndtri((1 + level) / 2))
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(low=low, high=high, level=level, method="Wilson")


def proportion(successes: int, n: int, *, name: str, level: float = 0.95, note: str = "") -> Estimate:
    """A share with Wilson's interval; NaN where n = 0."""
    value = successes / n if n else math.nan
    return Estimate(name=name, value=value, interval=wilson(successes, n, level), n=n, note=note)


def auroc(scores: ArrayLike, labels: ArrayLike, *, name: str = "AUROC", level: float = 0.95) -> Estimate:
    """P(score of a positive > score of a negative) + half the ties, with Newcombe's interval (method 5).

    `scores` [n] finite; `labels` [n] truthy for positives. NaN (with n) where one class is empty. The interval does
    not shrink to a point at 0 or 1, as those from DeLong's variance or a bootstrap do.
    """
    (s,) = _samples((scores,))
    positive = np.asarray(labels).astype(bool)
    if positive.shape != s.shape:
        raise InputError(f"an AUROC needs one label a score: {s.shape} and {positive.shape} were given.")
    m, n = int(positive.sum()), int((~positive).sum())
    if m == 0 or n == 0:
        return Estimate(name=name, value=math.nan, n=m + n)
    ranks = stats.rankdata(s)
    value = float((ranks[positive].sum() - m * (m + 1) / 2) / (m * n))
    z2 = float(special.ndtri((1 + level) / 2)) ** 2
    half = (m + n) / 2 - 1

    def excess(theta: float) -> float:  # (theta_hat - theta)^2 - z^2 V(theta): zero at the interval's ends
        spread = 1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta)
        return (value - theta) ** 2 - z2 * theta * (1 - theta) * spread / (m * n)

    # Just off the estimate, where V > 0 = (theta_hat - theta)^2 even for an estimate of 0 or 1.
    low = 0.0 if value == 0 else float(optimize.brentq(excess, 0.0, value * (1 - 1e-9)))
    high = 1.0 if value == 1 else float(optimize.brentq(excess, value + (1 - value) * 1e-9, 1.0))
    interval = Interval(low=low, high=high, level=level, method="Newcombe's method 5")
    return Estimate(name=name, value=value, interval=interval, n=m + n)


# ------------------------------------------------------------------------------------------------------------ tests


def permutation_test(
    a: ArrayLike,
    b: ArrayLike,
    *,
    paired: bool,
    statistic: Statistic = mean,
    alternative: Literal["two-sided", "greater", "less"] = "two-sided",
    permutations: int = 10_000,
    seed: int = 0,
) -> float:
    """The p-value of statistic(a) - statistic(b) under exchangeability; "greater" asks whether a exceeds b.

    Two-sample: labels are shuffled. Paired: the two values of a unit are swapped or not. Monte Carlo, and the observed
    arrangement counts as one, so p >= 1 / (permutations + 1) and the test keeps its level (Phipson & Smyth 2010).
    NaN where either sample is empty.
    """
    (x,), (y,) = _samples((a,)), _samples((b,))
    if x.size == 0 or y.size == 0:
        return math.nan
    if paired and x.size != y.size:
        raise InputError(f"a paired test needs the same units: {x.size} and {y.size} were given.")
    rng = np.random.default_rng(seed)
    observed = float((statistic(x[None]) - statistic(y[None]))[0])
    pool = np.concatenate([x, y])
    block = max(1, _CELLS // pool.size)
    extreme = 0
    # Arithmetic in another order may differ in the last bits; such arrangements tie with the observed one.
    slack = 1e-12 * max(1.0, float(np.abs(pool).max()))
    for start in range(0, permutations, block):
        rows = min(block, permutations - start)
        if paired:
            swap = rng.random((rows, x.size)) < 0.5
            first, second = np.where(swap, y, x), np.where(swap, x, y)
        else:
            shuffled = rng.permuted(np.broadcast_to(pool, (rows, pool.size)), axis=1)
            first, second = shuffled[:, : x.size], shuffled[:, x.size :]
        difference = statistic(first) - statistic(second)
        if alternative == "greater":
            extreme += int((difference >= observed - slack).sum())
        elif alternative == "less":
            extreme += int((difference <= observed + slack).sum())
        else:
            extreme += int((np.abs(difference) >= abs(observed) - slack).sum())
    return (extreme + 1) / (permutations + 1)


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Adjusted p-values [n]: rejecting those <= q keeps the false discovery rate at q (independent or positively
    dependent tests)."""
    values = _p_values(p)
    n = values.size
    order = np.argsort(values)[::-1]
    adjusted = np.empty(n)
    adjusted[order] = np.minimum.accumulate(np.minimum(values[order] * n / np.arange(n, 0, -1), 1.0))
    return adjusted


def holm(p: ArrayLike) -> Floats:
    """Adjusted p-values [n]: rejecting those <= alpha keeps the chance of any false rejection at alpha."""
    values = _p_values(p)
    n = values.size
    order = np.argsort(values)
    adjusted = np.empty(n)
    adjusted[order] = np.maximum.accumulate(np.minimum(values[order] * np.arange(n, 0, -1), 1.0))
    return adjusted


# ------------------------------------------------------------------------------------------------------------ input


def _samples(samples: Sequence[ArrayLike]) -> list[Floats]:
    data = [np.asarray(s, dtype=np.float64) for s in samples]
    if not data or any(d.ndim != 1 for d in data):
        raise InputError(f"samples are one-dimensional; shapes {[d.shape for d in data]} were given.")
    if len({d.size for d in data}) > 1:
        raise InputError(
            f"the samples of one statistic have the same units; lengths {[d.size for d in data]} were given."
        )
    bad = sum(int((~np.isfinite(d)).sum()) for d in data)
    if bad:
        raise InputError(
            f"{bad} of {sum(d.size for d in data)} values are NaN or infinite; leave them out and count them."
        )
    return data


def _stack(values: ArrayLike) -> Floats:
    data = np.asarray(values, dtype=np.float64)
    return np.stack(_samples(list(data if data.ndim == 2 else data[None])))


def _p_values(p: ArrayLike) -> Floats:
    (values,) = _samples((p,))
    if values.size and (values.min() < 0 or values.max() > 1):
        raise InputError("p-values lie between 0 and 1.")
    return values
