"""How superposition is learnt: the loss rests at the levels of ideal polygons and falls between them as features jump.

Sources: Elhage et al. 2022, "Superposition and Learning Dynamics" ("energy level jumps", learning as geometric
transformations); Chen et al., Dynamical versus Bayesian Phase Transitions in a Toy Model of Superposition (2023), for
polygons as the critical points. The loss is the exact expectation, so its curve has no noise, and the levels are the
least losses within a symmetry: descent from an ideal polygon cannot leave the symmetry that it starts with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cutaway.core import Comparison, Evidence
from cutaway.evidence import bootstrap, bootstrap_difference
from cutaway.toys.superposition.data import Exact
from cutaway.toys.superposition.geometry import dimensionality
from cutaway.toys.superposition.networks import Networks, gradients, train
from cutaway.toys.superposition.report import Check, Experiment, number

N, M, DENSITY, TRAININGS, LOOKS = 6, 2, 0.05, 24, 300
BAND = 0.015  # a loss is at a level when it is within this much of it, in log
# Polygons by how many features lie on each corner; what is left over is not represented.
SHAPES: dict[str, tuple[int, ...]] = {
    "hexagon": (1, 1, 1, 1, 1, 1),
    "pentagon": (1, 1, 1, 1, 1),
    "pentagon, a corner shared": (2, 1, 1, 1, 1),
    "square": (1, 1, 1, 1),
    "square, neighbours shared": (2, 2, 1, 1),
    "square, opposites shared": (2, 1, 2, 1),
    "triangle, all shared": (2, 2, 2),
    "line, all shared": (3, 3),
    "pentagon without a corner": (1, 1, 1, 0, 1),
}


def polygon(corners: tuple[int, ...]) -> torch.Tensor:
    """W [m, n], float64, with so many features on each corner of a regular polygon of unit radius."""
    directions = [k for k, many in enumerate(corners) for _ in range(many)]
    angle = 2 * torch.pi * torch.tensor(directions, dtype=torch.float64) / len(corners)
    weights = torch.zeros(M, N, dtype=torch.float64)
    weights[:, : len(directions)] = torch.stack([angle.cos(), angle.sin()])
    return weights


def levels(data: Exact) -> dict[str, float]:
    """The loss at the critical point next to each of SHAPES; shapes with none next to them are left out.

    Found by least squares on the gradient, which stops at saddles as well as at minima; descent would leave a saddle.
    """
    from scipy.optimize import least_squares

    points, weights = data.points.double(), data.weights[:1].double()
    importance = torch.ones(1, N, dtype=torch.float64)

    def evaluate(theta: np.ndarray[Any, Any]) -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
        flat = torch.from_numpy(theta)
        nets = Networks(flat[: M * N].reshape(1, M, N), flat[M * N :].reshape(1, N))
        loss, slopes = gradients(nets, points, weights, importance)
        return loss, torch.cat([slope.flatten() for slope in slopes]).numpy()

    found: dict[str, float] = {}
    for name, corners in SHAPES.items():
        # A polygon can stand in two ways: corners of length 1 without bias, or longer ones held down by a bias.
        for length, bias in ((1.0, 0.0), (1.2, -0.45)):
            held = [bias] * sum(corners) + [DENSITY / 2] * (N - sum(corners))
            start = np.concatenate([length * polygon(corners).flatten().numpy(), held])
            at = least_squares(
                lambda theta: evaluate(theta)[1] / DENSITY, start, xtol=1e-12, gtol=1e-12, max_nfev=200
            ).x
            loss, slope = evaluate(at)
            near = float(np.linalg.norm(at - start)) < 1 and float(np.linalg.norm(slope)) < 1e-4 * DENSITY
            if near and all(abs(float(loss) / known - 1) > 1e-3 for known in found.values()):
                found[f"{name}, b < 0" if bias else name] = float(loss)
    return found


def jumps(*, seed: int, effort: float, on: Callable[[str], None]) -> Experiment:
    """Six features in two dimensions: 24 trainings from small weights, 300 looks at each."""
    steps = max(LOOKS, int(6000 * effort))
    every = steps // LOOKS
    data = Exact.of(torch.full((TRAININGS, N), DENSITY), at_most=2, nodes=(8, 8))
    importance = torch.ones(1, N)
    on(f"jumps: levels of {len(SHAPES)} polygons")
    level = levels(data)
    start = Networks.random(TRAININGS, N, M, seed=seed)
    losses: list[torch.Tensor] = []
    shares: list[torch.Tensor] = []

    def watch(step: int, loss: torch.Tensor, nets: Networks) -> None:
        if step % every == 0 and len(losses) < LOOKS:
            losses.append(loss.clone())
            shares.append(dimensionality(nets.encoder))

    on(f"jumps: {TRAININGS} trainings of {N} features in {M} dimensions")
    nets = train(
        replace(start, encoder=start.encoder * 0.3), data, importance, steps=steps, learning_rate=1e-3, watch=watch
    )
    loss, share = torch.stack(losses).double().numpy(), torch.stack(shares)
    final = nets.loss(data, importance)
    lowest = min(level.values())
    heights = np.log(np.array(list(level.values())))
    rested, shifted = _rests(loss, heights, math.log(lowest), seed)
    apart = (final.double().log()[:, None] - torch.tensor(heights)).abs().min(dim=1).values
    ended = float((apart < 0.01).double().mean())
    moved = share.diff(dim=0).abs()
    down = -np.diff(np.log(loss), axis=0)
    steepest = down.max(axis=0) / np.median(down, axis=0).clip(1e-9)
    checks = (
        Check("least final loss / lowest level", 1.0, number("", float(final.min()) / lowest, TRAININGS), 0.01),
        Check("trainings that end at a level (within 1 %)", 0.5, number("", ended, TRAININGS), 0, "at least"),
        Check("share of the way down spent at a level / at shifted levels", 1.0,
              number("", float(np.nanmean(rested) / np.nanmean(shifted)), TRAININGS), 0, "at least"),
        Check("steepest fall between looks / median fall, least of trainings", 10.0,
              number("", float(steepest.min()), TRAININGS), 0, "at least", "falls are steps, not a slope"),
    )  # fmt: skip
    good = np.isfinite(rested)
    evidence = Evidence(
        claim="On its way down the loss rests at the levels of ideal polygons",
        effect=bootstrap(rested[good], name="share of the way down spent at a level", over="trainings"),
        nulls=(
            Comparison(
                estimate=bootstrap(shifted[good], name="the same levels moved up or down together", over="trainings"),
                difference=bootstrap_difference(rested[good], shifted[good], paired=True, over="trainings"),
            ),
        ),
        seeds=(seed,),
        how=f"looks whose loss lies within {BAND:.1%} of a level, of those between the highest level and the lowest",
        settings={"n": N, "m": M, "density": DENSITY, "trainings": TRAININGS, "looks": LOOKS, "every": every},
    )
    example = int(np.nanargmax(rested)) if good.any() else 0
    return Experiment(
        name="jumps",
        claim="training goes down by steps, from one polygon's level to the next",
        setting=f"n = {N}, m = {M}, I = 1, density {DENSITY}, exact loss, {TRAININGS} trainings of {steps} steps",
        checks=checks,
        evidence=(evidence,),
        data={
            "step": (torch.arange(LOOKS) * every).tolist(),
            "loss": loss.round(6).T.tolist(),
            "levels": level,
            "example": example,
            "D_i": share[:, example].numpy().round(3).tolist(),
            "largest_move": moved.amax(dim=2)[:, example].numpy().round(3).tolist(),
        },
        draw=_draw,
        size=(11.0, 4.4),
    )


def _rests(
    loss: np.ndarray[Any, Any], heights: np.ndarray[Any, Any], lowest: float, seed: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """For each training the share of looks on its way down that lie at a level, and the same for levels all moved by
    one offset, mean of 200 offsets. `loss` [look, training]; `heights` are logs. NaN where no look is on the way."""
    offsets = np.random.default_rng(seed).uniform(-0.3, 0.3, size=200)
    rested, shifted = [], []
    for curve in np.log(loss).T:
        way = curve[(curve > lowest + 2 * BAND) & (curve < heights.max() + BAND)]
        if not len(way):
            rested.append(math.nan)
            shifted.append(math.nan)
            continue
        rested.append(float((abs(way[:, None] - heights).min(axis=1) < BAND).mean()))
        moved = heights + offsets[:, None]  # [offset, level]
        near = abs(way[None, :, None] - moved[:, None, :]).min(axis=2) < BAND
        shifted.append(float(near.mean()))
    return np.array(rested), np.array(shifted)


def _draw(figure: Any, data: Mapping[str, Any]) -> None:
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.5, 1]})
    step = np.array(data["step"])
    for i, curve in enumerate(data["loss"]):
        left.plot(step, curve, color="C0" if i == data["example"] else "0.75", lw=1.5 if i == data["example"] else 0.6)
    named: dict[float, list[str]] = {}
    for name, value in sorted(data["levels"].items(), key=lambda item: item[1]):
        left.axhline(value, color="k", ls="--", lw=0.5)
        at = next((known for known in named if value < known * 1.03), value)  # too near to be labelled apart
        named.setdefault(at, []).append(name)
    for value, names in named.items():
        left.annotate(" / ".join(names), (step[-1], value), fontsize=6, va="bottom", ha="right")
    low = min(data["levels"].values())
    left.set(yscale="log", ylim=(low * 0.97, 0.06), xlabel="step of training", ylabel="exact loss")
    left.set_title("dashed: critical points next to ideal polygons", fontsize=8)
    right.plot(step, np.array(data["D_i"]), lw=1)
    right.axhline(2 / 5, color="k", ls="--", lw=0.5)
    right.axhline(1 / 3, color="k", ls=":", lw=0.5)
    right.set(xlabel="step of training", ylabel="D_i (dashed 2/5, dotted 1/3)", ylim=(0, 1.05))
    right.set_title("the blue training's features", fontsize=8)
