"""Networks with a privileged basis, and networks that compute: y = |x| in fewer neurons than it would take.

Sources: Elhage et al. 2022, "Superposition in a Privileged Basis" and "Computation in Superposition" (n = 100, m = 40,
I = .8^i; asymmetric superposition with inhibition).
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
from cutaway.toys.superposition.data import Sparse, logspace, variance
from cutaway.toys.superposition.networks import Networks, best_of, train
from cutaway.toys.superposition.report import Check, Experiment, number


def concentration(encoder: torch.Tensor) -> torch.Tensor:
    """max_i W_ji^2 / sum_i W_ji^2 of each neuron, [instance, m]: 1 for a neuron that serves one feature."""
    square = encoder.square()
    return square.max(dim=2).values / square.sum(dim=2).clamp_min(1e-12)


def privileged(*, seed: int, effort: float, on: Callable[[str], None]) -> Experiment:
    """n = 10, m = 5, I = .75^i: with a ReLU on the hidden layer features line up with neurons; without, they need not.

    The densest is 1/2: where every feature is always on, hidden sums stay positive, the ReLU cuts nothing off and
    privileges nothing. Null: the linear hidden layer, and the trained weights turned by a random rotation.
    """
    n, m, trainings = 10, 5, 6
    density = logspace(0.5, 0.01, 7)
    data = Sparse(density.repeat_interleave(trainings)[:, None].expand(-1, n))
    importance = (0.75 ** torch.arange(n, dtype=torch.float32))[None]
    every: dict[str, Networks] = {}
    for kind in ("ReLU", "linear"):
        on(f"privileged: {kind} hidden layer, {len(density)} densities, {trainings} trainings each")
        start = Networks.random(len(density) * trainings, n, m, seed=seed, relu_hidden=kind == "ReLU")
        every[kind] = train(start, data, importance, steps=max(1, int(2500 * effort)), seed=seed + 1)
    rotation = torch.linalg.qr(torch.randn(m, m, generator=torch.Generator().manual_seed(seed + 2))).Q
    share = {kind: concentration(nets.encoder).reshape(len(density), trainings, m) for kind, nets in every.items()}
    share["turned"] = concentration(rotation @ every["ReLU"].encoder).reshape(len(density), trainings, m)
    lost = {
        kind: nets.loss(data, importance).reshape(len(density), trainings).mean(dim=1) for kind, nets in every.items()
    }
    single = {kind: (each > 0.9).double().mean(dim=(1, 2)) for kind, each in share.items()}
    dense = {kind: each[0].mean(dim=1).double().numpy() for kind, each in share.items()}
    checks = (
        Check("ReLU, density 1/2: share of neurons that serve one feature", 0.9,
              number("", float(single["ReLU"][0]), trainings * m), 0, "at least"),
        Check("ReLU, density 1/100: the same", 0.5,
              number("", float(single["ReLU"][-1]), trainings * m), 0, "at most", "sparse features share neurons"),
    )  # fmt: skip
    effect = bootstrap(dense["ReLU"], name="concentration of a neuron, ReLU hidden layer", over="trainings")
    evidence = Evidence(
        claim="A ReLU on the hidden layer makes features line up with neurons",
        effect=effect,
        nulls=tuple(
            Comparison(
                estimate=bootstrap(dense[kind], name=name, over="trainings"),
                difference=bootstrap_difference(dense["ReLU"], dense[kind], paired=False, over="trainings"),
            )
            for kind, name in (("linear", "linear hidden layer"), ("turned", "the same weights, rotated"))
        ),
        seeds=(seed,),
        how="max_i W_ji^2 / sum_i W_ji^2, mean over neurons, density 1/2, every training counted",
        settings={"n": n, "m": m, "importance": "0.75^i", "trainings": trainings},
    )
    return Experiment(
        name="privileged",
        claim="with a nonlinear hidden layer neurons go from serving one feature to serving many",
        setting=f"n = {n}, m = {m}, I_i = 0.75^i, {len(density)} densities, {trainings} trainings each",
        checks=checks,
        evidence=(evidence,),
        data={
            "density": density.tolist(),
            "single": {kind: each.tolist() for kind, each in single.items()},
            "loss": {kind: each.tolist() for kind, each in lost.items()},
            "weights": {
                f"density {density[i]:.2g}": every["ReLU"].encoder[i * trainings].numpy().round(3).tolist()
                for i in (0, 3, 6)
            },
        },
        draw=_draw_privileged,
        size=(12.0, 3.2),
    )


def absolute(*, seed: int, effort: float, on: Callable[[str], None]) -> Experiment:
    """y = |x| with n = 100, m = 40, I = .8^i, x on [-1, 1]: |x| = ReLU(x) + ReLU(-x), so two neurons a feature.

    Theory: without superposition m / 2 features are computed and the rest answered by their mean,
    L = v sum over i > m/2 of I_i, with v = p/3 - p^2/4 the variance of |x|; a network that is linear up to its output
    can do nothing but the mean, L = v sum_i I_i, since |x| and x are uncorrelated.
    """
    n, m, restarts = 100, 40, 2
    density = logspace(1.0, 0.01, 6)
    data = Sparse(density.repeat_interleave(restarts)[:, None].expand(-1, n), signed=True)
    importance = (0.8 ** torch.arange(n, dtype=torch.float32))[None]
    best: dict[str, Networks] = {}
    loss: dict[str, torch.Tensor] = {}
    for kind in ("ReLU", "linear"):
        on(f"absolute: {kind} neurons, {len(density)} densities")
        nets = _compute_absolute(kind == "ReLU", len(density) * restarts, data, importance, effort, seed)
        best[kind], loss[kind] = best_of(nets, nets.loss(data, importance, samples=16_384), restarts)
    v = variance(density)
    bound, mean_only = v * importance[0, m // 2 :].sum(), v * importance.sum()
    kept = Sparse(density[:, None].expand(-1, n), signed=True)
    x, _ = kept.draw(16_384, torch.Generator().manual_seed(seed + 3))
    unexplained = {kind: nets.errors(x).square().mean(dim=1) / v[:, None] for kind, nets in best.items()}
    computed = {kind: (each < 0.5).sum(dim=1) for kind, each in unexplained.items()}
    stray = false_responses(best["ReLU"], importance)
    cut = {name: stray[name] / stray["nothing"] for name in ("negative", "positive")}
    sparse = (density < 0.2).numpy()
    asymmetry = asymmetries(best["ReLU"])
    middle = len(density) // 2
    checks = (
        Check("linear: loss / the mean's, lowest", 1.0, number("", float((loss["linear"] / mean_only).min()), 6), 0.06,
              why="the loss of 16,384 samples"),
        Check("ReLU, dense: features computed", m / 2, number("", int(computed["ReLU"][0]), 1), 0, "at most",
              "two neurons each; training leaves some neurons without a partner"),
        Check("ReLU, density 1/100: features computed", m / 2 + 1,
              number("", int(computed["ReLU"][-1]), 1), 0, "at least"),
        Check("ReLU, density 1/100: loss / theory's without superposition", 0.8,
              number("", float(loss["ReLU"][-1] / bound[-1]), 1), 0, "at most"),
        Check("neurons shared unevenly by two features (over 2 to 1), sparsest", 0.25,
              number("", float((asymmetry[-1] > math.log(2)).mean()) if len(asymmetry[-1]) else math.nan,
                     len(asymmetry[-1])), 0, "at least", "asymmetric superposition"),
    )  # fmt: skip
    inhibition = Evidence(
        claim="Negative output weights hold false responses down (inhibition)",
        effect=bootstrap(cut["negative"][sparse], name="false responses without them / with", over="networks"),
        nulls=(
            Comparison(
                estimate=bootstrap(
                    cut["positive"][sparse], name="positive off-target weights cut instead", over="networks"
                )
            ),
        ),
        seeds=(seed,),
        how="one feature on at a time; weights onto outputs that do not drive the neuron are cut; densities below 1/5",
        settings={"n": n, "m": m, "densities": int(sparse.sum())},
    )
    each = {kind: (value[-1] < 0.5).double().numpy() for kind, value in unexplained.items()}
    evidence = Evidence(
        claim="At density 1/100 more features are computed than there are pairs of neurons",
        effect=bootstrap(
            each["ReLU"] * n, name="features computed, ReLU neurons", over="features", method="percentile"
        ),
        nulls=(
            Comparison(
                estimate=bootstrap(each["linear"] * n, name="linear neurons", over="features", method="percentile")
            ),
        ),
        baselines=(Comparison(estimate=number("two neurons a feature", m / 2, n)),),
        seeds=(seed,),
        how="a feature is computed where at least half of the variance of |x_i| is explained",
        settings={"n": n, "m": m, "density": 0.01},
    )
    return Experiment(
        name="absolute",
        claim="sparse features are not only stored but computed in superposition",
        setting=f"y = |x|, n = {n}, m = {m}, I_i = 0.8^i, {len(density)} densities, best of {restarts}",
        checks=checks,
        evidence=(evidence, inhibition),
        data={
            "density": density.tolist(),
            "loss": {kind: value.tolist() for kind, value in loss.items()},
            "theory": {"without superposition": bound.tolist(), "the mean alone": mean_only.tolist()},
            "computed": {kind: value.tolist() for kind, value in computed.items()},
            "unexplained": unexplained["ReLU"][:, :60].numpy().round(3).tolist(),
            "asymmetry": [row.round(3).tolist() for row in asymmetry],
            "cut": {name: value.tolist() for name, value in cut.items()},
            "in": best["ReLU"].encoder[middle].numpy().round(2).tolist(),
        },
        draw=_draw_absolute,
        size=(13.0, 3.4),
    )


def _compute_absolute(
    relu: bool, instances: int, data: Sparse, importance: torch.Tensor, effort: float, seed: int
) -> Networks:
    """Networks trained to give |x|: first with a linear output, since a ReLU there dies before it has learnt anything,
    then with the output that is asked for (none for the linear network: ReLU(x) alone would be half of |x|)."""
    start = Networks.random(
        instances, 100, 40, seed=seed, tied=False, relu_hidden=relu, relu_output=False, absolute=True
    )
    steps = max(1, int(2500 * effort))
    nets = train(start, data, importance, steps=steps, learning_rate=3e-2, batch=512, seed=seed + 1)
    nets = replace(nets, relu_output=relu)
    return train(nets, data, importance, steps=steps, learning_rate=1e-2, batch=512, seed=seed + 2)


def asymmetries(nets: Networks) -> list[np.ndarray[Any, Any]]:
    """For each network the neurons that two features share, each with |log (in_a / out_a) - log (in_b / out_b)|.

    in and out are the neuron's weights from and to a feature; a and b are its two strongest by |in * out|, and shared
    means that the second has at least a tenth of the first. 0 where both share alike; rescaling a neuron changes
    nothing. Source: Elhage et al. 2022, "The Asymmetric Superposition Motif".
    """
    found = []
    for inward, outward in zip(nets.encoder, nets.output_weights.mT):
        strength, index = (inward * outward).abs().topk(2, dim=1)
        shared = strength[:, 1] > 0.1 * strength[:, 0]
        ratio = (inward.gather(1, index).abs() / outward.gather(1, index).abs().clamp_min(1e-6)).clamp_min(1e-6).log()
        found.append((ratio[:, 0] - ratio[:, 1]).abs()[shared].double().numpy())
    return found


def false_responses(nets: Networks, importance: torch.Tensor) -> dict[str, np.ndarray[Any, Any]]:
    """How far outputs that should rest move when one feature is on, [instance], with parts of W2 cut.

    x = +-e_i for every i; the sum over j != i of I_j (x'_j - x'_j at rest)^2. Weights onto j from neurons that j does
    not drive (|in| under a fifth of the neuron's largest) are off target: "negative" cuts the negative ones,
    "positive" the positive ones, "nothing" none.
    """
    n = nets.encoder.shape[2]
    driven = nets.encoder.abs() > 0.2 * nets.encoder.abs().amax(dim=2, keepdim=True)  # [instance, m, n]
    off_target = ~driven.mT
    weights = nets.output_weights
    cuts = {"nothing": weights.isnan(), "negative": off_target & (weights < 0), "positive": off_target & (weights > 0)}
    probes = torch.cat([torch.eye(n), -torch.eye(n)])[None]
    own = torch.eye(n, dtype=torch.bool).repeat(2, 1)
    found = {}
    for name, cut in cuts.items():
        one = replace(nets, decoder=weights.masked_fill(cut, 0))
        stray = (one(probes) - one(torch.zeros_like(probes))).square() * importance[:, None]
        found[name] = stray.masked_fill(own, 0).sum(dim=(1, 2)).double().numpy()
    return found


def _draw_privileged(figure: Any, data: Mapping[str, Any]) -> None:
    axes = figure.subplots(1, 4, gridspec_kw={"width_ratios": [1.4, 1, 1, 1]})
    x = 1 / np.array(data["density"])
    for kind, label, style in (
        ("ReLU", "ReLU hidden layer", "o-C0"),
        ("linear", "linear hidden layer (null)", "s-C7"),
        ("turned", "the ReLU weights, rotated (null)", "^:C7"),
    ):
        axes[0].plot(x, data["single"][kind], style, ms=4, lw=1, label=label)
    axes[0].set(xscale="log", xlabel="1 / density", ylabel="share of neurons with one feature", ylim=(-0.05, 1.05))
    axes[0].legend(fontsize=6)
    for ax, (title, weights) in zip(axes[1:], data["weights"].items()):
        image = ax.imshow(np.array(weights), cmap="RdBu", vmin=-1.2, vmax=1.2, aspect="auto")
        ax.set(title=f"W, {title}", xlabel="feature", ylabel="neuron")
        ax.title.set_fontsize(8)
    figure.colorbar(image, ax=axes[3], shrink=0.8)


def _draw_absolute(figure: Any, data: Mapping[str, Any]) -> None:
    axes = figure.subplots(1, 4)
    density = np.array(data["density"])
    x = 1 / density
    for kind, style in (("ReLU", "o-C0"), ("linear", "s-C7")):
        axes[0].plot(x, np.array(data["loss"][kind]) / density, style, ms=4, lw=1, label=f"{kind} neurons")
    for (name, values), style in zip(data["theory"].items(), ("k--", "k:")):
        axes[0].plot(x, np.array(values) / density, style, lw=1, label=f"theory: {name}")
    axes[0].set(xscale="log", yscale="log", xlabel="1 / density", ylabel="loss / density")
    axes[0].legend(fontsize=6)
    axes[1].plot(x, data["computed"]["ReLU"], "o-C0", ms=4, label="ReLU")
    axes[1].plot(x, data["computed"]["linear"], "s-C7", ms=4, label="linear (null)")
    axes[1].axhline(20, color="k", ls="--", lw=0.8, label="two neurons a feature")
    axes[1].set(xscale="log", xlabel="1 / density", ylabel="features computed")
    axes[1].legend(fontsize=6)
    image = axes[2].imshow(data["unexplained"], aspect="auto", vmin=0, vmax=1, cmap="viridis_r")
    axes[2].set(xlabel="feature, most important first", yticks=range(len(x)), title="variance of |x_i| not explained")
    axes[2].set_yticklabels([f"{d:.2g}" for d in density], fontsize=7)
    axes[2].set_ylabel("density")
    axes[2].title.set_fontsize(8)
    figure.colorbar(image, ax=axes[2], shrink=0.8)
    axes[3].plot(x, data["cut"]["negative"], "o-C3", ms=4, label="negative off-target weights cut")
    axes[3].plot(x, data["cut"]["positive"], "s-C7", ms=4, label="positive ones cut (null)")
    axes[3].axhline(1, color="k", lw=0.6)
    axes[3].set(xscale="log", yscale="log", xlabel="1 / density", ylabel="false responses / before")
    axes[3].legend(fontsize=6)
