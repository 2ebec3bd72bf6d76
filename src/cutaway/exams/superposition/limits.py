"""Where each method begins to fail as superposition grows, on toy networks whose features are all known.

The same forty equal features (density 1/20) are squeezed into fewer and fewer dimensions, h = W x and
x' = ReLU(W^T h + b). On each network the methods of four rooms are asked what is known of it:

    the network       features it still gives back (at least half of a feature's variance explained)
    dictionary        sparse autoencoder on h: its directions against W_i, one to one (MCC); null: random directions
    probe             logistic regression of "feature i is on" on h: AUROC held out; null: shuffled labels
    interchange       the coordinate of h along W_i exchanged with another input's, counted where feature i's output
                      becomes the other's and no other output moves by more than a quarter; null: a random direction
    interchange along the dictionary's own direction closest to W_i: what is left when the features are not known

Every number is a mean over the features that the network represents (|W_i|^2 > 1/2), with a bootstrap over features and
seeds; a method fails where its mean falls under .9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence
from cutaway.core.table import columns
from cutaway.evidence import bootstrap
from cutaway.toys.superposition.data import Sparse, variance
from cutaway.toys.superposition.geometry import represented
from cutaway.toys.superposition.networks import Networks, best_of, train

N, DENSITY = 40, 0.05
DIMENSIONS = (40, 30, 20, 15, 12, 10, 8, 6)
QUICK_DIMENSIONS = (40, 20, 10)
ROWS, TESTED, RESTARTS = 49_152, 8192, 3
FAILS = 0.9
METHODS = ("the network", "dictionary", "probe", "interchange", "interchange by dictionary")
NULLS = {
    "the network": "the mean of each feature",
    "dictionary": "random directions",
    "probe": "shuffled labels",
    "interchange": "a random direction",
    "interchange by dictionary": "a random direction",
}


@dataclass(frozen=True)
class Point:
    """One number of dimensions: values [features of all seeds] of each method and of its null."""

    m: int
    per_dimension: float
    values: Mapping[str, Sequence[float]]
    nulls: Mapping[str, Sequence[float]]

    def mean(self, method: str, *, null: bool = False) -> Estimate:
        drawn = np.array((self.nulls if null else self.values)[method], dtype=np.float64)
        drawn = drawn[np.isfinite(drawn)]
        if not len(drawn):
            return Estimate(name=NULLS[method] if null else method, value=math.nan, n=0)
        return bootstrap(drawn, name=NULLS[method] if null else method, over="features", method="percentile")


def limits(*, quick: bool = False, seed: int = 0, on: Callable[[str], None] = lambda _: None) -> list[Point]:
    """Measure every method at every number of dimensions; three seeds, `quick`: one, and three numbers of dimensions.

    Cost: a toy training, a dictionary of 40 features and 40 probes for each; about half a minute a point.
    """
    points = []
    for m in QUICK_DIMENSIONS if quick else DIMENSIONS:
        on(f"{N} features in {m} dimensions")
        values: dict[str, list[float]] = {name: [] for name in METHODS}
        nulls: dict[str, list[float]] = {name: [] for name in METHODS}
        crowded = []
        for one in range(seed, seed + (1 if quick else 3)):
            network = toy_network(m, one, quick)
            there = represented(network.encoder)[0]
            crowded.append(float(there.sum()) / m)
            _measure(network, there, one, quick, values, nulls)
        points.append(Point(m, float(np.mean(crowded)), values, nulls))
    return points


def toy_network(m: int, seed: int, quick: bool) -> Networks:
    density = torch.full((RESTARTS, N), DENSITY)
    start = Networks.random(RESTARTS, N, m, seed=1000 * seed + m)
    steps = 1500 if quick else 3000
    nets = train(start, Sparse(density), torch.ones(1, N), steps=steps, learning_rate=1e-2, seed=seed)
    return best_of(nets, nets.loss(Sparse(density), torch.ones(1, N)), RESTARTS)[0]


def _measure(
    net: Networks, there: Tensor, seed: int, quick: bool, values: dict[str, list[float]], nulls: dict[str, list[float]]
) -> None:
    """One network's values of each method, one a feature that is represented, appended."""
    data = Sparse(torch.full((1, N), DENSITY))
    draws = (data.draw(n, torch.Generator().manual_seed(10_007 * seed + k))[0] for k, n in enumerate((ROWS, TESTED)))
    x, held = draws
    h, held_h = net.hidden(x)[0], net.hidden(held)[0]
    index = there.nonzero()[:, 0]
    directions = torch.nn.functional.normalize(net.encoder[0].T[index], dim=1)  # [T, m]

    lost = (net(held)[0] - held[0]).square().mean(dim=0) / variance(torch.tensor(DENSITY))
    values["the network"] += (lost[index] < 0.5).float().tolist()
    nulls["the network"] += [0.0] * len(index)

    made = dictionary(h, seed, quick)
    matched, closest = _matched(made.W_dec, directions)
    values["dictionary"] += matched.tolist()
    generator = torch.Generator().manual_seed(seed + 77)
    drawn = torch.nn.functional.normalize(torch.randn(N, h.shape[1], generator=generator), dim=1)
    nulls["dictionary"] += _matched(drawn, directions)[0].tolist()

    for i in index.tolist():
        score, chance = _probe(h[:8192], x[0, :8192, i] > 0, held_h, held[0, :, i] > 0, seed)
        values["probe"].append(score)
        nulls["probe"].append(chance)

    own = torch.nn.functional.normalize(made.W_dec, dim=1)[closest]
    random = torch.nn.functional.normalize(torch.randn(directions.shape, generator=generator), dim=1)
    for name, along in (("interchange", directions), ("interchange by dictionary", own)):
        values[name] += _interchange(net, held[0], index, along)
    chance_swaps = _interchange(net, held[0], index, random)
    for name in ("interchange", "interchange by dictionary"):
        nulls[name] += chance_swaps


def dictionary(h: Tensor, seed: int, quick: bool, features: int = N, l0: int = round(N * DENSITY)) -> Any:
    from cutaway.features import ARCHITECTURES, DictionarySettings, TrainSettings, fit_rows

    asked = {
        "name": "toy", "kind": "sae", "at": "resid_post.0", "features": features, "l0": l0,
        "activation": "batchtopk", "floor": None, "dead_after": 20_000, "seed": seed,
        **dict(ARCHITECTURES["batchtopk"].recipe),
    }  # fmt: skip
    tokens = ROWS * (2 if quick else 6)
    run = TrainSettings(dictionaries=(DictionarySettings.read(asked),), tokens=tokens, batch=512, seed=seed)
    return fit_rows(h, run)["toy"]


def _matched(rows: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """For each true direction the |cosine| of the row it is matched with one to one, and the row closest to it."""
    from scipy.optimize import linear_sum_assignment

    cosine = (torch.nn.functional.normalize(rows.detach(), dim=1) @ directions.T).abs()
    row, column = linear_sum_assignment(cosine.numpy(), maximize=True)
    found = torch.zeros(len(directions))
    found[torch.as_tensor(column)] = cosine[torch.as_tensor(row), torch.as_tensor(column)]
    return found, cosine.argmax(dim=0)


def _probe(x: Tensor, y: Tensor, held: Tensor, truth: Tensor, seed: int) -> tuple[float, float]:
    """Held-out AUROC of a logistic regression, and of the same on shuffled labels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    labels = y.numpy()
    shuffled = np.random.default_rng(seed).permutation(labels)
    scores = []
    for target in (labels, shuffled):
        fitted = LogisticRegression(C=10.0, max_iter=200).fit(x.numpy(), target)
        scores.append(float(roc_auc_score(truth.numpy(), fitted.decision_function(held.numpy()))))
    return scores[0], scores[1]


@torch.no_grad()
def _interchange(net: Networks, x: Tensor, index: Tensor, along: Tensor) -> list[float]:
    """For each feature the share of pairs in which exchanging h's coordinate along its direction does what exchanging
    the feature does: its output within 1/4 of the other input's, no other output moved by more than 1/4.

    Only pairs where the feature is on in one of the two by more than 1/2, so that leaving things alone never counts.
    """
    half = len(x) // 2
    shares = []
    for row, i in enumerate(index.tolist()):
        base, source = x[:half], x[half : 2 * half]
        differs = (base[:, i] - source[:, i]).abs() > 0.5
        base, source = base[differs], source[differs]
        if not len(base):
            shares.append(math.nan)
            continue
        h, other = net.hidden(base[None])[0], net.hidden(source[None])[0]
        swapped = h + ((other - h) @ along[row])[:, None] * along[row]
        before = torch.relu(h @ net.encoder[0] + net.bias[0])
        after = torch.relu(swapped @ net.encoder[0] + net.bias[0])
        right = (after[:, i] - source[:, i]).abs() < 0.25
        moved = (after - before).abs()
        moved[:, i] = 0
        shares.append(float((right & (moved.amax(dim=1) < 0.25)).float().mean()))
    return shares


def first_failure(points: Sequence[Point], method: str) -> float | None:
    """Features per dimension of the first point at which the method's mean is under .9, from the roomiest on."""
    for point in sorted(points, key=lambda p: -p.m):
        if not point.mean(method).value >= FAILS:
            return point.per_dimension
    return None


def evidence(points: Sequence[Point]) -> tuple[Evidence, ...]:
    """For each method the most crowded point beside the null there: nulls grow as the space fills."""
    made = []
    worst = max(points, key=lambda p: p.per_dimension)
    for method in METHODS:
        made.append(
            Evidence(
                claim=f"{method}: still better than its null at {worst.per_dimension:.2f} features per dimension",
                effect=worst.mean(method),
                nulls=(Comparison(estimate=worst.mean(method, null=True)),),
                how="mean over represented features, at the most features per dimension",
                settings={"n": N, "density": DENSITY, "m": worst.m},
            )
        )
    return tuple(made)


def table(points: Sequence[Point]) -> str:
    """One line a number of dimensions: mean [interval] of each method, and the nulls in brackets."""
    rows = [["m", "features/dim", *METHODS]]
    for p in sorted(points, key=lambda p: -p.m):
        cells = [f"{p.mean(k).value:.2f} {p.mean(k).interval} ({p.mean(k, null=True).value:.2f})" for k in METHODS]
        rows.append([str(p.m), f"{p.per_dimension:.2f}", *cells])
    return "\n".join(columns(rows, right=(0, 1)))


def draw(ax: Any, points: Sequence[Point]) -> None:
    """All methods against features per dimension, nulls dotted in the same colour."""
    ordered = sorted(points, key=lambda p: p.per_dimension)
    x = [p.per_dimension for p in ordered]
    for k, method in enumerate(METHODS):
        means = [p.mean(method) for p in ordered]
        low = [m.interval.low if m.interval else m.value for m in means]
        high = [m.interval.high if m.interval else m.value for m in means]
        ax.plot(x, [m.value for m in means], "o-", color=f"C{k}", ms=4, label=method)
        ax.fill_between(x, low, high, color=f"C{k}", alpha=0.15, lw=0)
        ax.plot(x, [p.mean(method, null=True).value for p in ordered], ":", color=f"C{k}", lw=1)
    ax.axhline(FAILS, color="k", ls="--", lw=0.7)
    ax.set(xlabel="features per dimension", ylabel="mean over features (bands 95 %, dotted: nulls)", ylim=(-0.03, 1.03))
    ax.set_title(f"{N} features of density {DENSITY}: where each method begins to fail", fontsize=9)
    ax.legend(fontsize=7, loc="lower left")


def to_json(points: Sequence[Point]) -> dict[str, Any]:
    """The points with every method's mean and null."""

    def shown(point: Point, method: str) -> dict[str, Any]:
        return {
            "value": point.mean(method).model_dump(mode="json"),
            "null": point.mean(method, null=True).model_dump(mode="json"),
        }

    return {
        "points": [
            {
                "m": point.m,
                "features_per_dimension": point.per_dimension,
                "methods": {method: shown(point, method) for method in METHODS},
            }
            for point in points
        ],
    }
