"""The geometry of uniform superposition: dimensions per feature stick at simple fractions.

Source: Elhage et al. 2022, "The Geometry of Superposition" (n = 400, m = 30, I = 1; D* = m / |W|_F^2 sticks at 1 and
1/2, and D_i clusters at 1, 3/4, 2/3, 1/2, 2/5, 3/8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from cutaway.core import Comparison, Estimate, Evidence
from cutaway.evidence import bootstrap, bootstrap_difference
from cutaway.toys.superposition.data import Sparse, logspace
from cutaway.toys.superposition.geometry import ATTRACTORS, dimensionality, dimensions_per_feature
from cutaway.toys.superposition.networks import Networks, train
from cutaway.toys.superposition.report import Check, Experiment, number

N, M, DENSITIES = 400, 30, 16
NEAR = 0.015  # of a fraction: about a third of the smallest gap between them
FRACTIONS = tuple(value for value in ATTRACTORS.values() if value > 0)


def near_fraction(shares: torch.Tensor) -> torch.Tensor:
    """Whether each D_i, any shape, lies within NEAR of one of the fractions."""
    return (shares[..., None] - torch.tensor(FRACTIONS)).abs().min(dim=-1).values < NEAR


def plateaus(*, seed: int, effort: float, on: Callable[[str], None]) -> Experiment:
    """One network at each of 16 densities from 1 to 1/10: where D* and D_i settle."""
    density = logspace(1.0, 0.1, DENSITIES)
    on(f"plateaus: {DENSITIES} networks of {N} features in {M} dimensions (the longest of all)")
    nets = train(
        Networks.random(DENSITIES, N, M, seed=seed),
        Sparse(density[:, None].expand(-1, N)),
        torch.ones(1, N),
        steps=max(1, int(2500 * effort)),
        batch=256,
        seed=seed + 1,
    )
    overall = dimensions_per_feature(nets.encoder)
    share = dimensionality(nets.encoder)
    there = nets.encoder.norm(dim=1) > 0.5
    # Each network's own lengths with random directions: what D_i would be if nothing had been arranged.
    drawn = torch.randn(nets.encoder.shape, generator=torch.Generator().manual_seed(seed + 2))
    scattered = dimensionality(drawn / drawn.norm(dim=1, keepdim=True) * nets.encoder.norm(dim=1, keepdim=True))
    rows = [i for i in range(DENSITIES) if bool(there[i].any())]
    trained = np.array([float(near_fraction(share[i][there[i]]).double().mean()) for i in rows])
    random = np.array([float(near_fraction(scattered[i][there[i]]).double().mean()) for i in rows])
    half = int(((overall - 0.5).abs() < 0.03).sum())
    sparse = int((density < 0.35).sum())
    sparse_half = 0.5 + float((overall[density < 0.35] - 0.5).abs().min())
    checks = (
        Check("D*, dense (density 1): one dimension a feature", 1.0, number("", float(overall[0]), 1), 0.05),
        Check("densities at which D* lies within .03 of 1/2", 3, number("", half, DENSITIES), 0, "at least"),
        Check("D* nearest to 1/2 at densities below .35", 0.5, number("", sparse_half, sparse), 0.02),
        Check(
            f"share of features within {NEAR} of a fraction", 0.5,
            bootstrap(trained, name="", over="densities", method="percentile"), 0, "at least",
        ),
    )  # fmt: skip
    effect = bootstrap(trained, name=f"share of D_i within {NEAR} of a fraction", over="densities")
    evidence = Evidence(
        claim="Features settle at the fractions of regular polytopes",
        effect=effect,
        nulls=(
            Comparison(
                estimate=bootstrap(random, name="random directions, the same lengths", over="densities"),
                difference=bootstrap_difference(trained, random, paired=True, over="densities"),
            ),
            Comparison(estimate=_covered()),
        ),
        seeds=(seed,),
        how="D_i of features with |W_i| > 1/2; fractions 1, 3/4, 2/3, 1/2, 2/5, 3/8; one training a density",
        settings={"n": N, "m": M, "densities": DENSITIES, "near": NEAR},
    )
    return Experiment(
        name="plateaus",
        claim="dimensions per feature stick at 1 and 1/2, and single features at simple fractions",
        setting=f"n = {N}, m = {M}, I = 1, {DENSITIES} densities from 1 to 1/10",
        checks=checks,
        evidence=(evidence,),
        data={
            "density": density.tolist(),
            "D_star": overall.tolist(),
            "D_i": [share[i][there[i]].numpy().round(4).tolist() for i in range(DENSITIES)],
            "random": [scattered[i][there[i]].numpy().round(4).tolist() for i in range(DENSITIES)],
            "fractions": {name: value for name, value in ATTRACTORS.items() if value > 0},
        },
        draw=_draw,
        size=(12.0, 4.2),
    )


def _covered() -> Estimate:
    """The part of [0, 1] that lies near a fraction: what D_i spread evenly would give."""
    grid = torch.linspace(0, 1, 100_001)
    return number("D_i spread evenly over [0, 1]", float(near_fraction(grid).double().mean()), 1)


def _draw(figure: Any, data: Mapping[str, Any]) -> None:
    left, middle, right = figure.subplots(1, 3, gridspec_kw={"width_ratios": [1, 1.4, 1.4]})
    x = 1 / np.array(data["density"])
    left.plot(x, data["D_star"], "o-C0", ms=4)
    for value in (1.0, 0.5):
        left.axhline(value, color="k", ls="--", lw=0.8)
    left.set(xscale="log", xlabel="1 / density", ylabel="D* = m / |W|²", title="dimensions per feature")
    for ax, key, title in ((middle, "D_i", "D_i, trained"), (right, "random", "D_i, random directions (null)")):
        for at, values in zip(x, data[key]):
            ax.plot(
                at * np.linspace(0.98, 1.02, len(values)),
                values,
                ".",
                color="C0" if key == "D_i" else "0.5",
                ms=2,
                alpha=0.5,
            )
        for name, value in data["fractions"].items():
            ax.axhline(value, color="k", ls="--", lw=0.6)
            ax.annotate(name, (x[-1] * 1.05, value), fontsize=6, va="center", annotation_clip=False)
        ax.set(xscale="log", xlabel="1 / density", ylabel="D_i", ylim=(0, 1.05), title=title)
    for ax in (left, middle, right):
        ax.title.set_fontsize(9)
