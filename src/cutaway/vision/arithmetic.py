"""Concept arithmetic: a label as a sparse sum of neurons, and what a blank picture becomes when these are boosted.

Goh et al. 2021 read a text's logit as x_img^T W x_text: "bored = relaxed + grumpy". Here the text's direction t, less
what all texts share, is written as a non-negative sum of the directions in which units move the image embedding, W a
with few a > 0, and the sum is checked where it counts: those units are boosted on a blank picture, and the tower is
asked what it sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cutaway.core import Comparison, Estimate, Evidence, InputError
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import proportion
from cutaway.model import Intervention, add
from cutaway.vision.tower import Tower
from cutaway.vision.units import activations, units_of


def write_directions(tower: Tower, point: str, pictures: Tensor) -> Tensor:
    """d embedding / d unit, moved alike at every place and averaged over pictures: [unit, d].

    Costs one forward and d backwards of the pictures.
    """
    run = tower.see(pictures, [point], grad=[point], keep_graph=True)
    embedding = tower.embed(run) if tower.embed is not None else run.logits
    leaf = run.leaves[point]
    found = []
    for column in range(embedding.shape[-1]):
        (slope,) = torch.autograd.grad(embedding[:, column].sum(), leaf, retain_graph=True, allow_unused=True)
        if slope is None:
            raise InputError(f"{tower.name}'s embedding does not depend on {point}.")
        slope = slope.flatten(2).sum(2) if slope.ndim == 4 else slope.sum(1) if slope.ndim == 3 else slope
        found.append(slope.mean(0))
    return torch.stack(found, -1).detach()


@dataclass(frozen=True)
class Sum:
    """label = sum of weight * unit. `cosine` of the sum with the text's direction, both less what all
    texts share; `says`: what a blank picture with
    these units boosted is taken for."""

    label: str
    units: tuple[int, ...]
    weights: tuple[float, ...]
    cosine: float
    says: str

    def __str__(self) -> str:
        terms = " + ".join(f"{w:.2f} #{u}" for u, w in zip(self.units, self.weights))
        return f"{self.label} = {terms or 'nothing'}"


@dataclass(frozen=True, eq=False, repr=False)
class Arithmetic(Drawn):
    """Each label's sum, and whether boosting it on a blank picture gives the label."""

    tower: str
    point: str
    sums: tuple[Sum, ...]
    evidence: Evidence

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.concept-arithmetic/1",
            "model": self.tower,
            "point": self.point,
            "sums": [
                {"label": s.label, "units": list(s.units), "weights": [round(w, 4) for w in s.weights],
                 "cosine": round(s.cosine, 4), "says": s.says}
                for s in self.sums
            ],
            "evidence": [self.evidence.to_json()],
        }  # fmt: skip

    def __str__(self) -> str:
        rows = [("label as a sum of neurons", "cosine", "boosted on a blank picture")]
        rows += [
            (str(s), f"{s.cosine:.2f}", s.says if s.says == s.label else f"{s.says} (not {s.label})") for s in self.sums
        ]
        return "\n".join([f"{self.tower}, {self.point}", *columns(rows, right=(1,)), str(self.evidence)])

    __repr__ = __str__


def arithmetic(
    tower: Tower,
    labels: Sequence[str],
    pictures: Tensor,
    point: str | None = None,
    *,
    terms: int = 3,
    null: Tower | None = None,
    seed: int = 0,
) -> Arithmetic:
    """Each label as a sum of at most `terms` units (non-negative orthogonal matching pursuit), boosted on a blank
    picture. Labels may be phrases ("red fish"): each is scored against all of `labels`.

    `pictures`: where directions are taken and units' spreads measured. The null boosts as many random units by as much;
    and the same pursuit on the re-randomised tower. Costs d backwards of the pictures and three forwards a label.
    Raises InputError for a tower that reads no texts and has no such classes.
    """
    at = point or tower.point
    n_units = units_of(tower, at)
    typical = typical_spread(tower, at, pictures)
    sums = _sums(tower, labels, pictures, at, terms, typical)
    rng = np.random.default_rng(seed)
    right = [s.says == s.label for s in sums]
    drawn = []
    for s in sums:
        for _ in range(5):
            units = rng.choice(n_units, max(1, len(s.units)), replace=False).tolist()
            drawn.append(_boosted(tower, at, units, s.weights or (1.0,), labels, typical) == s.label)
    effect = proportion(sum(right), len(right), name="labels that a boosted blank picture is taken for")
    nulls = [Comparison(estimate=proportion(sum(drawn), len(drawn), name="as many random units, 5 draws a label"))]
    if null is not None:
        theirs = [
            s.says == s.label for s in _sums(null, labels, pictures, at, terms, typical_spread(null, at, pictures))
        ]
        nulls.append(Comparison(estimate=proportion(sum(theirs), len(theirs), name=null.name)))
    blank = tower.scores(_blank(tower), labels).argmax(1)
    nulls.append(Comparison(estimate=Estimate(
        name=f"nothing boosted (a blank picture is {labels[int(blank[0])]!r})",
        value=float(1 / len(labels)), n=len(labels))))  # fmt: skip
    return Arithmetic(
        tower.name,
        at,
        tuple(sums),
        Evidence(
            claim=f"Labels are sums of at most {terms} units of {tower.name}",
            effect=effect,
            nulls=tuple(nulls),
            seeds=(seed,),
            how="Non-negative matching pursuit of the text's direction, less what all texts share, by the units' "
            "directions; the units are added "
            "on a grey picture in these proportions, at four times their spread over pictures, and the tower is asked "
            "which label it sees. n counts labels.",
            settings={"terms": terms, "labels": list(labels)},
        ),
    )


BOOST = 4.0


def _sums(tower: Tower, labels: Sequence[str], pictures: Tensor, at: str, terms: int, typical: float) -> list[Sum]:
    targets, common = _targets(tower, labels)
    directions = write_directions(tower, at, pictures)  # [unit, d]
    live = activations(tower, pictures, at).std(0) > 1e-6  # a silent unit writes nothing, whatever its direction
    directions = directions * torch.from_numpy(live)[:, None]
    directions = directions - (directions @ common)[:, None] * common
    out = []
    for label, target in zip(labels, targets):
        units, weights, cosine = pursuit(directions, target, terms)
        says = _boosted(tower, at, units, weights, labels, typical)
        out.append(Sum(label, tuple(int(u) for u in units), tuple(weights), cosine, says))
    return out


def _targets(tower: Tower, labels: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(each label's direction less what all texts share [label, d], that common direction of length one [d]).

    Captions of a CLIP lie in a narrow cone; what they share moves every label alike, and says nothing of one.
    """
    if tower.texts is None:
        axes = torch.eye(len(tower.classes))[[tower.classes.index(name) for name in labels]]
        common = F.normalize(torch.ones(len(tower.classes)), dim=0)
    else:
        axes = tower.targets(labels)
        common = F.normalize(tower.targets(list(dict.fromkeys((*tower.words, *labels)))).mean(0), dim=0)
    left = axes - (axes @ common)[:, None] * common
    return (left, common) if bool((left.norm(dim=1) > 1e-4).all()) else (axes, torch.zeros_like(common))


def pursuit(directions: Tensor, target: Tensor, terms: int) -> tuple[list[int], list[float], float]:
    """(units, weights >= 0, cosine of the sum with the target): at each step the unit whose direction has the largest
    cosine with what is left joins, and all weights are fitted again (non-negative least squares)."""
    from scipy.optimize import nnls

    d, t = directions.double().numpy(), F.normalize(target.double(), dim=0).numpy()
    norms = np.linalg.norm(d, axis=1)
    chosen: list[int] = []
    left, weights = t.copy(), np.zeros(0)
    for _ in range(terms):
        score = np.where(norms > 1e-9, d @ left / np.maximum(norms, 1e-9), -np.inf)
        score[chosen] = -np.inf
        best = int(score.argmax())
        if score[best] <= 1e-6:
            break
        chosen.append(best)
        weights, _ = nnls(d[chosen].T, t)
        left = t - d[chosen].T @ weights
    kept = [(u, float(w)) for u, w in zip(chosen, weights) if w > 1e-9]
    total = sum((w * d[u] for u, w in kept), np.zeros_like(t))
    length = float(np.linalg.norm(total))
    return [u for u, _ in kept], [w for _, w in kept], float(total @ t) / length if length > 0 else 0.0


def _blank(tower: Tower) -> Tensor:
    return torch.full((1, 3, tower.side, tower.side), 0.6)


def typical_spread(tower: Tower, at: str, pictures: Tensor) -> float:
    """The mean standard deviation, over pictures, of the units that vary."""
    spread = activations(tower, pictures, at).std(0)
    return float(spread[spread > 1e-6].mean()) if (spread > 1e-6).any() else 1.0


def _boosted(
    tower: Tower, at: str, units: Sequence[int], weights: Sequence[float], labels: Sequence[str], typical: float
) -> str:
    """What a blank picture is taken for when units are boosted in proportion to weights."""
    if not len(units):
        return "nothing"
    size = float(np.linalg.norm(weights))
    changes: list[Intervention] = [
        add(at, torch.tensor(BOOST * typical * w / size), neuron=int(u)) for u, w in zip(units, weights)
    ]
    return labels[int(tower.scores(_blank(tower), labels, changes).argmax(1)[0])]
