"""Phase diagrams: is an extra feature ignored, given a dimension, or stored against another one?

All expectations are exact (`Exact`), so a trained loss can be held against theory's to a thousandth.
Theory, for n = 2, m = 1 with importances 1 and r, density p, zero bias (Elhage et al. 2022, "Superposition as a Phase
Change"; the integrals worked out here):
    the extra feature ignored      W = (1, 0)    L = r (p/3 - p^2/4)
    the extra feature dedicated    W = (0, 1)    L = p/3 - p^2/4
    antipodal                      W = (1, -1)   L = (1 + r) p^2 / 6     (both on: the smaller one is lost)
so the two first cross at r = 1, and ignored meets antipodal at p = 4 r / (2 + 5 r).
For n = 3, m = 2 (importances 1, 1, r) the same with a second dedicated feature beside: ignored r (p/3 - p^2/4),
dedicated p^2 / 3 (the other two antipodal) or p/3 - p^2/4 (one of them
ignored), whichever is less, antipodal (1 + r) p^2 / 6. A free bias only lowers each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from cutaway.core import Comparison, Evidence
from cutaway.evidence import proportion
from cutaway.toys.superposition.data import Exact, logspace
from cutaway.toys.superposition.geometry import cosines
from cutaway.toys.superposition.networks import Networks, best_of, train
from cutaway.toys.superposition.report import Check, Experiment, number

PHASES = ("ignored", "dedicated", "antipodal")
GRID, RESTARTS = 12, 12  # two features start on the same side every second time, and there one of them dies
CLEAR = 1.10  # theory decides a cell where its second best phase costs at least a tenth more


def theory(n: int, density: torch.Tensor, extra: torch.Tensor) -> torch.Tensor:
    """Losses [cells, 3] of the phases for densities and extra importances [cells], zero bias; n is 2 or 3."""
    p, r = density.double(), extra.double()
    lost = p / 3 - p**2 / 4
    pair = p**2 / 6
    dedicated = lost if n == 2 else torch.minimum(2 * pair, lost)
    return torch.stack([r * lost, dedicated, (1 + r) * pair], dim=1)


def phase(encoder: torch.Tensor) -> torch.Tensor:
    """The phase of the last feature of each network, [instance] into PHASES: it is there where |W_i|^2 > 1/4, and
    antipodal where its cosine with another one lies below -1/2."""
    there = encoder[:, :, -1].square().sum(dim=1) > 0.25
    others = cosines(encoder)[:, -1, :-1]
    weight = encoder[:, :, :-1].norm(dim=1) > 0.5
    against = ((others < -0.5) & weight).any(dim=1)
    return torch.where(there, torch.where(against, 2, 1), 0)


def diagram(n: int, m: int, *, seed: int, effort: float, on: Callable[[str], None]) -> Experiment:
    """One network a cell and restart, density by extra importance, all trained at once on exact expectations."""
    name = f"phases-{n}-in-{m}"
    density, extra = logspace(1.0, 0.01, GRID), logspace(0.1, 10.0, GRID)
    p, r = (each.reshape(-1) for each in torch.meshgrid(density, extra, indexing="ij"))
    importance = torch.ones(len(p), n)
    importance[:, -1] = r
    every = importance.repeat_interleave(RESTARTS, dim=0)
    data = Exact.of(p.repeat_interleave(RESTARTS)[:, None].expand(-1, n), nodes=(12, 8, 5))
    finer = Exact.of(p[:, None].expand(-1, n), nodes=(48, 32, 12))
    trained: dict[str, Networks] = {}
    losses: dict[str, torch.Tensor] = {}
    for kind in ("ReLU", "linear"):
        on(f"{name}: {kind}, {len(p)} cells, {RESTARTS} trainings each")
        start = Networks.random(len(every), n, m, seed=seed, relu_output=kind == "ReLU")
        nets = train(start, data, every, steps=max(1, int(600 * effort)), learning_rate=3e-2, seed=seed)
        kept, _ = best_of(nets, nets.loss(data, every), RESTARTS)
        trained[kind] = kept
        losses[kind] = kept.loss(finer, importance)
    expected = theory(n, p, r)
    ordered = expected.sort(dim=1).values
    clear = ordered[:, 1] >= CLEAR * ordered[:, 0]
    predicted = expected.argmin(dim=1)
    found = {kind: phase(nets.encoder) for kind, nets in trained.items()}
    agree = {kind: int((each == predicted)[clear].sum()) for kind, each in found.items()}
    n_clear = int(clear.sum())
    share = proportion(agree["ReLU"], n_clear, name="cells in theory's phase, ReLU")
    over = (losses["ReLU"] / ordered[:, 0]).max()
    checks = (
        Check(f"cells in theory's phase (of those it decides by {CLEAR - 1:.0%})", 0.9, share, 0, "at least"),
        Check("loss / theory's, highest of all cells", 1.0, number("", float(over), len(p)), 0.02, "at most",
              "theory has zero bias: an upper bound"),
        Check("phases seen", 3, number("", len(set(found["ReLU"].tolist())), len(p))),
    )  # fmt: skip
    evidence = Evidence(
        claim="Training falls into the phase that costs least",
        effect=share,
        nulls=(
            Comparison(estimate=proportion(agree["linear"], n_clear, name="linear network")),
            Comparison(estimate=_commonest(predicted[clear], n_clear)),
        ),
        seeds=(seed,),
        how="phase by |W_i|^2 > 1/4 and a cosine below -1/2; cells where theory's two best differ by less are left out",
        settings={"n": n, "m": m, "cells": len(p), "decided": n_clear, "restarts": RESTARTS},
    )

    def square(values: torch.Tensor) -> list[list[float]]:
        return [[float(v) for v in row] for row in values.reshape(GRID, GRID)]

    return Experiment(
        name=name,
        claim="an extra feature is ignored, dedicated or antipodal, with sharp borders between",
        setting=f"n = {n}, m = {m}, {GRID} densities by {GRID} importances, exact expectations, best of {RESTARTS}",
        checks=checks,
        evidence=(evidence,),
        data={
            "density": density.tolist(),
            "importance": extra.tolist(),
            "theory": square(predicted),
            "ReLU": square(found["ReLU"]),
            "linear": square(found["linear"]),
            "loss_over_theory": square(losses["ReLU"] / ordered[:, 0]),
        },
        draw=_draw,
        size=(12.0, 3.4),
    )


two_in_one = partial(diagram, 2, 1)
three_in_two = partial(diagram, 3, 2)


def _commonest(predicted: torch.Tensor, n: int) -> Any:
    """The share that naming theory's commonest phase everywhere would get."""
    counts = torch.bincount(predicted, minlength=3)
    return proportion(int(counts.max()), n, name=f"always {PHASES[int(counts.argmax())]}")


def _draw(figure: Any, data: Mapping[str, Any]) -> None:
    from matplotlib.colors import ListedColormap

    axes = figure.subplots(1, 4)
    edges = [np.log10(1 / np.array(data["density"])), np.log10(np.array(data["importance"]))]
    extent = (edges[1][0], edges[1][-1], edges[0][0], edges[0][-1])
    colours = ListedColormap(["#e8e8e8", "#4477aa", "#ee6677"])
    for ax, key in zip(axes, ("theory", "ReLU", "linear")):
        image = ax.imshow(data[key], origin="lower", extent=extent, aspect="auto", cmap=colours, vmin=-0.5, vmax=2.5)
        ax.set(
            title={"ReLU": "trained", "linear": "linear (null)"}.get(key, key), xlabel="log10 importance of the extra"
        )
    axes[0].set(ylabel="log10 1 / density")
    bar = figure.colorbar(image, ax=axes[:3], ticks=[0, 1, 2], shrink=0.8)
    bar.ax.set_yticklabels(PHASES, fontsize=7)
    image = axes[3].imshow(
        data["loss_over_theory"], origin="lower", extent=extent, aspect="auto", cmap="viridis", vmin=0, vmax=1.02
    )
    axes[3].set(title="loss / theory's bound", xlabel="log10 importance of the extra")
    figure.colorbar(image, ax=axes[3], shrink=0.8)
    for ax in axes:
        ax.title.set_fontsize(8)
        ax.xaxis.label.set_fontsize(7)
