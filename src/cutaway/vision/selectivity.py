"""Which concept each unit stands for, in pictures and in rendered words, counted against permuted labels.

AUROC of a unit for a concept: the chance that it is more active on a picture with the concept than on one without,
ties half. A unit is multimodal when one concept has an AUROC of .9 or more in pictures *and* in words (Goh et al.,
"Multimodal Neurons in Artificial Neural Networks", 2021, looked; here it is counted).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cutaway.core import Comparison, Estimate, Evidence, InputError, Interval, NotDone
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import auroc, proportion
from cutaway.evidence.statistics import bootstrap_difference
from cutaway.vision.pictures import Pictures
from cutaway.vision.tower import Tower
from cutaway.vision.units import Floats, Over, activations

BAR = 0.9
Bools = NDArray[np.bool_]


def aurocs(values: Floats, shows: Bools) -> Floats:
    """Activations [n, unit], truth [n, concept] -> AUROC [unit, concept]; NaN where all or none show a concept.

    AUROC = (sum of the ranks of the positives - m (m + 1) / 2) / (m (n - m)), ranks from 1, ties sharing their mean.
    """
    return _from_ranks(stats.rankdata(values, axis=0), shows)


def _from_ranks(ranks: Floats, shows: Bools) -> Floats:
    m = shows.sum(0).astype(np.float64)
    rest = len(shows) - m
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (ranks.T @ shows - m * (m + 1) / 2) / (m * rest)
    return np.asarray(np.where((m > 0) & (rest > 0), found, np.nan), dtype=np.float64)


@dataclass(frozen=True, eq=False, repr=False)
class Selectivity(Drawn):
    """Of one tower's point: AUROC of every unit for every concept, in pictures and in words.

    `pictures`, `words` [unit, concept] are over all items. `chosen` [unit] is the concept whose smaller AUROC of the
    two is largest on the first half of the items, `held_out` [unit, 2] its AUROCs on the second.
    """

    tower: str
    point: str
    over: str
    concepts: tuple[str, ...]
    pictures: Floats
    words: Floats
    chosen: NDArray[np.int64]
    held_out: Floats
    alive: Bools  # active on some item
    permuted: NDArray[np.int64]  # how many units pass, for each permutation of the labels
    n: tuple[int, int]  # pictures, words
    bar: float = BAR

    @property
    def multimodal(self) -> tuple[int, ...]:
        """Units whose chosen concept passes the bar in pictures and in words on the held-out half, best first."""
        worst = np.nan_to_num(self.held_out.min(1))
        passing = np.flatnonzero(worst >= self.bar)
        return tuple(int(u) for u in passing[np.argsort(-worst[passing], kind="stable")])

    @property
    def served(self) -> tuple[str, ...]:
        """The concepts that have a multimodal unit."""
        have = {int(self.chosen[u]) for u in self.multimodal}
        return tuple(name for c, name in enumerate(self.concepts) if c in have)

    def share(self) -> Estimate:
        return proportion(len(self.multimodal), len(self.chosen), name="share of units that are multimodal")

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.selectivity/1",
            "model": self.tower,
            "point": self.point,
            "over": self.over,
            "n": {"pictures": self.n[0], "words": self.n[1], "units": len(self.chosen), "alive": int(self.alive.sum())},
            "bar": self.bar,
            "concepts": list(self.concepts),
            "served": list(self.served),
            "multimodal": [self._row(unit) for unit in self.multimodal],
            "permuted": {"n": len(self.permuted), "mean": float(self.permuted.mean()), "max": int(self.permuted.max())},
        }

    def _row(self, unit: int) -> dict[str, Any]:
        return {
            "unit": unit,
            "concept": self.concepts[int(self.chosen[unit])],
            "auroc_pictures": round(float(self.held_out[unit, 0]), 4),
            "auroc_words": round(float(self.held_out[unit, 1]), 4),
        }

    def __str__(self) -> str:
        found = self.multimodal
        lines = [
            f"{self.tower}, {self.point} ({self.over} over space): {len(found)} of {len(self.chosen)} units have an "
            f"AUROC of {self.bar} or more for one concept in pictures and in words",
            f"  (concept chosen on half of {self.n[0]} pictures and {self.n[1]} words, measured on the other half; "
            f"labels permuted {len(self.permuted)} times: {self.permuted.mean():.2f} units, at most "
            f"{self.permuted.max()})",
        ]
        if found:
            rows = [("unit", "concept", "pictures", "words")]
            shown = [self._row(unit) for unit in found]
            rows += [
                (str(r["unit"]), r["concept"], f"{r['auroc_pictures']:.3f}", f"{r['auroc_words']:.3f}")
                for r in shown[:40]
            ]
            lines += columns(rows, right=(0, 2, 3))
            lines += [f"  … and {len(found) - 40} more"] * (len(found) > 40)
        lines.append(f"  concepts with such a unit: {len(self.served)} of {len(self.concepts)}")
        return "\n".join(lines)

    __repr__ = __str__


def selectivity(
    tower: Tower,
    pictures: Pictures,
    words: Pictures,
    point: str | None = None,
    *,
    over: Over = "max",
    bar: float = BAR,
    permutations: int = 200,
    seed: int = 0,
) -> Selectivity:
    """Which units stand for one concept in pictures and in words. Concepts are those that both have.

    Costs one forward a picture and word; the permutations are matrix products. A concept with fewer
    than four pictures with or without it is left out, with a warning. Raises InputError: no concept in common, or none
    with enough pictures.
    """
    at = point or tower.point
    concepts = tuple(name for name in pictures.concepts if name in set(words.concepts))
    if not concepts:
        raise InputError(f"pictures ({', '.join(pictures.concepts[:6])}) and words ({', '.join(words.concepts[:6])}) "
                         "have no concept in common.")  # fmt: skip
    counts = dict(zip(concepts, pictures.shows(concepts).sum(0)))
    few = [name for name, k in counts.items() if k < 4 or k > len(pictures) - 4]
    concepts = tuple(name for name in concepts if name not in few)
    if not concepts:
        raise InputError(f"an AUROC needs four pictures with and without a concept; not so for {', '.join(few[:5])}.")
    if few:
        left = f"{', '.join(few[:8])}{' …' * (len(few) > 8)}"
        warnings.warn(f"left out, with fewer than four pictures with or without them: {left}.", stacklevel=2)
    parts = [
        (activations(tower, found, at, over), found.shows(concepts), _split(found.shows(concepts), seed + i))
        for i, found in enumerate((pictures, words))
    ]
    first = [aurocs(x[s], y[s]) for x, y, s in parts]
    second = [aurocs(x[~s], y[~s]) for x, y, s in parts]
    chosen = np.nan_to_num(np.minimum(*first)).argmax(1)
    units = np.arange(len(chosen))
    held_out = np.stack([s[units, chosen] for s in second], 1)
    alive = np.logical_or(*[np.ptp(x, axis=0) > 0 for x, _, _ in parts])
    whole = [aurocs(x, y) for x, y, _ in parts]
    return Selectivity(
        tower.name, at, over, concepts, whole[0], whole[1], chosen, held_out, alive,
        _permuted(parts, bar, permutations, seed), (len(pictures), len(words)), bar,
    )  # fmt: skip


def _split(shows: Bools, seed: int) -> Bools:
    """A random half of the items with each combination of concepts."""
    rng = np.random.default_rng(seed)
    half = np.zeros(len(shows), dtype=bool)
    _, group = np.unique(shows, axis=0, return_inverse=True)
    order = rng.permutation(len(shows))
    order = order[np.argsort(group.ravel()[order], kind="stable")]
    half[order[::2]] = True
    return half


def _permuted(
    parts: Sequence[tuple[Floats, Bools, Bools]], bar: float, permutations: int, seed: int
) -> NDArray[np.int64]:
    """How many units pass when the items' labels are shuffled, in pictures and in words, the choice made anew."""
    rng = np.random.default_rng(seed)
    ranks = [(stats.rankdata(x[s], axis=0), stats.rankdata(x[~s], axis=0)) for x, _, s in parts]
    counts = []
    for _ in range(permutations):
        shuffled = [y[rng.permutation(len(y))] for _, y, _ in parts]
        first = np.minimum(*[_from_ranks(r[0], y[s]) for r, y, (_, _, s) in zip(ranks, shuffled, parts)])
        second = np.minimum(*[_from_ranks(r[1], y[~s]) for r, y, (_, _, s) in zip(ranks, shuffled, parts)])
        best = np.nan_to_num(first).argmax(1)
        counts.append(int((np.nan_to_num(second[np.arange(len(best)), best]) >= bar).sum()))
    return np.array(counts, dtype=np.int64)


def multimodality(found: Selectivity, others: Sequence[Selectivity], seed: int = 0) -> Evidence:
    """The share of units that are multimodal, beside permuted labels and other towers (the textless twin, the
    re-randomised model) measured alike."""
    draws = found.permuted / max(1, len(found.chosen))
    low, high = np.quantile(draws, [0.025, 0.975])
    span = Interval(low=float(low), high=float(high), method="middle 95% of permutations")
    nulls = [Estimate(name="labels permuted", value=float(draws.mean()), interval=span, n=len(draws))]
    compared = [Comparison(estimate=null) for null in nulls]
    for other in others:
        apart = bootstrap_difference(_passing(found), _passing(other), paired=False, over="units", seed=seed)
        compared.append(Comparison(estimate=other.share().model_copy(update={"name": other.tower}), difference=apart))
    return Evidence(
        claim=f"Units of {found.tower} at {found.point} stand for one concept in pictures and in words",
        effect=found.share(),
        nulls=tuple(compared),
        seeds=(seed,),
        how=f"AUROC >= {found.bar} for one concept in {found.n[0]} pictures and {found.n[1]} rendered words, concept "
        "chosen on one half, measured on the other. n counts units; Wilson's interval.",
        settings={"bar": found.bar, "over": found.over, "permutations": len(found.permuted)},
        not_done=() if others else (NotDone(what="other towers", why="none were given"),),
    )


def _passing(found: Selectivity) -> Floats:
    """1 for each unit that is multimodal, else 0."""
    hits = np.zeros(len(found.chosen))
    hits[list(found.multimodal)] = 1.0
    return hits


def unit_evidence(found: Selectivity, unit: int, values: tuple[Floats, Floats], shows: tuple[Bools, Bools]) -> Evidence:
    """One unit's AUROC for its concept, the smaller of pictures and words, with the best of the units under permuted
    labels as its null."""
    concept = int(found.chosen[unit])
    each = [auroc(v[:, unit], s[:, concept]) for v, s in zip(values, shows)]
    worse = min((0, 1), key=lambda i: each[i].value)
    name = f"AUROC for {found.concepts[concept]} in {('pictures', 'words')[worse]} (the smaller)"
    rng = np.random.default_rng(unit)
    draws = [
        min(float(aurocs(v[:, [unit]], s[rng.permutation(len(s))][:, [concept]])[0, 0]) for v, s in zip(values, shows))
        for _ in range(200)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    null = Estimate(
        name="labels permuted",
        value=float(np.mean(draws)),
        interval=Interval(low=float(low), high=float(high), method="middle 95% of permutations"),
        n=len(draws),
    )
    return Evidence(
        claim=f"Unit {unit} of {found.point} stands for {found.concepts[concept]}",
        effect=each[worse].model_copy(update={"name": name}),
        nulls=(Comparison(estimate=null),),
        baselines=(),
        how="On all items; the concept was chosen on half of them. Newcombe's interval.",
        settings={"other": {"name": ("pictures", "words")[1 - worse], "auroc": each[1 - worse].value}},
    )
