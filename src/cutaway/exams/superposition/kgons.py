"""The local learning coefficient from one polygon of features to the next, beside its exact value.

k features share two dimensions, one on at a time, and lie at the corners of a regular k-gon (`toys/polygons.py`; Chen
et al. 2023). For k from 5 on the k-gon is a minimum whose only flat direction is its rotation (the Hessian has rank
3k - 1), so that lambda = (3k - 1) / 2 exactly; features that are not held and whose output is off add nothing. Among c
features the loss of the k-gon falls with k, up to seven corners, and lambda rises: each corner more is paid for.

    F_k(n) = n L_k + lambda_k log n        (Watanabe's free energy, leading terms)

says from how many samples n on k + 1 corners are better than k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from cutaway.core import Comparison, Estimate, Evidence

KS, QUICK_KS = (5, 6, 7, 8), (5, 6)
AMONG = 8  # features, of which k are held
TOLERANCE = 0.4  # less than the .5 between lambda and d/2, a regular model's


@dataclass(frozen=True)
class Kgon:
    """One k-gon: its exact lambda, what was estimated, its loss among AMONG features, and why not to believe it."""

    k: int
    exact: float
    rank: int
    estimate: Estimate
    loss: float
    refused: tuple[str, ...]

    @property
    def regular(self) -> float:
        """d/2 of a regular model of as many weights."""
        return 3 * self.k / 2

    @property
    def passed(self) -> bool:
        return not self.refused and abs(self.estimate.value - self.exact) <= TOLERANCE


def kgons(*, quick: bool = False, seed: int = 0, on: Callable[[str], None] = lambda _: None) -> list[Kgon]:
    """lambda hat at each k-gon, by Hamiltonian chains on the exact loss. Cost: some seconds each."""
    from cutaway.development import Data, Setting, find_step, llc
    from cutaway.toys.normal_crossing import itself
    from cutaway.toys.polygons import regular_polygon

    found = []
    for k in QUICK_KS if quick else KS:
        on(f"learning coefficient of the {k}-gon")
        one = regular_polygon(k, k)
        module = one.place(k)
        data = Data((module.data(),), itself, "closed form")
        setting = Setting(
            n_beta=1e4, localisation=1.0, eps=1.0, sampler="hmc", chains=6, draws=120 if quick else 300,
            burn_in=60 if quick else 100, seed=seed,
        )  # fmt: skip
        measured = llc(data.loss(module), find_step(data.loss(module), setting))
        # Each of the features that are not held costs E x^2 = 1/3 a c-th of the time.
        among = (k * one.loss + (AMONG - k) / 3) / AMONG
        found.append(Kgon(k, (3 * k - 1) / 2, _rank(module), measured.estimate, among, measured.refused))
    return found


def _rank(module: Any) -> int:
    """Of the Hessian at the polygon: all but the rotation where lambda is (3k - 1) / 2."""
    from cutaway.toys.polygons import polygon_loss

    w, b = module.W.detach(), module.b.detach()
    c = b.numel()
    whole = torch.cat([w.flatten(), b])
    curvature = torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
        lambda v: polygon_loss(v[: 2 * c].reshape(2, c), v[2 * c :]), whole
    )
    return int((torch.linalg.eigvalsh(curvature) > 1e-4).sum())


def transitions(found: Sequence[Kgon]) -> list[tuple[int, float]]:
    """(k, n) for each neighbour pair: the samples from which on F_{k+1} < F_k, exact lambdas; infinite where one corner
    more does not lower the loss."""
    out = []
    for low, high in pairwise(found):
        gain, price = low.loss - high.loss, high.exact - low.exact
        n = math.inf if gain <= 0 else math.e
        for _ in range(100 if gain > 0 else 0):  # n = price log n / gain
            n = max(math.e, price * math.log(n) / gain)
        out.append((low.k, n))
    return out


def evidence(found: Sequence[Kgon]) -> tuple[Evidence, ...]:
    """At each k-gon the estimate beside what a regular model of as many weights would have: half of their number."""
    return tuple(
        Evidence(
            claim=f"The learning coefficient of the {one.k}-gon is {one.exact:g}, lower than a regular model's",
            effect=one.estimate,
            better="lower",
            nulls=(Comparison(estimate=Estimate(name="d/2, a regular model", value=one.regular, n=3 * one.k)),),
            how=f"Hamiltonian chains on the loss in closed form; the interval is over chains. Exact: (3k - 1) / 2 = "
            f"{one.exact:g}, and the estimate is off by {one.estimate.value - one.exact:+.2f}."
            + (f" Refused: {'; '.join(one.refused)}." if one.refused else ""),
            settings={"rank": one.rank, "tolerance": TOLERANCE},
        )
        for one in found
    )


def rows(found: Sequence[Kgon]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for one in found:
        span = one.estimate.interval
        out.append({
            "name": f"learning coefficient of the {one.k}-gon ({one.k / 2:g} features a dimension)", "truth": one.exact,
            "estimate": one.estimate.value, "interval": None if span is None else [span.low, span.high],
            "n": one.estimate.n, "tolerance": TOLERANCE, "passed": one.passed,
        })  # fmt: skip
        out.append({
            "name": f"rank of the {one.k}-gon's Hessian: all directions but its rotation", "truth": 3 * one.k - 1,
            "estimate": one.rank, "interval": None, "n": 3 * one.k, "tolerance": 0, "passed": one.rank == 3 * one.k - 1,
        })  # fmt: skip
    for k, n in transitions(found):
        if not math.isfinite(n):
            continue
        out.append({
            "name": f"samples from which {k + 1} corners are better than {k}, by free energy", "truth": None,
            "estimate": n, "interval": None, "n": AMONG, "tolerance": None, "passed": None,
        })  # fmt: skip
    return out


def table(found: Sequence[Kgon]) -> str:
    from cutaway.core.table import columns

    lines = [["k-gon", "features/dim", f"loss among {AMONG}", "exact lambda", "lambda hat", "d/2", ""]]
    for one in found:
        lines.append([
            f"{one.k}", f"{one.k / 2:g}", f"{one.loss:.4f}", f"{one.exact:g}", str(one.estimate), f"{one.regular:g}",
            "; ".join(one.refused) or ("within" if one.passed else "OFF") + f" {TOLERANCE}" * one.passed,
        ])  # fmt: skip
    return "\n".join(columns(lines, right=(0, 1, 2, 3, 5)))


def to_json(found: Sequence[Kgon]) -> dict[str, Any]:
    return {
        "kgons": [
            {
                "k": one.k, "features_per_dimension": one.k / 2, "loss": one.loss, "exact": one.exact,
                "regular": one.regular, "rank": one.rank, "estimate": one.estimate.model_dump(mode="json"),
                "refused": list(one.refused), "passed": one.passed,
            }
            for one in found
        ],
        "transitions": [
            {"from": k, "to": k + 1, "samples": n if math.isfinite(n) else None} for k, n in transitions(found)
        ],
    }  # fmt: skip


def draw(ax: Any, found: Sequence[Kgon]) -> None:
    """lambda hat with its interval on the exact line, d/2 dotted; the loss on the other side."""
    x = [one.k for one in found]
    ax.plot(x, [one.exact for one in found], "k--", lw=0.8, label="exact, (3k - 1) / 2")
    ax.plot(x, [one.regular for one in found], ":", color="0.5", lw=1, label="d/2 (regular model)")
    value = [one.estimate.value for one in found]
    low = [v - (one.estimate.interval.low if one.estimate.interval else v) for v, one in zip(value, found)]
    high = [(one.estimate.interval.high if one.estimate.interval else v) - v for v, one in zip(value, found)]
    ax.errorbar(x, value, yerr=[low, high], fmt="oC0", ms=4, capsize=2, label="estimated")
    ax.set(xlabel="corners k (2 dimensions)", ylabel="learning coefficient", xticks=x)
    other = ax.twinx()
    other.plot(x, [one.loss for one in found], "s-C3", ms=3, lw=0.8)
    other.set_ylabel(f"loss among {AMONG} features", color="C3")
    ax.set_title("From one k-gon to the next: the loss falls, the learning coefficient rises", fontsize=9)
    ax.legend(fontsize=7, loc="center right")
