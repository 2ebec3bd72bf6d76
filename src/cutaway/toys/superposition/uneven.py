"""Features that differ: one sparser than the rest, features that come together, features that exclude each other.

Source: Elhage et al. 2022, "Non-Uniform Superposition" (a pentagon that breaks into digons; correlated features lie
at right angles or, when there is no room, merge as principal components do; anticorrelated ones lie opposite).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from cutaway.core import Comparison, Evidence
from cutaway.evidence import proportion
from cutaway.toys.superposition.data import Data, Exact, Grouped, Sparse, logspace
from cutaway.toys.superposition.geometry import cosines, dimensionality
from cutaway.toys.superposition.networks import Networks, best_of, train
from cutaway.toys.superposition.report import Check, Experiment, number

STEPS_OF_DENSITY, RESTARTS = 15, 10
BASE = 0.05


def one_sparser(*, seed: int, effort: float, on: Callable[[str], None]) -> Experiment:
    """n = 5, m = 2: the density of one feature swept from a fortieth to four times that of the others.

    Theory: the exact loss minimised from the pentagon and from two digons with the fifth feature left out; the lower
    one says which is expected, and where they cross the geometry jumps.
    """
    ratio = logspace(1 / 40, 4.0, STEPS_OF_DENSITY)
    density = torch.full((STEPS_OF_DENSITY, 5), BASE)
    density[:, -1] *= ratio
    importance = torch.ones(1, 5)
    data = Exact.of(density, at_most=3, nodes=(10, 8, 5))
    steps = max(1, int(700 * effort))
    on("one-sparser: theory, from a pentagon and from two digons")
    starts = torch.stack([_pentagon(), _digons()]).repeat_interleave(STEPS_OF_DENSITY, dim=0)
    bias = torch.zeros(2 * STEPS_OF_DENSITY, 5)
    bias[STEPS_OF_DENSITY:, -1] = density[:, -1] / 2  # the feature left out is answered by its mean
    both = _repeated(data, 2)
    ideal = train(Networks(starts, bias), both, importance, steps=steps, learning_rate=1e-2)
    theory = ideal.loss(both, importance).reshape(2, -1)
    # Either descent may leave the shape it started from, so the geometry is read off the better one, not off its start.
    lower = ideal.at(theory.argmin(dim=0) * STEPS_OF_DENSITY + torch.arange(STEPS_OF_DENSITY))
    predicted = _dropped(lower.encoder).long()
    on(f"one-sparser: {STEPS_OF_DENSITY} densities, {RESTARTS} trainings each")
    every = Exact(data.points, data.weights.repeat_interleave(RESTARTS, dim=0), data.left_out)
    nets = train(
        Networks.random(STEPS_OF_DENSITY * RESTARTS, 5, 2, seed=seed),
        every,
        importance,
        steps=steps,
        learning_rate=3e-2,
    )
    kept, loss = best_of(nets, nets.loss(every, importance), RESTARTS)
    share = dimensionality(kept.encoder)
    found = _dropped(kept.encoder).long()
    spread = torch.randn(STEPS_OF_DENSITY, 2, 5, generator=torch.Generator().manual_seed(seed + 1))
    agree = int((found == predicted).sum())
    jump = share[:, -1].diff().abs().max()
    over = float((loss / theory.min(dim=0).values).max())
    scattered = int((_dropped(spread).long() == predicted).sum())
    commonest = max(int((predicted == k).sum()) for k in (0, 1))
    checks = (
        Check("densities in the geometry of least loss", 1.0,
              proportion(agree, STEPS_OF_DENSITY, name=""), 1 / STEPS_OF_DENSITY + 1e-6, "at least",
              "one step of the grid either side of the crossing"),
        Check("loss / theory's, highest", 1.0, number("", over, STEPS_OF_DENSITY), 0.02, "at most"),
        Check("largest jump of D_5 between neighbouring densities", 0.2, number("", float(jump), 14), 0, "at least"),
    )  # fmt: skip
    evidence = Evidence(
        claim="One feature made sparser breaks the pentagon into two digons, all at once",
        effect=proportion(agree, STEPS_OF_DENSITY, name="densities in the geometry of least loss"),
        nulls=(
            Comparison(estimate=proportion(scattered, STEPS_OF_DENSITY, name="random directions")),
            Comparison(estimate=proportion(commonest, STEPS_OF_DENSITY, name="always the same geometry")),
        ),
        seeds=(seed,),
        how="exact expectations (at most 3 features on); theory is the better of two descents from ideal geometries",
        settings={"n": 5, "m": 2, "density": BASE, "restarts": RESTARTS},
    )  # fmt: skip
    return Experiment(
        name="one-sparser",
        claim="a feature made sparser deforms the pentagon, then drops out of it at a stroke",
        setting=f"n = 5, m = 2, density {BASE}, the fifth's from {BASE / 40:g} to {BASE * 4:g}, best of {RESTARTS}",
        checks=checks,
        evidence=(evidence,),
        data={
            "ratio": ratio.tolist(),
            "D_i": share.tolist(),
            "theory": {"pentagon": theory[0].tolist(), "digons": theory[1].tolist()},
            "loss": loss.tolist(),
            "directions": kept.encoder.mT.numpy().round(3).tolist(),
        },
        draw=_draw_sparser,
        size=(12.0, 3.6),
    )


def correlated(*, seed: int, effort: float, on: Callable[[str], None]) -> Experiment:
    """Four features in two dimensions, in two pairs: correlated, anticorrelated, or independent (the null).

    Theory at group density p, zero bias. Anticorrelated partners share a line, opposite: nothing is ever lost, L = 0.
    Correlated partners at right angles, each opposite a stranger: L = 2 p^2 / 3. Merged, one dimension a pair along
    (1, 1)/sqrt 2 as principal components would have it: L = 2 p E (x_1 - x_2)^2 / 2 = p / 6. They cross at p = 1/4.
    """
    restarts, density = 8, torch.linspace(0.05, 0.8, STEPS_OF_DENSITY)
    importance = torch.ones(1, 4)
    group = density.repeat_interleave(restarts)[:, None]
    sources: dict[str, Data] = {
        "correlated": Grouped(group.expand(-1, 2), 2, "correlated"),
        "anticorrelated": Grouped(group.expand(-1, 2), 2, "anticorrelated"),
        "independent": Sparse(group.expand(-1, 4)),
    }
    partner: dict[str, torch.Tensor] = {}
    loss: dict[str, torch.Tensor] = {}
    directions: dict[str, list[list[list[float]]]] = {}
    for kind, data in sources.items():
        on(f"correlated: {kind} pairs, {STEPS_OF_DENSITY} densities, {restarts} trainings each")
        start = Networks.random(len(group), 4, 2, seed=seed)
        nets = train(start, data, importance, steps=max(1, int(1500 * effort)), seed=seed + 1)
        kept, loss[kind] = best_of(nets, nets.loss(data, importance, samples=32_768), restarts)
        partner[kind] = cosines(kept.encoder)[:, [0, 2], [1, 3]]  # [density, pair]
        directions[kind] = kept.encoder.mT.numpy().round(3).tolist()
    theory = torch.stack([2 * density**2 / 3, density / 6])
    merged = theory.argmin(dim=0)
    clear = theory.max(dim=0).values > 1.15 * theory.min(dim=0).values
    n = int(clear.sum())

    def agreeing(kind: str) -> int:
        truth = torch.where(merged == 1, 1.0, 0.0)
        return int(((partner[kind] - truth[:, None]).abs() < 0.25).all(dim=1)[clear].sum())

    dense_cells = int(((merged == 1) & clear).sum())

    def merging(kind: str) -> int:
        return int((partner[kind] > 0.75).all(dim=1)[(merged == 1) & clear].sum())

    share = proportion(agreeing("correlated"), n, name="densities in the geometry of least loss")
    both = partner["correlated"]
    sparse, dense = (both[(merged == k) & clear] for k in (0, 1))
    over = float((loss["correlated"] / theory.min(dim=0).values).max())
    checks = (
        Check("correlated, below density 1/4: mean cosine", 0.0, number("", float(sparse.mean()), len(sparse)), 0.1),
        Check("correlated, above density 1/4: mean cosine", 1.0, number("", float(dense.mean()), len(dense)), 0.1),
        Check("correlated: densities in theory's geometry (of those it decides)", 0.9, share, 0, "at least"),
        Check("correlated: loss / theory's, highest", 1.0, number("", over, STEPS_OF_DENSITY), 0.05, "at most",
              "theory has zero bias: an upper bound; the loss is of 32,768 samples"),
        Check("anticorrelated: mean cosine", -1.0,
              number("", float(partner["anticorrelated"].mean()), STEPS_OF_DENSITY), 0.05),
    )  # fmt: skip
    opposite = {kind: int((each < -0.75).all(dim=1).sum()) for kind, each in partner.items()}
    settings = {"n": 4, "m": 2, "densities": STEPS_OF_DENSITY, "restarts": restarts}
    how = "cosine of partners in the best of the trainings of each density"
    evidence = (
        Evidence(
            claim="Correlated partners merge where they are dense (density over 1/4)",
            effect=proportion(merging("correlated"), dense_cells, name="densities where both pairs are merged"),
            nulls=(
                Comparison(
                    estimate=proportion(
                        merging("independent"), dense_cells, name="the same places, independent features"
                    )
                ),
            ),
            seeds=(seed,),
            how=how,
            settings=settings,
        ),
        Evidence(
            claim="Anticorrelated partners lie opposite",
            effect=proportion(
                opposite["anticorrelated"], STEPS_OF_DENSITY, name="densities where both pairs are opposite"
            ),
            nulls=(
                Comparison(
                    estimate=proportion(
                        opposite["independent"], STEPS_OF_DENSITY, name="the same places, independent features"
                    )
                ),
            ),
            seeds=(seed,),
            how=how,
            settings=settings,
        ),
    )
    return Experiment(
        name="correlated",
        claim="correlated features lie at right angles or merge, anticorrelated ones lie opposite",
        setting=f"n = 4, m = 2, two pairs, {STEPS_OF_DENSITY} densities from .05 to .8, best of {restarts}",
        checks=checks,
        evidence=evidence,
        data={
            "density": density.tolist(),
            "partner": {kind: each.mean(dim=1).tolist() for kind, each in partner.items()},
            "loss": loss["correlated"].tolist(),
            "theory": {"right angles": theory[0].tolist(), "merged": theory[1].tolist()},
            "directions": directions,
        },
        draw=_draw_correlated,
        size=(13.0, 3.2),
    )


def _pentagon() -> torch.Tensor:
    angle = 2 * torch.pi * torch.arange(5) / 5
    return torch.stack([angle.cos(), angle.sin()])


def _digons() -> torch.Tensor:
    return torch.tensor([[1.0, -1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0, 0.0]])


def _dropped(encoder: torch.Tensor) -> torch.Tensor:
    """Whether the last feature is out of the polygon, [instance]: no direction, or hardly a share in one."""
    gone: torch.Tensor = encoder[:, :, -1].norm(dim=1) < 0.5
    return gone | (dimensionality(encoder)[:, -1] < 0.2)


def _repeated(data: Exact, times: int) -> Exact:
    return Exact(data.points, data.weights.repeat(times, 1), data.left_out.repeat(times))


def _draw_sparser(figure: Any, data: Mapping[str, Any]) -> None:
    axes = figure.subplots(1, 5, gridspec_kw={"width_ratios": [1.6, 1.6, 1, 1, 1]})
    ratio = np.array(data["ratio"])
    share = np.array(data["D_i"])
    axes[0].plot(ratio, share[:, :4], ".-", color="0.6", ms=4, lw=0.8)
    axes[0].plot(ratio, share[:, 4], "o-C3", ms=4, label="the fifth")
    axes[0].axhline(0.4, color="k", ls="--", lw=0.8)
    axes[0].axhline(0.5, color="k", ls=":", lw=0.8)
    axes[0].set(xscale="log", xlabel="density of the fifth / the others'", ylabel="D_i (dashed 2/5, dotted 1/2)")
    axes[0].legend(fontsize=7)
    best = np.minimum(data["theory"]["pentagon"], data["theory"]["digons"])
    for name, style in (("pentagon", "C0--"), ("digons", "C1--")):
        axes[1].plot(ratio, np.array(data["theory"][name]) / best, style, label=f"theory: {name}", lw=1)
    axes[1].plot(ratio, np.array(data["loss"]) / best, "ok", ms=3, label="trained")
    axes[1].set(xscale="log", xlabel="density of the fifth / the others'", ylabel="loss / least", ylim=(0.95, 1.6))
    axes[1].legend(fontsize=6)
    for ax, i in zip(axes[2:], (0, int(np.argmin(abs(ratio - 1))), len(ratio) - 1)):
        for k, (x, y) in enumerate(data["directions"][i]):
            ax.plot([0, x], [0, y], "o-", color="C3" if k == 4 else "0.5", ms=4)
        ax.set(title=f"ratio {ratio[i]:.2g}", aspect="equal", xlim=(-1.4, 1.4), ylim=(-1.4, 1.4))
        ax.title.set_fontsize(8)


def _draw_correlated(figure: Any, data: Mapping[str, Any]) -> None:
    axes = figure.subplots(1, 5, gridspec_kw={"width_ratios": [1.5, 1.5, 1, 1, 1]})
    density = np.array(data["density"])
    for kind, style in (("correlated", "o-C0"), ("anticorrelated", "s-C3"), ("independent", "^-C7")):
        axes[0].plot(density, data["partner"][kind], style, ms=3, lw=1, label=kind)
    axes[0].axvline(0.25, color="k", ls="--", lw=0.8)
    axes[0].set(xscale="log", xlabel="density of a pair (dashed: 1/4)", ylabel="cosine of partners", ylim=(-1.1, 1.1))
    axes[0].legend(fontsize=6)
    for name, style in (("right angles", "C0--"), ("merged", "C1--")):
        axes[1].plot(density, np.array(data["theory"][name]) / density, style, lw=1, label=f"theory: {name}")
    axes[1].plot(density, np.array(data["loss"]) / density, "ok", ms=3, label="trained, correlated")
    axes[1].set(xscale="log", yscale="log", xlabel="density of a pair", ylabel="loss / density")
    axes[1].legend(fontsize=6)
    last = len(density) - 3
    for ax, (kind, i) in zip(axes[2:], (("correlated", 2), ("correlated", last), ("anticorrelated", 2))):
        for k, (x, y) in enumerate(data["directions"][kind][i]):
            ax.plot([0, x], [0, y], "o-", color="C0" if k < 2 else "C1", ms=4, alpha=0.7)
        ax.set(title=f"{kind}, density {density[i]:.2g}", aspect="equal", xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
        ax.title.set_fontsize(7)
