"""The classes of heads of Wang et al. (2022), and one of our own, each named by what was measured.

    name mover           its direct effect on the logit difference is above LEAST of it; END looks at IO, and more than
                         at S2; it copies names. (It may copy S1 as well, where other heads hold S down.)
    negative name mover  the direct effect is below -LEAST of it; END looks at the names
    S-inhibition         its path to the queries of the name movers carries more than LEAST of the difference; END looks
                         at S2, and more than at IO
    duplicate token      S2 looks at S1, and so do repeated random tokens
    previous token       S1+1 looks at S1, and so do random tokens at the one before
    induction            S2 looks at S1+1, and so do repeated random tokens at what followed
    backup name mover    no name mover; when the name movers are ablated, ablating it too costs LEAST or more, and LEAST
                         more than it costs by itself; END looks at IO
    S-suppression        (not in the paper) its direct effect is above LEAST, and so is what it takes from S's logit;
                         END looks at S2, and more than at IO: it says who is *not* meant

"Looks at", copying and scores on random tokens are above those of every head of the re-randomised models: thresholds
that each model and its items set for themselves. LEAST is the size below which an effect is not spoken of; effects are
also one-sided t-tests over items with Holm's correction over heads. A head may have several classes, or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cutaway.evidence import holm
from cutaway.exams.ioi.behaviours import Behaviours, Floats

PUBLISHED = (
    "name mover",
    "negative name mover",
    "S-inhibition",
    "duplicate token",
    "previous token",
    "induction",
    "backup name mover",
)
CLASSES = (*PUBLISHED, "S-suppression")
LEAST = 0.02  # of the mean logit difference
ALPHA = 0.05


@dataclass(frozen=True)
class Named:
    """Classes -> heads, of those in the circuit and (`outside`) of the model's others."""

    inside: Mapping[str, tuple[str, ...]]
    outside: Mapping[str, tuple[str, ...]]

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes that no head of the circuit is of (backups: no head of the model)."""
        return tuple(c for c in CLASSES if not self.inside[c] and not (c == "backup name mover" and self.outside[c]))

    def of(self, head: str) -> tuple[str, ...]:
        return tuple(c for c in CLASSES if head in self.inside[c] or head in self.outside[c])


def movers(b: Behaviours) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(name movers, negative name movers) among all heads, the strongest first."""
    effect = b.effects["direct effect"]
    raises = _above(effect, LEAST * abs(b.whole))
    lowers = _above(-effect, LEAST * abs(b.whole))
    looks = _looks(b, "END to IO") & _more(b, "END to IO", "END to S2")
    names = _looks(b, "END to IO") | _looks(b, "END to S1") | _looks(b, "END to S2")
    copies = _copies(b, "copying")
    strong = effect.mean(1)
    order = np.argsort(-np.abs(strong), kind="stable")
    move = tuple(b.heads[i] for i in order if raises[i] and looks[i] and copies[i])
    negative = tuple(b.heads[i] for i in order if lowers[i] and names[i])
    return move, negative


def name_classes(b: Behaviours, circuit: Sequence[str]) -> Named:
    """Every class, from behaviours with "direct effect", "through queries of name movers", "alone" and "joint"."""
    move, negative = movers(b)
    found = {"name mover": move, "negative name mover": negative}
    least = LEAST * abs(b.whole)
    at_s2 = _looks(b, "END to S2") & _more(b, "END to S2", "END to IO")
    queries = b.effects.get("through queries of name movers")
    told = np.zeros(len(b.heads), bool) if queries is None else _above(queries, least)
    found["S-inhibition"] = _pick(b, told & at_s2)
    for name, look, score in (
        ("duplicate token", "S2 to S1", "duplicate token"),
        ("previous token", "S1+1 to S1", "previous token"),
        ("induction", "S2 to S1+1", "prefix matching"),
    ):
        found[name] = _pick(b, _looks(b, look) & (b.scores[score] > b.null.get(score, 0.0)))
    more = np.zeros(len(b.heads), bool)
    if move and "joint" in b.effects:
        more = _above(b.effects["joint"] - b.effects["alone"], least) & _above(b.effects["joint"], least)
    more &= np.array([h not in move for h in b.heads])
    found["backup name mover"] = _pick(b, more & _looks(b, "END to IO"))
    direct, down = b.effects["direct effect"], b.effects["lowers S"]
    found["S-suppression"] = _pick(b, _above(direct, least) & _above(down, least) & at_s2)
    inside = {c: tuple(h for h in found[c] if h in circuit) for c in CLASSES}
    outside = {c: tuple(h for h in found[c] if h not in circuit) for c in CLASSES}
    return Named(inside, outside)


def _looks(b: Behaviours, way: str) -> Floats:
    """[head] whether the mean attention is above that of every head of the null."""
    return np.asarray(b.attention[way].mean(1) > b.null.get(way, 0.0))


def _more(b: Behaviours, way: str, other: str) -> Floats:
    return np.asarray(b.attention[way].mean(1) > b.attention[other].mean(1))


def _above(values: Floats, least: float) -> Floats:
    """[head] whether the mean over items is above `least`, and surely above 0 (Holm over heads)."""
    mean = values.mean(1)
    spread = np.ptp(values, axis=1)
    p = np.where(mean > 0, 0.0, 1.0)
    moving = spread > 1e-12 * max(1.0, float(np.abs(values).max()))
    if moving.any():
        p[moving] = stats.ttest_1samp(values[moving], 0.0, axis=1, alternative="greater").pvalue
    return np.asarray((mean >= least) & (holm(p) <= ALPHA))


def _copies(b: Behaviours, kind: str) -> Floats:
    """[head] whether names are copied more often than by any head of the null; all where it cannot be read."""
    if kind not in b.copying:
        return np.ones(len(b.heads), bool)
    return np.asarray(b.copying[kind].mean(1) > b.null.get(kind, 0.0))


def _pick(b: Behaviours, which: Floats) -> tuple[str, ...]:
    return tuple(h for h, yes in zip(b.heads, which.tolist()) if yes)
