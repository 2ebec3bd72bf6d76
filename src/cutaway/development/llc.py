"""The local learning coefficient (Lau et al. 2023, "The local learning coefficient: a singularity-aware complexity
measure"):

    lambda_hat(w*) = n beta (E[L_n(w)] - L_n(w*)),   w ~ exp(-n beta L_n(w) - gamma/2 |w - w*|^2)

`llc` measures it at one setting; `calibrated_llc` (calibrate.py) finds the setting and says where none will do.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cutaway.core import Comparison, Estimate, Evidence, NotDone
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.development.chains import Draws, Floats, Observe, Setting, sample
from cutaway.development.loss import Loss
from cutaway.evidence import bootstrap

SCHEMA = "cutaway.llc/1"


@dataclass(frozen=True)
class Check:
    """One thing that was varied, or watched: what it was, what came out, and whether it may stand."""

    name: str
    value: float
    allowed: str
    passed: bool


@dataclass(frozen=True, eq=False, repr=False)
class LLC(Drawn):
    """An estimate with what it stands on. `estimate.value` is as measured, never clipped; `refused` says why it is not
    to be believed (empty: nothing was found against it). `per_chain` [chains]."""

    estimate: Estimate
    per_chain: Floats
    setting: Setting
    n: int
    d: int
    loss: float
    distance: float
    acceptance: float
    r_hat: float
    ess: float
    how: str
    gradients: int
    seconds: float
    checks: tuple[Check, ...] = ()
    refused: tuple[str, ...] = ()
    sweep: tuple[dict[str, float], ...] = ()

    @property
    def value(self) -> float:
        return self.estimate.value

    @property
    def believed(self) -> bool:
        return not self.refused

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Beside the estimate stands d/2, what a regular model of as many weights would have."""
        s = self.setting
        regular = Estimate(name="d/2, a regular model of as many weights", value=self.d / 2, n=self.d)
        return (
            Evidence(
                claim="The local learning coefficient at these weights",
                effect=self.estimate,
                better="lower",
                baselines=(Comparison(estimate=regular),),
                seeds=(s.seed,),
                how=f"{s.chains} chains of {s.sampler} from w*, {s.draws} draws each; the interval is over chains."
                + (f" Refused: {'; '.join(self.refused)}." if self.refused else ""),
                settings=asdict(s),
                not_done=(
                    NotDone(what="the same on a re-initialised model", why="a timeline's first checkpoint is that"),
                ),
            ),
        )

    def to_json(self) -> dict[str, Any]:
        def number(x: float) -> float | None:
            return x if math.isfinite(x) else None

        return {
            "schema": SCHEMA,
            "estimate": self.estimate.model_dump(mode="json"),
            "believed": self.believed,
            "refused": list(self.refused),
            "per_chain": [number(float(x)) for x in self.per_chain],
            "setting": asdict(self.setting),
            "n": self.n,
            "d": self.d,
            "loss": number(self.loss),
            "distance": number(self.distance),
            "acceptance": number(self.acceptance),
            "r_hat": number(self.r_hat),
            "ess": number(self.ess),
            "checks": [{**asdict(check), "value": number(check.value)} for check in self.checks],
            "sweep": list(self.sweep),
            "gradients": self.gradients,
            "seconds": round(self.seconds, 3),
            "how": self.how,
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        s = self.setting
        rows = [
            ("lambda hat", f"{self.estimate}", "chains"),
            ("d/2, regular", f"{self.d / 2:g}", f"{self.d:,} weights"),
            ("L_n(w*)", f"{self.loss:.4g}", f"{self.n:,} items"),
            ("n beta, gamma", f"{s.n_beta:.4g}, {s.localisation:.3g}", "inverse temperature, localisation"),
            ("eps", f"{s.eps:.3g}", f"{s.sampler}, {s.draws} draws x {s.every} steps after {s.burn_in}"),
            ("|w - w*|", f"{self.distance:.3g}", "mean over draws"),
            ("acceptance", _shown(self.acceptance), "of the moves, as MALA would"),
            ("R-hat, ESS", f"{_shown(self.r_hat)}, {_shown(self.ess)}", "of the loss"),
        ]
        lines = [f"local learning coefficient ({self.gradients:,} gradients, {self.seconds:.1f} s)", *columns(rows)]
        if self.checks:
            shown = [(c.name, _shown(c.value), c.allowed, "pass" if c.passed else "FAIL") for c in self.checks]
            lines += ["  checks", *columns(shown, right=(1,), indent="    ")]
        lines += [f"  REFUSED: {why}" for why in self.refused]
        return "\n".join(lines)

    __repr__ = __str__


def _shown(x: float) -> str:
    return f"{x:.3g}" if math.isfinite(x) else "-"


def default_n_beta(n: int) -> float:
    """n / log n: beta = 1 / log n (Watanabe 2013), n the items of the data, not of a batch."""
    return n / math.log(max(n, 3))


def diagnose(trace: Floats) -> tuple[float, float]:
    """(R-hat, effective sample size) of draws [chains, draws]: rank-normalised, split (Vehtari et al. 2021). NaN for
    too few draws."""
    if trace.shape[1] < 8:
        return math.nan, math.nan
    from arviz_stats.base import array_stats

    with np.errstate(invalid="ignore", divide="ignore"):
        if not np.isfinite(trace).all() or float(np.ptp(trace)) == 0:
            return math.nan, math.nan
        r_hat = float(array_stats.rhat(trace, chain_axis=0, draw_axis=1)) if len(trace) > 1 else math.nan
        return r_hat, float(array_stats.ess(trace, chain_axis=0, draw_axis=1))


def llc(loss: Loss, setting: Setting, *, observe: Observe | None = None, traced: bool = True) -> LLC:
    """The estimate at one setting, with its interval over chains and diagnostics; nothing is varied or refused but what
    these show: chains that disagree, or lower losses than w*'s.

    Costs what `sample` costs.
    """
    return from_draws(loss, sample(loss, setting, observe=observe, traced=traced))


def from_draws(loss: Loss, draws: Draws) -> LLC:
    s = draws.setting
    per_chain = s.n_beta * draws.excess.mean(1)
    r_hat, ess = diagnose(draws.excess)
    estimate = over_chains(per_chain, s.seed)
    checks = (
        Check("R-hat of the loss", r_hat, "<= 1.1", not r_hat > 1.1),
        Check("effective draws of the loss", ess, ">= 50", not ess < 50),
        Check("lambda hat", estimate.value, "> 0", estimate.value > 0),
    )
    refused = []
    if not checks[0].passed or not checks[1].passed:
        refused.append(
            f"the chains do not agree (R-hat {r_hat:.2f}, {ess:.0f} effective draws): more draws or burn-in are needed"
        )
    if not checks[2].passed:
        refused.append(
            f"the chains find losses lower than w*'s (lambda hat {estimate.value:.3g}): w* is no minimum at this n beta"
        )
    return LLC(
        estimate=estimate,
        per_chain=per_chain,
        setting=s,
        n=loss.n,
        d=loss.d,
        loss=float(loss.at_origin.double().mean()),
        distance=float(draws.distance.mean()),
        acceptance=draws.acceptance,
        r_hat=r_hat,
        ess=ess,
        how=draws.how,
        gradients=draws.steps * s.chains,
        seconds=draws.seconds,
        checks=checks,
        refused=tuple(refused),
    )


def over_chains(per_chain: Floats, seed: int) -> Estimate:
    """The mean of chains with a bootstrap interval over them."""
    if not np.isfinite(per_chain).all():
        return Estimate(name="lambda hat", value=math.nan, n=len(per_chain))
    return bootstrap(per_chain, name="lambda hat", over="chains", method="percentile", seed=seed)
