"""Statistics of per-token figures over rows of text (tokens of one row are not independent), and how they are shown."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cutaway.core import Estimate
from cutaway.evidence.statistics import bootstrap

Values = NDArray[np.float64]
RESAMPLES = 400  # fewer than elsewhere: each looks at every token


def over_rows(
    values: Values, statistic: Callable[[Values], np.floating | float], name: str, *, unit: str = "", seed: int = 0
) -> Estimate:
    """The statistic of [rows, …] (NaN where there is nothing), with a percentile bootstrap interval over rows.

    Its n counts the values that are there. Cost: 400 evaluations of the statistic.
    """

    def of_rows(which: Values) -> Values:  # [resamples, rows] of row numbers
        return np.array([statistic(values[one.astype(np.intp)]) for one in which], dtype=np.float64)

    n, rows = int(np.isfinite(values).sum()), len(values)
    if n == 0:
        return Estimate(name=name, value=float("nan"), n=0, unit=unit)
    found = bootstrap(
        np.arange(rows), statistic=of_rows, name=name, over=f"{rows} rows", unit=unit, method="percentile",
        resamples=RESAMPLES, seed=seed,
    )  # fmt: skip
    return found.model_copy(update={"n": n})


def short(estimate: Estimate | None) -> str:
    """0.123 [0.101, 0.145]; nothing for None."""
    if estimate is None:
        return ""
    span = estimate.interval
    return f"{estimate.value:.3f}" + (f" [{span.low:.3f}, {span.high:.3f}]" if span else "")
