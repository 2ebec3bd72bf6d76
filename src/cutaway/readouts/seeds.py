"""Null models drawn from several seeds: what another random model would score, and how far an effect lies above it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from cutaway.core import Comparison, Estimate, Interval


def beside_seeds(effect: Estimate, values: Sequence[float], name: str, *, exact: bool = False) -> Comparison:
    """The effect beside the same measured on random models, one value a seed.

    Random models differ among themselves, by more than the units measured on one of them show. So the null's interval
    is the one that another random model's value falls into, mean +- t sd sqrt(1 + 1/seeds). The interval of the
    difference is made of both (MOVER: squared distances to the limits add; Zou & Donner 2008). exact: the effect has no
    sampling error of its own. Undefined for fewer than two seeds.
    """
    n, level = len(values), 0.95
    mean = float(np.mean(values)) if n else math.nan
    half = math.nan
    if n >= 2:
        half = float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) * math.sqrt(1 + 1 / n))
    around = Interval(low=mean - half, high=mean + half, method=f"95 % prediction for another seed, from {n}")
    below = above = 0.0
    if not exact:
        span = effect.interval
        below, above = (math.nan, math.nan) if span is None else (effect.value - span.low, span.high - effect.value)
    gap = effect.value - mean
    apart = Interval(low=gap - math.hypot(below, half), high=gap + math.hypot(above, half), method="MOVER")
    return Comparison(
        estimate=Estimate(name=f"{name}, {n} seeds", value=mean, interval=around, n=n, unit=effect.unit),
        difference=apart,
    )
