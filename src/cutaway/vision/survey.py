"""A point's units looked at together: their activations, what they stand for, which classes they serve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutaway.core import Comparison, Estimate, Evidence, InputError, NotDone
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import proportion
from cutaway.vision.pictures import Pictures
from cutaway.vision.probes import SparseProbe, sparse_probe
from cutaway.vision.selectivity import BAR, Selectivity, multimodality, selectivity
from cutaway.vision.tower import Tower
from cutaway.vision.units import Floats, Over, activations

TOP = 20
PURE = 0.8
RATINGS = ("one concept", "two concepts", "none")


@dataclass(frozen=True, eq=False, repr=False)
class Survey(Drawn):
    """One point of a tower on pictures and on rendered words. `values` [n, unit] are of the pictures, then the words.

    `ratings` of a random sample of live units, by rule; `other_ratings` the same of the re-randomised tower.
    """

    tower: Tower
    point: str
    over: Over
    pictures: Pictures
    words: Pictures
    values: Floats
    found: Selectivity
    others: tuple[Selectivity, ...]
    probe: SparseProbe | None
    sample: tuple[int, ...]
    ratings: tuple[str, ...]
    evidence: tuple[Evidence, ...]

    @property
    def labels(self) -> tuple[tuple[str, ...], ...]:
        return self.pictures.labels + self.words.labels

    @property
    def facets(self) -> tuple[str, ...]:
        return self.pictures.facets + self.words.facets

    def shows(self, concept: str) -> NDArray[np.bool_]:
        """[n] of pictures and words."""
        return np.array([concept in names for names in self.labels])

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.neurons/1",
            "model": self.tower.name,
            "point": self.point,
            "over": self.over,
            "selectivity": self.found.to_json(),
            "others": [{"model": o.tower, "units": len(o.chosen), "multimodal": len(o.multimodal),
                        "concepts": list(o.served)} for o in self.others],
            "probe": None if self.probe is None else self.probe.to_json(),
            "sample": [{"unit": u, "rating": r} for u, r in zip(self.sample, self.ratings)],
            "evidence": [e.to_json() for e in self.evidence],
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [str(self.found)]
        if self.others:
            rows = [("the same on", "units", "multimodal", "concepts")]
            rows += [(o.tower, str(len(o.chosen)), str(len(o.multimodal)), f"{len(o.served)} of {len(o.concepts)}")
                     for o in self.others]  # fmt: skip
            lines += ["", *columns(rows, right=(1, 2))]
        counted = Counter(self.ratings)
        told = ", ".join(f"{counted[r]} {_READ[r]}" for r in RATINGS)
        lines += [
            "",
            f"  {len(self.sample)} live units drawn at random, by their {TOP} strongest pictures and words: {told}",
        ]
        if self.probe is not None:
            lines += [
                f"  classes read from {len(self.probe.units[0])} units each: {self.probe.accuracy}",
                f"    as many units drawn at random: {self.probe.random}; all units: {self.probe.dense}",
            ]
        for item in self.evidence:
            lines += ["", str(item)]
        return "\n".join(lines)

    __repr__ = __str__


_READ = {
    "one concept": "stand for one concept",
    "two concepts": "for two",
    "none": "for none",
}


def survey(
    tower: Tower,
    pictures: Pictures,
    words: Pictures,
    point: str | None = None,
    *,
    others: Sequence[Tower] = (),
    over: Over = "max",
    bar: float = BAR,
    sample: int = 50,
    permutations: int = 200,
    seed: int = 0,
) -> Survey:
    """Look at every unit of a point. `others` are looked at alike: a twin, the re-randomised tower.

    Costs two forwards a picture and word, and as many for each other tower. Raises InputError.
    """
    at = point or tower.point
    if not at:
        raise InputError(f"which point of {tower.name}? Say one, as path.layer3 (cutaway models lists them).")
    found = selectivity(tower, pictures, words, at, over=over, bar=bar, permutations=permutations, seed=seed)
    theirs = tuple(selectivity(o, pictures, words, at, over=over, bar=bar, permutations=10, seed=seed) for o in others)
    values = np.concatenate([activations(tower, p, at, over) for p in (pictures, words)])
    labels = pictures.labels + words.labels
    drawn = _sample(values, sample, seed)
    ratings = tuple(rating(values[:, u], labels) for u in drawn)
    nulls = []
    for other in others:
        x = np.concatenate([activations(other, p, at, over) for p in (pictures, words)])
        nulls.append((other.name, [rating(x[:, u], labels) for u in _sample(x, sample, seed)]))
    return Survey(
        tower, at, over, pictures, words, values, found, theirs, _classes_served(pictures, values, seed), drawn,
        ratings, (multimodality(found, theirs, seed), _rated(tower.name, at, ratings, nulls, seed)),
    )  # fmt: skip


def rating(values: Floats, labels: Sequence[tuple[str, ...]]) -> str:
    """By the 20 items that drive a unit most: "one concept" where 80 % of them share one, "two concepts" where two
    concepts together cover 80 %, else "none". A rule, where Goh et al. asked people; it sees only named concepts."""
    top = np.argsort(-values, kind="stable")[:TOP]
    sets = [set(labels[i]) for i in top]
    counts = Counter(name for names in sets for name in names)
    if counts and counts.most_common(1)[0][1] >= PURE * len(top):
        return "one concept"
    common = [name for name, _ in counts.most_common(8)]
    pairs = ((a, b) for i, a in enumerate(common) for b in common[i + 1 :])
    if any(sum(bool({a, b} & names) for names in sets) >= PURE * len(top) for a, b in pairs):
        return "two concepts"
    return "none"


def _sample(values: Floats, sample: int, seed: int) -> tuple[int, ...]:
    """Units that vary, drawn at random."""
    alive = np.flatnonzero(np.ptp(values, axis=0) > 1e-9)
    drawn = np.random.default_rng(seed).permutation(alive)[:sample]
    return tuple(int(u) for u in sorted(drawn))


def _rated(
    name: str, point: str, ratings: Sequence[str], nulls: Sequence[tuple[str, list[str]]], seed: int
) -> Evidence:
    def share(of: Sequence[str], called: str) -> Estimate:
        return proportion(sum(r == "one concept" for r in of), len(of), name=called)

    return Evidence(
        claim=f"Units of {name} at {point}, drawn at random, stand for one named concept",
        effect=share(ratings, "share rated as one concept"),
        nulls=tuple(Comparison(estimate=share(theirs, other)) for other, theirs in nulls),
        seeds=(seed,),
        how=f"{PURE:.0%} of the {TOP} pictures and words that drive a unit most share a concept; live units drawn at "
        "random, none picked. n counts units; Wilson's interval.",
        not_done=() if nulls else (NotDone(what="re-randomised model", why="it was left out"),),
    )


def _classes_served(pictures: Pictures, values: Floats, seed: int) -> SparseProbe | None:
    """A probe for the concepts that pictures have as their only label, or for their most particular one."""
    counts = Counter(name for names in pictures.labels for name in names)
    classes = tuple(name for name in pictures.concepts if counts[name] >= 6)
    if len(classes) < 2:
        return None
    rows, labels = [], []
    for row, names in enumerate(pictures.labels):
        mine = [n for n in names if n in classes]
        if mine:  # of several, the rarest
            rows.append(row)
            labels.append(classes.index(min(mine, key=lambda n: counts[n])))
    y = np.array(labels)
    held = np.bincount(y, minlength=len(classes)) >= 6
    if held.sum() < 2:
        return None
    keep = held[y]
    kept = np.flatnonzero(held)
    index = np.cumsum(held) - 1
    return sparse_probe(values[np.array(rows)[keep]], index[y[keep]], tuple(classes[c] for c in kept), seed=seed)
