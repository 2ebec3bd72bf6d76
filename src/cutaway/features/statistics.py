"""Statistics of per-token figures, with rows of text as the units: tokens of one row are not independent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cutaway.core import Estimate, Interval

Values = NDArray[np.float64]
RESAMPLES = 400


def over_rows(
    values: Values, statistic: Callable[[Values], np.floating | float], name: str, *, unit: str = "", seed: int = 0
) -> Estimate:
    """The statistic of [rows, …] (NaN where there is nothing), with a percentile bootstrap interval over rows."""
    n = int(np.isfinite(values).sum())
    if n == 0:
        return Estimate(name=name, value=float("nan"), n=0, unit=unit)
    value = float(statistic(values))
    if values.shape[0] < 2:
        return Estimate(name=name, value=value, n=n, unit=unit)
    rng = np.random.default_rng(seed)
    draws = [float(statistic(values[rng.integers(0, len(values), len(values))])) for _ in range(RESAMPLES)]
    low, high = np.quantile(draws, [0.025, 0.975])
    method = f"percentile bootstrap over {len(values)} rows"
    return Estimate(
        name=name, value=value, interval=Interval(low=float(low), high=float(high), method=method), n=n, unit=unit
    )
