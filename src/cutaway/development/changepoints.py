"""Where a series changes: the best segmentation, each changepoint with an interval, and a test beside shuffles.

A series is cut into segments by least squares, exactly (dynamic programming, `ruptures`): of one mean each ("mean") or
of one line each in the logarithm of the step ("slope"). One more changepoint is accepted while it lowers the error by
more than in 98 % of series made of the present fit and its residuals in random order; for the first, with "mean", these
are the checkpoints shuffled. A changepoint's interval comes from refits to the accepted fit and resampled residuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cutaway.core import InputError, Interval

Floats = NDArray[np.float64]
Kind = Literal["mean", "slope"]
LEVEL = 0.02
_SLACK = 3  # points over what the segments need: a cut that could lie at fewer than four places says nothing


@dataclass(frozen=True)
class Changepoint:
    """The first step of a new segment; `interval` in steps. `p`: share of shuffles that gain as much by the last
    one accepted."""

    step: float
    index: int
    interval: Interval
    p: float

    def to_json(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "index": self.index,
            "interval": [self.interval.low, self.interval.high],
            "p": self.p,
        }


@dataclass(frozen=True, repr=False)
class Changepoints:
    """Accepted changepoints, the p of the first that was not, and how many points were left out (NaN)."""

    points: tuple[Changepoint, ...]
    next_p: float
    kind: Kind
    n: int
    left_out: int
    fitted: tuple[float, ...]

    @property
    def steps(self) -> tuple[float, ...]:
        return tuple(point.step for point in self.points)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "n": self.n,
            "left_out": self.left_out,
            "next_p": self.next_p,
            "points": [point.to_json() for point in self.points],
        }

    def __str__(self) -> str:
        if not self.points:
            return f"no changepoint beyond the shuffled null (p = {self.next_p:.2g} for the first, n = {self.n})"
        shown = ", ".join(f"{p.step:g} [{p.interval.low:g}, {p.interval.high:g}] (p {p.p:.2g})" for p in self.points)
        return f"at step {shown}; n = {self.n}"

    __repr__ = __str__


def changepoints(
    steps: ArrayLike,
    values: ArrayLike,
    kind: Kind = "slope",
    *,
    most: int = 4,
    shuffles: int = 99,
    resamples: int = 60,
    level: float = LEVEL,
    seed: int = 0,
) -> Changepoints:
    """Changepoints of values [n] at steps [n] (increasing). NaN are left out and counted.

    Cost: about `most` x shuffles exact segmentations, 0.3 to 40 ms each for 100 points.
    Of few points fewer are looked for, so that the segments do not say by themselves where they meet.
    Raises InputError for too few points for one, a series that is mostly NaN, steps not increasing.
    """
    given, x, y, kept = _prepared(steps, values, kind)
    n, least = len(y), _least(kind)
    rng = np.random.default_rng(seed)
    cuts: list[int] = []
    accepted: list[float] = []
    p = 1.0
    most = min(most, (n - _SLACK) // least - 1)
    fit = _fitted(x, y, cuts, kind)
    for k in range(1, most + 1):
        (_, error), (more, lower) = segments(x, y, (k - 1, k), kind)
        gain = error - lower
        residuals = y - fit
        below = 0
        for _ in range(shuffles):
            again = fit + rng.permutation(residuals)
            (_, before), (_, after) = segments(x, again, (k - 1, k), kind)
            below += bool(before - after >= gain - 1e-12)
        p = (below + 1) / (shuffles + 1)
        if p > level:
            break
        cuts = more
        accepted.append(p)
        fit = _fitted(x, y, cuts, kind)
    points = _with_intervals(given, x, y, fit, cuts, accepted, kind, resamples, rng)
    return Changepoints(points, p, kind, n, int((~kept).sum()), tuple(float(f) for f in fit))


def segment(x: Floats, y: Floats, k: int, kind: Kind) -> list[int]:
    """The k indices at which new segments begin in the best segmentation."""
    return segments(x, y, (k,), kind)[0][0]


def segments(x: Floats, y: Floats, counts: Sequence[int], kind: Kind) -> list[tuple[list[int], float]]:
    """The best segmentation for each number of cuts: where segments begin, and the squared error."""
    import ruptures

    errors = _errors(x, y, kind)
    search = ruptures.Dynp(custom_cost=_given_cost()(errors, _least(kind)), min_size=_least(kind), jump=1)
    search.fit(y[:, None])  # what one count has found, the next uses
    out = []
    for k in counts:
        cuts = [int(i) for i in search.predict(k)[:-1]] if k else []
        out.append((cuts, float(sum(errors[a, b] for a, b in zip([0, *cuts], [*cuts, len(y)])))))
    return out


@cache
def _given_cost() -> Any:
    """The error of each segment, known beforehand, as ruptures asks for it: anything else than its own base class it
    would replace by its default without a word."""
    from ruptures.base import BaseCost

    class Given(BaseCost):  # type: ignore[misc]
        model = "given"

        def __init__(self, errors: Floats, least: int) -> None:
            self.errors, self.min_size = errors, least

        def fit(self, signal: Floats) -> Given:
            self.signal = signal
            return self

        def error(self, start: int, end: int) -> float:
            return float(self.errors[start, end])

    return Given


def _least(kind: Kind) -> int:
    return 2 if kind == "mean" else 3


def _errors(x: Floats, y: Floats, kind: Kind) -> Floats:
    """Squared error of a mean, or a line, fitted to points i … j - 1: [n + 1, n + 1], from running sums."""
    n = len(y)
    x, y = x - x.mean(), y - y.mean()

    def sums(values: Floats) -> Floats:
        return np.concatenate([[0.0], np.cumsum(values)])

    i, j = np.triu_indices(n + 1, 1)
    m = (j - i).astype(float)
    sx, sy, sxx, sxy, syy = ((s := sums(v))[j] - s[i] for v in (x, y, x * x, x * y, y * y))
    error = syy - sy**2 / m
    if kind == "slope":
        spread = sxx - sx**2 / m
        error = error - np.where(spread > 1e-12, (sxy - sx * sy / m) ** 2 / np.maximum(spread, 1e-12), 0.0)
    out = np.full((n + 1, n + 1), np.inf)
    out[i, j] = np.maximum(error, 0.0)
    return out


def _fitted(x: Floats, y: Floats, cuts: Sequence[int], kind: Kind) -> Floats:
    """The fit, [n]."""
    out = np.empty_like(y)
    for a, b in zip([0, *cuts], [*cuts, len(y)]):
        line = np.polyfit(x[a:b], y[a:b], 1) if kind == "slope" else np.array([0.0, y[a:b].mean()])
        out[a:b] = np.polyval(line, x[a:b])
    return out


def _with_intervals(
    steps: Floats,
    x: Floats,
    y: Floats,
    fit: Floats,
    cuts: Sequence[int],
    p: Sequence[float],
    kind: Kind,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[Changepoint, ...]:
    if not cuts:
        return ()
    residuals = (y - fit) * np.sqrt(len(y) / max(1, len(y) - (1 + len(cuts)) * _least(kind)))
    drawn = [segment(x, fit + rng.choice(residuals, len(y)), len(cuts), kind) for _ in range(resamples)]
    found = []
    for cut, values in zip(cuts, np.sort(np.array(drawn), axis=1).T):
        low, high = np.quantile(values, [0.025, 0.975], method="closest_observation")
        # A change between two checkpoints is no better known than they are apart.
        low, high = min(int(low), cut) - 1, max(int(high), cut)
        span = Interval(
            low=float(steps[max(low, 0)]), high=float(steps[high]), method="bootstrap of residuals, and the checkpoints"
        )
        found.append(Changepoint(float(steps[cut]), int(cut), span, max(p)))
    return tuple(found)


def _prepared(steps: ArrayLike, values: ArrayLike, kind: Kind) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    if kind not in ("mean", "slope"):
        raise InputError(f"a series changes in its 'mean' or its 'slope'; {kind!r} was given.")
    given, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if given.shape != y.shape or given.ndim != 1:
        raise InputError(f"one value a step: {given.shape} steps and {y.shape} values were given.")
    if len(given) > 1 and not (np.diff(given) > 0).all():
        raise InputError("steps increase from one checkpoint to the next.")
    kept = np.isfinite(y)
    if kept.sum() < 2 * _least(kind) + _SLACK:
        raise InputError(
            f"{int(kept.sum())} finite values of {len(y)}: a changepoint of a {kind} with room to lie at one step or "
            f"another needs {2 * _least(kind) + _SLACK}."
        )
    x = np.log(given[kept] + 1)
    return given[kept], x, y[kept], kept


@dataclass(frozen=True)
class Nearest:
    """How far an event lies from the nearest changepoint, in factors of the step, and how far at random.

    distance: |log((event + 1) / (changepoint + 1))|. null: the same for changepoints (as many) of the series with its
    checkpoints shuffled. p: share of shuffles as near. resolution: the distance of the checkpoints around the event.
    """

    event: float
    changepoint: float
    distance: float
    resolution: float
    null_mean: float
    null_low: float  # 5 % and 95 % of shuffles
    null_high: float
    p: float
    shuffles: int

    def __str__(self) -> str:
        return (
            f"step {self.event:.0f} lies a factor {np.exp(self.distance):.2f} from the changepoint at "
            f"{self.changepoint:g} (checkpoints there are a factor {np.exp(self.resolution):.2f} apart; in "
            f"{self.shuffles} shuffles the mean is {np.exp(self.null_mean):.2f}, p = {self.p:.2g})"
        )


def nearest(
    event: float, steps: ArrayLike, values: ArrayLike, found: Changepoints, *, shuffles: int = 199, seed: int = 0
) -> Nearest | None:
    """The changepoint nearest to an event, beside shuffled checkpoints; None where there is no changepoint."""
    if not found.points:
        return None
    given, x, y, _ = _prepared(steps, values, found.kind)

    def apart(at: Sequence[float]) -> float:
        return float(min(abs(np.log((event + 1) / (s + 1))) for s in at))

    k = len(found.points)
    distance = apart(found.steps)
    rng = np.random.default_rng(seed)
    null = np.array([apart(given[segment(x, rng.permutation(y), k, found.kind)].tolist()) for _ in range(shuffles)])
    after = int(np.searchsorted(given, event))
    low, high = given[max(after - 1, 0)], given[min(after, len(given) - 1)]
    best = min(found.steps, key=lambda s: abs(np.log((event + 1) / (s + 1))))
    return Nearest(
        event=event,
        changepoint=best,
        distance=distance,
        resolution=float(np.log((high + 1) / (low + 1))),
        null_mean=float(null.mean()),
        null_low=float(np.quantile(null, 0.05)),
        null_high=float(np.quantile(null, 0.95)),
        p=float(((null <= distance + 1e-12).sum() + 1) / (shuffles + 1)),
        shuffles=shuffles,
    )


def onset(steps: ArrayLike, values: ArrayLike, share: float = 0.5) -> float:
    """The first step at which a series has covered `share` of the way from its first value to its largest, between
    checkpoints by interpolation in log(step + 1). NaN where it never rises."""
    s, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    s, y = s[np.isfinite(y)], y[np.isfinite(y)]
    if len(y) < 2 or y.max() <= y[0]:
        return float("nan")
    level = y[0] + share * (y.max() - y[0])
    i = int(np.argmax(y >= level))
    if i == 0:
        return float(s[0])
    x = np.log(s + 1)
    at = x[i - 1] + (level - y[i - 1]) / (y[i] - y[i - 1]) * (x[i] - x[i - 1])
    return float(np.exp(at) - 1)
