"""lambda itself, from estimates at several n beta.

From Z(t) = integral exp(-t L) dw ~ t^-lambda (log t)^(m - 1) (Watanabe 2009) an estimate at t = n beta is

    lambda_hat(t) = -t d log Z / dt ~ lambda - (m - 1) / (log t + c)         m > 1
    lambda_hat(t) ~ lambda - c t^(-1/2)         m = 1: the next power, from quartic directions

so that one number at one t lies below lambda, by much where the multiplicity m is above 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cutaway.core import Estimate, InputError, Interval
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.development.chains import Floats
from cutaway.development.llc import LLC


@dataclass(frozen=True, repr=False)
class LambdaFit(Drawn):
    """`estimate`: lambda, with a bootstrap interval over chains. `points`: (n beta, lambda hat, fitted)."""

    estimate: Estimate
    correction: float
    multiplicity: int
    points: tuple[tuple[float, float, float], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.lambda/1",
            "estimate": self.estimate.model_dump(mode="json"),
            "multiplicity": self.multiplicity,
            "correction": self.correction,
            "points": [{"n_beta": t, "lambda_hat": value, "fitted": fit} for t, value, fit in self.points],
        }

    def __str__(self) -> str:
        rows = [("n beta", "lambda hat", "fitted"), *((f"{t:.3g}", f"{v:.4g}", f"{f:.4g}") for t, v, f in self.points)]
        head = f"lambda {self.estimate}, multiplicity {self.multiplicity} given"
        return "\n".join([head, *columns(rows, right=(0, 1, 2))])

    __repr__ = __str__


def fit_lambda(estimates: Sequence[LLC], multiplicity: int = 1, resamples: int = 500, seed: int = 0) -> LambdaFit:
    """lambda from estimates at two or more n beta (three or more for m > 1 to be checked), m given.

    Raises InputError for fewer than two n beta or a multiplicity below 1.
    """
    t = np.array([one.setting.n_beta for one in estimates])
    if len(np.unique(t)) < 2 or multiplicity < 1:
        raise InputError(
            f"a fit needs two n beta and a multiplicity of at least 1; given {t.tolist()}, {multiplicity}."
        )
    chains = [one.per_chain for one in estimates]
    spread = np.array([max(c.std(ddof=1) / math.sqrt(len(c)), 1e-9) for c in chains])
    value, correction = solve(t, np.array([c.mean() for c in chains]), spread, multiplicity)
    rng = np.random.default_rng(seed)
    drawn = [
        solve(t, np.array([rng.choice(c, len(c)).mean() for c in chains]), spread, multiplicity)[0]
        for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    interval = Interval(low=float(low), high=float(high), method="percentile bootstrap over chains")
    fitted = curve(t, value, correction, multiplicity)
    points = tuple((float(a), float(c.mean()), float(f)) for a, c, f in zip(t, chains, fitted))
    n = sum(len(c) for c in chains)
    return LambdaFit(Estimate(name="lambda", value=value, interval=interval, n=n), correction, multiplicity, points)


def curve(t: Floats, value: float, correction: float, m: int) -> Floats:
    if m == 1:
        return np.asarray(value - correction * t**-0.5)
    return np.asarray(value - (m - 1) / (np.log(t) + correction))


def solve(t: Floats, y: Floats, spread: Floats, m: int) -> tuple[float, float]:
    """(lambda, correction) by least squares weighted with 1 / spread^2."""
    weight = 1 / spread**2
    if m == 1:
        x = np.stack([np.ones_like(t), -(t**-0.5)], 1) / spread[:, None]
        (value, correction), *_ = np.linalg.lstsq(x, y / spread, rcond=None)
        return float(value), float(correction)
    # For each c, lambda is a weighted mean; c lies where log t + c stays positive.
    grid = np.linspace(-float(np.log(t.min())) + 0.5, 40, 800)
    shift = (m - 1) / (np.log(t)[None] + grid[:, None])
    values = ((y + shift) * weight).sum(1) / weight.sum()
    misfit = ((y + shift - values[:, None]) ** 2 * weight).sum(1)
    best = int(misfit.argmin())
    return float(values[best]), float(grid[best])
