"""k-sparse probes (Gurnee et al., "Finding neurons in a haystack", 2023): a few coordinates, and what they tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cutaway.core import Comparison, Estimate, Evidence, NotDone
from cutaway.readouts.classify import Floats, Ints, Rows, Scorer, Scores, chosen

UNTRAINED = "re-randomised model"
RANDOM_DRAWS = 5


@dataclass(frozen=True, eq=False)
class SparseScore:
    """k coordinates of the chosen point, beside as many drawn at random and the untrained model's best k."""

    k: int
    coordinates: tuple[int, ...]
    test: Estimate
    random: Estimate
    untrained: Estimate | None


Found = tuple[SparseScore, tuple[Scores, Scores, Scores | None]]


def ranked(x: Rows, y: Ints) -> Ints:
    """Coordinates by the largest difference, over classes, of the class's mean from the others', in units of spread."""
    scale = x.std(0, dtype=np.float64)
    scale = np.where(scale > 1e-8, scale, np.inf)
    gaps = [np.abs(x[y == c].mean(0, dtype=np.float64) - x[y != c].mean(0, dtype=np.float64)) for c in np.unique(y)]
    return np.argsort(-np.max(gaps, axis=0) / scale, kind="stable")


def sparse_probe(x: Rows, other: Rows | None, k: int, score: Scorer, seed: int) -> Found:
    label, parts = score.label, score.parts

    def fit(values: Rows, at: Ints) -> Scores:
        return score.test(chosen(values[:, at], label, parts)[0], values[:, at])

    best = ranked(x[parts.train], label[parts.train])[:k]
    main = fit(x, best)
    rng = np.random.default_rng(seed)
    drawn = [fit(x, rng.choice(x.shape[1], k, replace=False)) for _ in range(RANDOM_DRAWS)]
    hits: Floats = np.mean([d.hits for d in drawn], axis=0)
    random = Scores(hits, drawn[0].counts)
    theirs = None if other is None else fit(other, ranked(other[parts.train], label[parts.train])[:k])
    row = SparseScore(
        k=k,
        coordinates=tuple(map(int, best)),
        test=main.estimate(f"balanced accuracy of {k}", seed),
        random=random.estimate(f"{k} at random, mean of {RANDOM_DRAWS} draws", seed),
        untrained=None if theirs is None else theirs.estimate(f"{UNTRAINED}, its best {k}", seed),
    )
    return row, (main, random, theirs)


def sparse_evidence(found: Found, point: str, seed: int, settings: dict[str, Any]) -> Evidence:
    row, (main, random, theirs) = found
    nulls = [Comparison(estimate=row.random, difference=main.less(random, seed))]
    if theirs is not None and row.untrained is not None:
        nulls.append(Comparison(estimate=row.untrained, difference=main.less(theirs, seed)))
    what, verb = ("One coordinate", "tells") if row.k == 1 else (f"{row.k} coordinates", "tell")
    return Evidence(
        claim=f"{what} of {point} ({', '.join(map(str, row.coordinates[:8]))}) {verb} more than as many others",
        effect=row.test,
        nulls=tuple(nulls),
        seeds=(seed,),
        how="The coordinates with the largest difference in means on training items, a classifier fitted on these.",
        settings={**settings, "k": row.k},
        not_done=() if theirs is not None else (NotDone(what=UNTRAINED, why="it was asked to be left out"),),
    )
