"""Tests of hypotheses that judge a part against the whole: equivalence, independence, and a share of random draws.

They are the statistics of Shi et al., "Hypothesis Testing the Circuit Hypothesis in LLMs" (2024), in a form that keeps
its level: a proportion where a proportion belongs, and permutation p-values that count the observed arrangement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from cutaway.core import Estimate, InputError
from cutaway.evidence.statistics import Floats, proportion


@dataclass(frozen=True)
class Equivalence:
    """`share`: of units where the difference is above zero, ties by half.

    `p_apart`: of the null |P(d > 0) - 1/2| <= epsilon; small: the two differ.
    `p_same`: of the null |P(d > 0) - 1/2| >= epsilon; small: they are equivalent. Neither small: too few units to say.
    """

    share: Estimate
    epsilon: float
    p_apart: float
    p_same: float


def equivalence(differences: ArrayLike, epsilon: float = 0.1) -> Equivalence:
    """Whether differences [n] are above zero about as often as below.

    The first null is composite; its largest p-value lies at the edge, P(d > 0) = 1/2 + epsilon:
        p_apart = P(|K/n - 1/2| >= |k/n - 1/2|),  K ~ Binomial(n, 1/2 + epsilon)
    The second is that of two one-sided tests (Schuirmann 1987):
        p_same = max(P(K <= k | 1/2 + epsilon), P(K >= k | 1/2 - epsilon))
    Units without a difference count half on either side (an odd one against the verdict in p_same, for it in p_apart).
    Raises InputError for an epsilon outside (0, 1/2) and for values that are not finite.
    """
    d = _finite(differences)
    if not 0 < epsilon < 0.5:
        raise InputError(f"epsilon lies between 0 and 1/2; given {epsilon:g}.")
    n = d.size
    above, below = int((d > 0).sum()), int((d < 0).sum())
    ties = n - above - below
    if n == 0:
        empty = Estimate(name="share above", value=float("nan"), n=0)
        return Equivalence(empty, epsilon, float("nan"), float("nan"))
    near, far = sorted((above + ties // 2, above + ties - ties // 2), key=lambda k: abs(k / n - 0.5))
    whole = np.arange(n + 1)
    extreme = np.abs(whole / n - 0.5) >= abs(near / n - 0.5) - 1e-12
    p_apart = float(stats.binom.pmf(whole[extreme], n, 0.5 + epsilon).sum())
    p_same = max(float(stats.binom.cdf(far, n, 0.5 + epsilon)), float(stats.binom.sf(far - 1, n, 0.5 - epsilon)))
    share = proportion(near, n, name="share of items where the first is larger", note="ties by half")
    share = share.model_copy(update={"value": (above + ties / 2) / n})
    return Equivalence(share, epsilon, min(p_apart, 1.0), min(p_same, 1.0))


def hsic(x: ArrayLike, y: ArrayLike, *, permutations: int = 1000, seed: int = 0) -> tuple[float, float]:
    """(statistic, p) of the null that x [n] and y [n] are independent (Gretton et al. 2007, Hilbert-Schmidt).

        HSIC = tr(K H L H) / (n - 1)^2,  Gaussian kernels, each with the median distance of its own variable as width

    The p-value is of permutations of y, the observed one counted. A constant variable is independent of all: p = 1.
    Memory n^2; raises InputError for fewer than four units.
    """
    a, b = _finite(x), _finite(y)
    n = a.size
    if a.shape != b.shape or n < 4:
        raise InputError(f"independence takes pairs, at least four: {a.shape} and {b.shape} were given.")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0, 1.0
    k, kernel = _gram(a), _gram(b)
    k = k - k.mean(0) - k.mean(1)[:, None] + k.mean()  # H K H
    rng = np.random.default_rng(seed)
    observed = float((k * kernel).sum())
    least = observed * (1 - 1e-12)
    reached = 0
    for _ in range(permutations):
        order = rng.permutation(n)
        reached += float((k * kernel[np.ix_(order, order)]).sum()) >= least
    return observed / (n - 1) ** 2, (reached + 1) / (permutations + 1)


def exceeds_share(beats: int, of: int, quantile: float = 0.9, *, less: bool = False) -> float:
    """The p-value that something beats more (or `less`) than a share `quantile` of draws, having beaten `beats` of
    `of`: binomial, one-sided. Raises InputError for counts that are no proportion."""
    if not 0 <= beats <= of or of == 0:
        raise InputError(f"{beats} of {of} draws is no proportion.")
    return float(stats.binomtest(beats, of, quantile, alternative="less" if less else "greater").pvalue)


def _gram(x: Floats) -> Floats:
    apart = np.abs(x[:, None] - x[None])
    width = float(np.median(apart[np.triu_indices(x.size, 1)])) or float(apart[apart > 0].mean())
    return np.asarray(np.exp(-(apart**2) / (2 * width**2)))


def _finite(values: ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise InputError(f"a test takes one finite number a unit; shape {x.shape} was given.")
    return x
