"""More features than dimensions: the ReLU network beside the linear one, from dense features to sparse ones.

Source: Elhage et al. 2022, "Demonstrating Superposition" (n = 5, m = 2; n = 20, m = 5, I = .7^i; n = 80, m = 20,
I = .9^i). Theory: the best linear network, W^T W x + b, is the projection on the m most important features (Eckart and
Young), so its loss is sum over i > m of I_i Var x_i, whatever the density.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from cutaway.core import Comparison, Estimate, Evidence
from cutaway.evidence import bootstrap
from cutaway.toys.superposition.data import MOMENT_1, Sparse, logspace, variance
from cutaway.toys.superposition.drawing import gram, norms
from cutaway.toys.superposition.geometry import dimensionality, interference, neighbour_angles, represented
from cutaway.toys.superposition.networks import Networks, best_of, train
from cutaway.toys.superposition.report import Check, Experiment, number

RESTARTS = 3
BATCH = 512
SAMPLES = 32_768


def packing(
    name: str, n: int, m: int, decay: float, *, seed: int, effort: float, on: Callable[[str], None]
) -> Experiment:
    """Trains both kinds of network at seven densities from 1 to 1/100, `RESTARTS` times each."""
    densities = logspace(1.0, 0.01, 7)
    density = densities.repeat_interleave(RESTARTS)[:, None].expand(-1, n)
    importance = (decay ** torch.arange(n, dtype=torch.float32))[None]
    data = Sparse(density)
    best: dict[str, tuple[Networks, torch.Tensor]] = {}
    every: dict[str, Networks] = {}
    for kind in ("ReLU", "linear"):
        on(f"{name}: {kind} networks, {n} features in {m} dimensions")
        start = Networks.random(len(density), n, m, seed=seed, relu_output=kind == "ReLU")
        every[kind] = train(start, data, importance, steps=max(1, int(2500 * effort)), batch=BATCH, seed=seed + 1)
        loss = every[kind].loss(data, importance, samples=SAMPLES)
        best[kind] = best_of(every[kind], loss, RESTARTS)
    relu, relu_loss = best["ReLU"]
    linear = best["linear"][0]
    # In closed form: a sample would blur what is a law here.
    linear_loss = linear_network_loss(linear, densities[:, None].expand(-1, n), importance)
    theory = variance(densities) * importance[0, m:].sum()
    counts = {kind: represented(nets.encoder).sum(dim=1) for kind, (nets, _) in best.items()}
    checks = (
        Check("linear: loss / theory's, worst of 7 densities", 1.0, _furthest(linear_loss / theory, 1.0, 7), 0.02),
        Check(
            "linear: features represented, most of 7 densities",
            m,
            number("", int(counts["linear"].max()), 7),
            0,
            "at most",
        ),
        Check("ReLU, dense: features represented", m, number("", int(counts["ReLU"][0]), 1), 1),
        Check(
            "ReLU, density 1/100: features represented", m + 1, number("", int(counts["ReLU"][-1]), 1), 0, "at least"
        ),
        Check(
            "ReLU, density 1/100: loss / linear's",
            1.0,
            number("", float(relu_loss[-1] / linear_loss[-1]), 1),
            0,
            "at most",
        ),
    )
    last = {kind: represented(nets.encoder[-RESTARTS:]).sum(dim=1).double().numpy() for kind, nets in every.items()}
    evidence = Evidence(
        claim=f"At density 1/100 a ReLU network holds more than {m} features in {m} dimensions",
        effect=bootstrap(last["ReLU"], name="features represented, ReLU", over="trainings", method="percentile"),
        nulls=(
            Comparison(
                estimate=bootstrap(last["linear"], name="linear network", over="trainings", method="percentile")
            ),
        ),
        seeds=(seed,),
        how="a feature is represented where |W_i|^2 > 1/2; the same data and steps for both kinds",
        settings={"n": n, "m": m, "importance": f"{decay}^i", "density": 0.01, "trainings": RESTARTS},
    )
    shown = [0, 3, 6]
    return Experiment(
        name=name,
        claim="sparse features are stored in superposition by a ReLU network, never by a linear one",
        setting=f"n = {n}, m = {m}, I_i = {decay}^i, 7 densities, best of {RESTARTS} trainings each",
        checks=checks,
        evidence=(evidence,),
        data={
            "density": densities.tolist(),
            "loss": {"ReLU": relu_loss.tolist(), "linear": linear_loss.tolist(), "linear, theory": theory.tolist()},
            "represented": {kind: value.tolist() for kind, value in counts.items()},
            "m": m,
            "shown": [round(float(densities[i]), 3) for i in shown],
            "gram": {
                kind: [(nets.encoder[i].T @ nets.encoder[i]).numpy().round(3).tolist() for i in shown]
                for kind, (nets, _) in best.items()
            },
            "norm": [relu.encoder[i].norm(dim=0).numpy().round(3).tolist() for i in shown],
            "interference": [interference(relu.encoder)[i].numpy().round(3).tolist() for i in shown],
        },
        draw=_draw,
        size=(11.0, 5.6),
    )


def pentagon(*, seed: int, effort: float, on: Callable[[str], None]) -> Experiment:
    """Five equal features in two dimensions, density .05: all of several trainings end in the regular pentagon."""
    n, m, trainings = 5, 2, 16
    density = torch.full((trainings, n), 0.05)
    importance = torch.ones(1, n)
    data = Sparse(density)
    found: dict[str, Networks] = {}
    for kind in ("ReLU", "linear"):
        on(f"pentagon: {trainings} {kind} networks")
        start = Networks.random(trainings, n, m, seed=seed, relu_output=kind == "ReLU")
        found[kind] = train(start, data, importance, steps=max(1, int(4000 * effort)), batch=2048, seed=seed + 1)
    relu, linear = found["ReLU"], found["linear"]
    loss = relu.loss(data, importance, samples=SAMPLES)
    best = int(loss.argmin())
    angles = {kind: neighbour_angles(nets.encoder) for kind, nets in found.items()}
    share = dimensionality(relu.encoder)
    worst = {kind: (each - 72).abs().max(dim=1).values for kind, each in angles.items()}
    regular = {kind: (each < 2).double().numpy() for kind, each in worst.items()}
    checks = (
        Check("best training: angle furthest from 72°", 72.0, _furthest(angles["ReLU"][best], 72.0, 5, "°"), 1.0),
        Check("best training: D_i furthest from 2/5", 0.4, _furthest(share[best], 0.4, 5), 0.01),
        Check(
            "trainings that are regular (within 2°)", 0.5,
            bootstrap(regular["ReLU"], name="", over="trainings", method="percentile"), 0, "at least",
        ),
    )  # fmt: skip
    evidence = Evidence(
        claim="Five equal sparse features in two dimensions form a regular pentagon",
        effect=bootstrap(
            worst["ReLU"].double().numpy(), name="furthest angle from 72°, ReLU", unit="°", over="trainings"
        ),
        better="lower",
        nulls=(
            Comparison(
                estimate=bootstrap(worst["linear"].double().numpy(), name="linear network", unit="°", over="trainings")
            ),
            Comparison(estimate=_random_directions(trainings, seed)),
        ),
        seeds=(seed,),
        how="angles between neighbours round the circle, every training counted",
        settings={"n": n, "m": m, "density": 0.05, "trainings": trainings},
    )
    return Experiment(
        name="pentagon",
        claim="five equal sparse features in two dimensions lie 72° apart, 2/5 of a dimension each",
        setting=f"n = 5, m = 2, I = 1, density .05, {trainings} trainings",
        checks=checks,
        evidence=(evidence,),
        data={
            "directions": {
                "ReLU, best training": relu.encoder[best].T.numpy().round(4).tolist(),
                "linear (null)": linear.encoder[0].T.numpy().round(4).tolist(),
            },
            "angles": angles["ReLU"].numpy().round(3).tolist(),
            "D_i": share.numpy().round(4).tolist(),
        },
        draw=_draw_pentagon,
        size=(10.0, 3.6),
    )


five_in_two = partial(packing, "5-in-2", 5, 2, 0.9)
twenty_in_five = partial(packing, "20-in-5", 20, 5, 0.7)
eighty_in_twenty = partial(packing, "80-in-20", 80, 20, 0.9)


def linear_network_loss(nets: Networks, density: torch.Tensor, importance: torch.Tensor) -> torch.Tensor:
    """L of linear networks, [instance]: with A = W^T W - 1, sum_i I_i ((A mu + b)_i^2 + sum_j A_ij^2 Var x_j)."""
    a = (nets.encoder.mT @ nets.encoder - torch.eye(nets.encoder.shape[2])).double()
    mean = (a @ (density * MOMENT_1).double()[..., None])[..., 0] + nets.bias.double()
    each = mean.square() + (a.square() @ variance(density.double())[..., None])[..., 0]
    return (each * importance.double()).sum(dim=1)


def _furthest(values: torch.Tensor, truth: float, n: int, unit: str = "") -> Estimate:
    """The one of the values that is furthest from the truth."""
    return number("", float(values[(values - truth).abs().argmax()]), n, unit=unit)


def _random_directions(trainings: int, seed: int) -> Estimate:
    """How far from 72° five random directions are."""
    drawn = torch.randn(trainings, 2, 5, generator=torch.Generator().manual_seed(seed + 2))
    worst = (neighbour_angles(drawn) - 72).abs().max(dim=1).values
    return bootstrap(worst.double().numpy(), name="random directions", unit="°", over="draws")


def _draw(figure: Any, data: Mapping[str, Any]) -> None:
    shown = data["shown"]
    axes = figure.subplots(2, len(shown) + 2)
    for row, kind in enumerate(("ReLU", "linear")):
        for column, density in enumerate(shown):
            gram(axes[row][column], data["gram"][kind][column], f"{kind}, density {density:g}")
    for column, density in ((0, shown[0]), (1, shown[-1])):
        ax = axes[0][len(shown) + column]
        norms(ax, data["norm"][-column], data["interference"][-column], f"ReLU, density {density:g}")
    loss, count = axes[1][-2], axes[1][-1]
    x = 1 / np.array(data["density"])
    for kind, style in (("ReLU", "o-C0"), ("linear", "s-C7"), ("linear, theory", "k--")):
        loss.plot(x, np.array(data["loss"][kind]) * x, style, label=kind, ms=4, lw=1)
    loss.set(xscale="log", xlabel="1 / density", ylabel="loss / density")
    loss.legend(fontsize=6)
    for kind, style in (("ReLU", "o-C0"), ("linear", "s-C7")):
        count.plot(x, data["represented"][kind], style, label=kind, ms=4, lw=1)
    count.axhline(data["m"], color="k", ls="--", lw=1, label="m")
    count.set(xscale="log", xlabel="1 / density", ylabel="features represented")
    count.legend(fontsize=6)


def _draw_pentagon(figure: Any, data: Mapping[str, Any]) -> None:
    left, middle, right = figure.subplots(1, 3)
    for ax, (label, points) in zip((left, middle), data["directions"].items()):
        circle = np.linspace(0, 2 * np.pi, 200)
        ax.plot(np.cos(circle), np.sin(circle), color="0.85", lw=1)
        for x, y in points:
            ax.plot([0, x], [0, y], "o-C0", ms=4, lw=1)
        ax.set(title=label, aspect="equal", xlim=(-1.4, 1.4), ylim=(-1.4, 1.4))
        ax.title.set_fontsize(8)
    angles = np.array(data["angles"])
    for i, row in enumerate(angles):
        right.plot(np.full(5, i), row, ".C0", ms=5)
    right.axhline(72, color="k", ls="--", lw=1, label="theory: 72°")
    right.set(xlabel="training", ylabel="angle between neighbours (°)", ylim=(0, max(150, angles.max() * 1.05)))
    right.legend(fontsize=7)
