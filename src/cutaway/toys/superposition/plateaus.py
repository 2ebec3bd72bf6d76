"""The geometry of uniform superposition: dimensions per feature stick at simple fractions.

Source: Elhage et al. 2022, "The Geometry of Superposition" (n = 400, m = 30, I = 1; D* = m / |W|_F^2 sticks at 1 and
1/2, and D_i clusters at 1, 3/4, 2/3, 1/2, 2/5, 3/8). Where one of these shapes is the geometry of least loss is
computed from small networks (`shapes.py`): in the sparse third of the range larger ones are, with 1/3 and less.
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
from cutaway.toys.superposition.networks import Networks, best_of, train
from cutaway.toys.superposition.report import Check, Experiment, number
from cutaway.toys.superposition.shapes import least_loss

N, M, DENSITIES = 400, 30, 16
ROUNDS = 3
NEAR = 0.015  # of a fraction: about a third of the smallest gap between them
FRACTIONS = tuple(value for value in ATTRACTORS.values() if value > 0)


def near_fraction(shares: torch.Tensor) -> torch.Tensor:
    """Whether each D_i, any shape, lies within NEAR of one of the fractions."""
    return (shares[..., None] - torch.tensor(FRACTIONS)).abs().min(dim=-1).values < NEAR


def _trained(
    density: torch.Tensor, seed: int, effort: float, on: Callable[[str], None]
) -> tuple[Networks, torch.Tensor, torch.Tensor]:
    """(a network at each density, D* after training alone, how much lower its loss is since then, as a share).

    From random weights a dense network stays for thousands of steps where it is no better than the linear model, though
    digons would do with a fifth less loss; sparser ones leave sooner. So each starts again, ROUNDS times, from its own
    weights and from those of the networks one and two densities sparser and one denser, and keeps the least loss.
    """
    importance = torch.ones(1, N)
    data = Sparse(density[:, None].expand(-1, N))
    nets = train(
        Networks.random(DENSITIES, N, M, seed=seed), data, importance, steps=max(1, int(1500 * effort)), batch=256,
        seed=seed + 1,
    )  # fmt: skip
    alone = dimensions_per_feature(nets.encoder)
    first = nets.loss(data, importance, samples=2048)
    beside = torch.tensor([0, 1, 2, -1])
    starts = (torch.arange(DENSITIES)[:, None] + beside).clamp(0, DENSITIES - 1).flatten()
    own = density.repeat_interleave(len(beside))
    for turn in range(ROUNDS):
        on(f"plateaus: each from its neighbours' weights, {turn + 1} of {ROUNDS}")
        tried = train(
            nets.at(starts), Sparse(own[:, None].expand(-1, N)), importance, steps=max(1, int(300 * effort)), batch=256,
            learning_rate=5e-3, seed=seed + 10 + turn,
        )  # fmt: skip
        places = [torch.arange(k, len(own), len(beside)) for k in range(len(beside))]
        losses = torch.stack([tried.at(index).loss(data, importance, samples=2048) for index in places], dim=1)
        nets, kept = best_of(tried, losses.flatten(), len(beside))
    return nets, alone, 1 - kept / first


def plateaus(*, seed: int, effort: float, on: Callable[[str], None]) -> Experiment:
    """The best of several networks at each of 16 densities from 1 to 1/10: where D* and D_i settle."""
    density = logspace(1.0, 0.1, DENSITIES)
    on(f"plateaus: {DENSITIES} networks of {N} features in {M} dimensions (the longest of all)")
    nets, alone, lower = _trained(density, seed, effort, on)
    overall = dimensions_per_feature(nets.encoder)
    share = dimensionality(nets.encoder)
    there = nets.encoder.norm(dim=1) > 0.5
    # Each network's own lengths with random directions: what D_i would be if nothing had been arranged.
    drawn = torch.randn(nets.encoder.shape, generator=torch.Generator().manual_seed(seed + 2))
    scattered = dimensionality(drawn / drawn.norm(dim=1, keepdim=True) * nets.encoder.norm(dim=1, keepdim=True))
    on("plateaus: the geometry of least loss at each density, from small networks")
    theory = least_loss(density, seed=seed, steps=max(1, int(900 * effort)))
    held = [i for i in range(DENSITIES) if bool(there[i].any())]
    trained = np.array([float(near_fraction(share[i][there[i]]).double().mean()) for i in held])
    random = np.array([float(near_fraction(scattered[i][there[i]]).double().mean()) for i in held])
    # Where one feature a dimension is best, any rotation of the linear model is as good: no D_i is foretold there.
    foretold = [
        float(whole) < 0.75 and float(near_fraction(each).double().mean()) >= 0.5
        for whole, each in zip(theory.overall, theory.shares)
    ]
    inside = np.array([foretold[i] for i in held], dtype=bool)
    half = int(((overall - 0.5).abs() < 0.03).sum())
    sparse = int((density < 0.35).sum())
    sparse_half = 0.5 + float((overall[density < 0.35] - 0.5).abs().min())
    checks: tuple[Check, ...] = (
        Check("D*, dense (density 1): one dimension a feature", 1.0, number("", float(overall[0]), 1), 0.05),
        Check("densities at which D* lies within .03 of 1/2", 3, number("", half, DENSITIES), 0, "at least"),
        Check("D* nearest to 1/2 at densities below .35", 0.5, number("", sparse_half, sparse), 0.02),
        Check(
            f"share of features within {NEAR} of a fraction, where theory has them there", 0.5,
            _over(trained[inside], ""), 0, "at least",
            why="densities at which the small network of least loss has its D_i at these fractions",
        ),
    )  # fmt: skip
    how = (
        "D_i of features with |W_i| > 1/2; fractions 1, 3/4, 2/3, 1/2, 2/5, 3/8; the least loss of trainings from "
        "random weights and from the networks of the neighbouring densities"
    )
    evidence = tuple(
        Evidence(
            claim=claim,
            effect=_over(trained[rows], f"share of D_i within {NEAR} of a fraction"),
            nulls=(
                Comparison(
                    estimate=_over(random[rows], "random directions, the same lengths"),
                    difference=bootstrap_difference(trained[rows], random[rows], paired=True, over="densities")
                    if rows.sum() > 1
                    else None,
                ),
                Comparison(estimate=_covered()),
            ),
            seeds=(seed,),
            how=how,
            settings={"n": N, "m": M, "densities": int(rows.sum()), "near": NEAR, "rounds": ROUNDS},
        )
        for claim, rows in (
            (
                "Features settle at the fractions of regular polytopes where these are the geometry of least loss",
                inside,
            ),
            ("Features settle at the fractions of regular polytopes at every density from 1 to 1/10", inside | True),
        )
    )
    return Experiment(
        name="plateaus",
        claim="dimensions per feature stick at 1 and 1/2, and single features at simple fractions",
        setting=f"n = {N}, m = {M}, I = 1, {DENSITIES} densities from 1 to 1/10",
        checks=checks,
        evidence=evidence,
        data={
            "density": density.tolist(),
            "D_star": overall.tolist(),
            "D_star_alone": alone.tolist(),
            "loss_lower_by": lower.tolist(),
            "D_i": [share[i][there[i]].numpy().round(4).tolist() for i in range(DENSITIES)],
            "random": [scattered[i][there[i]].numpy().round(4).tolist() for i in range(DENSITIES)],
            "theory": {
                "shape": [f"{k} in {m}" for k, m in theory.shapes],
                "saved_per_dimension": theory.saved.tolist(),
                "D_star": theory.overall.tolist(),
                "at_a_fraction": foretold,
            },
            "fractions": {name: value for name, value in ATTRACTORS.items() if value > 0},
        },
        draw=_draw,
        size=(12.0, 4.2),
    )


def _over(values: np.ndarray, name: str) -> Estimate:
    if not len(values):
        return Estimate(name=name, value=float("nan"), n=0)
    return bootstrap(values, name=name, over="densities", method="percentile")


def _covered() -> Estimate:
    """The part of [0, 1] that lies near a fraction: what D_i spread evenly would give."""
    grid = torch.linspace(0, 1, 100_001)
    return number("D_i spread evenly over [0, 1]", float(near_fraction(grid).double().mean()), 1)


def _draw(figure: Any, data: Mapping[str, Any]) -> None:
    left, middle, right = figure.subplots(1, 3, gridspec_kw={"width_ratios": [1, 1.4, 1.4]})
    x = 1 / np.array(data["density"])
    left.plot(x, data["D_star_alone"], ".:", color="0.6", ms=4, label="from random weights alone")
    left.plot(x, data["D_star"], "o-C0", ms=4, label="the least loss")
    left.plot(x, data["theory"]["D_star"], "k_", ms=9, label="theory: least loss of small shapes")
    left.legend(fontsize=6)
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
