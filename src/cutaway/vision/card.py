"""The neuron card: all that is known of one unit, each claim beside its null."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, InputError, Interval, atomic_folder, write_json
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import auroc, bootstrap, proportion
from cutaway.model import add, zero
from cutaway.vision.pictures import sheet, to_png
from cutaway.vision.selectivity import unit_evidence
from cutaway.vision.survey import Survey
from cutaway.vision.units import Floats

QUANTILES = (("strongest", 1.0), ("95 %", 0.95), ("80 %", 0.8), ("50 %", 0.5))
EACH = 8
BUCKETS = (-np.inf, 0.0, 1.0, 2.0, 3.0, 4.0, np.inf)  # in SDs above the mean
A_BUCKET = 60
NULL_UNITS = 20
_BOOST = 4.0


@dataclass(frozen=True)
class Bucket:
    """P(concept | activation in low … high SDs above its mean), from a fixed number of items at most."""

    low: float
    high: float
    p: Estimate


@dataclass(frozen=True, eq=False, repr=False)
class Card(Drawn):
    """One unit. `quantiles`: name -> rows of pictures (the strongest, then those about a quantile); `words`: each word
    with its mean activation in SDs; `facets`: AUROC for the concept within a kind of picture; `captions`: text that
    boosting the unit makes likelier, by the change of its logit; `serves`: classes of the sparse probe and weights."""

    model: str
    point: str
    unit: int
    concept: str
    mean: float
    sd: float
    quantiles: tuple[tuple[str, tuple[int, ...]], ...]
    top_words: tuple[int, ...]
    words: tuple[tuple[str, Estimate], ...]
    curve: tuple[Bucket, ...]
    facets: tuple[tuple[str, Estimate], ...]
    captions: tuple[tuple[str, float], ...]
    serves: tuple[tuple[str, float], ...]
    evidence: tuple[Evidence, ...]
    survey: Survey

    def to_json(self) -> dict[str, Any]:
        """Pictures are named by their row: `top.png` of a card's folder has them in this order."""
        values = self.survey.values[:, self.unit]

        def end(x: float) -> float | None:
            return float(x) if np.isfinite(x) else None

        def items(rows: Sequence[int]) -> list[dict[str, Any]]:
            return [{"row": r, "activation": round(float(values[r]), 5), "labels": list(self.survey.labels[r]),
                     "facet": self.survey.facets[r]} for r in rows]  # fmt: skip

        return {
            "schema": "cutaway.neuron-card/1",
            "model": self.model,
            "point": self.point,
            "unit": self.unit,
            "concept": self.concept,
            "activation": {"mean": self.mean, "sd": self.sd, "over": self.survey.over},
            "quantiles": [{"quantile": name, "items": items(rows)} for name, rows in self.quantiles],
            "top_words": items(self.top_words),
            "words": [{"word": w, "activation_sd": e.model_dump(mode="json")} for w, e in self.words],
            "curve": [{"low_sd": end(b.low), "high_sd": end(b.high), "p": b.p.model_dump(mode="json")}
                      for b in self.curve],
            "facets": [{"facet": f, "auroc": e.model_dump(mode="json")} for f, e in self.facets],
            "captions": [{"caption": c, "change_of_logit": round(x, 4)} for c, x in self.captions],
            "serves": [{"class": c, "weight": round(w, 4)} for c, w in self.serves],
            "evidence": [e.to_json() for e in self.evidence],
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [f"unit {self.unit} of {self.point} in {self.model}: {self.concept}"]
        rows = [("AUROC for " + self.concept, "")]
        rows += [(f"  in {facet}", str(e)) for facet, e in self.facets]
        rows += [("strongest words", ""), *[(f"  {w}", f"{e.value:+.2f} SD (n={e.n})") for w, e in self.words[:5]]]
        rows += [(f"P({self.concept} | activation)", "")]
        rows += [(f"  {_span(b)}", str(b.p)) for b in self.curve if b.p.n]
        if self.captions:
            rows += [("captions it makes likelier", ""), *[(f"  {c}", f"{x:+.2f} logit") for c, x in self.captions[:5]]]
        if self.serves:
            rows += [("classes it serves", ""), *[(f"  {c}", f"weight {w:+.2f}") for c, w in self.serves[:5]]]
        lines += columns(rows)
        for item in self.evidence:
            lines += ["", str(item)]
        return "\n".join(lines)

    __repr__ = __str__

    def write(self, folder: str | Path, enlarge: int = 2) -> Path:
        """card.json, card.txt, top.png (a row a quantile) and words.png, whole or not at all."""
        images = torch.cat([self.survey.pictures.images, self.survey.words.images])
        with atomic_folder(folder, ("card.json",)) as temporary:
            write_json(temporary / "card.json", self.to_json())
            (temporary / "card.txt").write_text(f"{self}\n", encoding="utf-8")
            to_png(sheet([[images[r] for r in rows] for _, rows in self.quantiles]), temporary / "top.png", enlarge)
            to_png(sheet([[images[r] for r in self.top_words]]), temporary / "words.png", enlarge)
        return Path(folder)


def _span(bucket: Bucket) -> str:
    if not np.isfinite(bucket.low):
        return f"below {bucket.high:g} SD"
    return f"{bucket.low:g} SD and more" if not np.isfinite(bucket.high) else f"{bucket.low:g} to {bucket.high:g} SD"


def card(survey: Survey, unit: int, *, captions: Sequence[str] = (), seed: int = 0) -> Card:
    """The card of one unit. `captions`: texts to search besides the tower's own words.

    Costs no forward for what is looked at; the ablation 2 forwards a picture of the concept and 20 for its null, the
    captions 2 of 32 pictures. Raises InputError for a unit that is not there.
    """
    count = survey.values.shape[1]
    if not 0 <= unit < count:
        raise InputError(f"no unit {unit}; {survey.point} of {survey.tower.name} has {count} (0 … {count - 1}).")
    found, values = survey.found, survey.values[:, unit]
    concept = found.concepts[int(found.chosen[unit])]
    n = len(survey.pictures)
    split = (values[:n], values[n:])
    mean, sd = float(values.mean()), float(values.std())
    shows = tuple(p.shows(found.concepts) for p in (survey.pictures, survey.words))
    evidence = [unit_evidence(found, unit, (survey.values[:n], survey.values[n:]), (shows[0], shows[1]))]
    tower = survey.tower
    if sd > 1e-9 and (tower.texts is not None or concept in tower.classes):  # else no score says what its absence does
        evidence.append(ablation(survey, unit, concept, seed))
    return Card(
        survey.tower.name, survey.point, unit, concept, mean, sd,
        tuple((name, _about(split[0], q)) for name, q in QUANTILES),
        tuple(int(n + r) for r in np.argsort(-split[1], kind="stable")[: 2 * EACH]),
        _words(survey, (split[1] - mean) / max(sd, 1e-9)),
        conditional(values, survey.shows(concept), seed),
        _facets(survey, values, concept),
        excited_captions(survey, unit, captions) if survey.tower.texts is not None and sd > 1e-9 else (),
        tuple(survey.probe.serves(unit)) if survey.probe is not None else (),
        tuple(evidence), survey,
    )  # fmt: skip


def _about(values: Floats, quantile: float) -> tuple[int, ...]:
    """The EACH items just below a quantile of the activations, strongest first."""
    order = np.argsort(-values, kind="stable")
    start = min(round((1 - quantile) * len(order)), max(0, len(order) - EACH))
    return tuple(int(r) for r in order[start : start + EACH])


def _words(survey: Survey, deviations: Floats) -> tuple[tuple[str, Estimate], ...]:
    names = [labels[0] for labels in survey.words.labels]
    rows = []
    for word in dict.fromkeys(names):
        mine = deviations[[i for i, name in enumerate(names) if name == word]]
        rows.append((word, bootstrap(mine, name=word, over="renderings", unit=" SD", method="percentile",
                                     resamples=500)))  # fmt: skip
    return tuple(sorted(rows, key=lambda row: -row[1].value))


def conditional(values: Floats, shows: Any, seed: int = 0) -> tuple[Bucket, ...]:
    """P(concept | activation) over buckets of one SD each, from at most 60 items a bucket drawn at random, so that
    rare strong activations count as much as common weak ones (Goh et al. 2021). Wilson's intervals."""
    z = (values - values.mean()) / max(float(values.std()), 1e-9)
    rng = np.random.default_rng(seed)
    out = []
    for low, high in pairwise(BUCKETS):
        rows = rng.permutation(np.flatnonzero((z >= low) & (z < high)))[:A_BUCKET]
        out.append(Bucket(low, high, proportion(int(shows[rows].sum()), len(rows), name="P(concept | activation)")))
    return tuple(out)


def _facets(survey: Survey, values: Floats, concept: str) -> tuple[tuple[str, Estimate], ...]:
    shows, facets = survey.shows(concept), np.array(survey.facets)
    return tuple((str(f), auroc(values[facets == f], shows[facets == f])) for f in dict.fromkeys(survey.facets))


# ---- what it does


def ablation(survey: Survey, unit: int, concept: str, seed: int = 0) -> Evidence:
    """How much the tower's score for the concept (above the mean of the others') falls on pictures and words of it
    when the unit is set to zero (`cw.zero`), beside 20 other live units taken out in the same way."""
    tower, at = survey.tower, survey.point
    names = list(survey.found.concepts)
    if tower.texts is None:
        names = [name for name in names if name in tower.classes]
    if concept not in names or len(names) < 2:
        raise InputError(f"{tower.name} gives no score for {concept}, so what its units do for it can't be measured.")
    rows = np.flatnonzero(survey.shows(concept))
    rows = np.random.default_rng(seed).permutation(rows)[:64]
    images = torch.cat([survey.pictures.images, survey.words.images])[torch.from_numpy(rows)]
    index = names.index(concept)

    def margin(changed: int | None) -> Floats:
        changes = [] if changed is None else [zero(at, neuron=changed)]
        scores = tower.scores(images, names, changes).double()
        others = (scores.sum(1) - scores[:, index]) / (len(names) - 1)
        return np.asarray((scores[:, index] - others).detach().numpy())

    base = margin(None)
    fall = base - margin(unit)
    alive = [u for u in np.flatnonzero(np.ptp(survey.values, axis=0) > 1e-9) if u != unit]
    drawn = np.random.default_rng(seed + 1).permutation(alive)[:NULL_UNITS]
    others = np.array([float((base - margin(int(u))).mean()) for u in drawn])
    low, high = np.quantile(others, [0.025, 0.975]) if len(others) else (np.nan, np.nan)
    null = Estimate(
        name="other live units, each taken out",
        value=float(others.mean()) if len(others) else float("nan"),
        interval=Interval(low=float(low), high=float(high), method="middle 95% of the units"),
        n=len(others),
    )
    return Evidence(
        claim=f"Without unit {unit} the tower sees less {concept} where there is {concept}",
        effect=bootstrap(fall, name=f"fall of the score for {concept} above the others' mean", over="pictures",
                         seed=seed),
        nulls=(Comparison(estimate=null),),
        seeds=(seed,),
        how=f"The unit is set to zero on {len(rows)} pictures and words of {concept}; scores are logits.",
        settings={"score_before": float(base.mean())},
    )  # fmt: skip


def excited_captions(survey: Survey, unit: int, captions: Sequence[str] = (), best: int = 8) -> tuple[tuple[str, float], ...]:  # fmt: skip # noqa: E501
    """Captions whose logit rises most when the unit is boosted (by four of its SDs) on 32 pictures, less the mean rise
    of all captions tried. Words first; then the four best with each other word, so long as that is better."""
    tower = survey.tower
    images = survey.pictures.images[:32]
    size = _BOOST * float(survey.values[:, unit].std())
    before = tower.embedding(images)
    after = tower.embedding(images, [add(survey.point, torch.tensor(size), neuron=unit)])
    words = list(dict.fromkeys((*tower.words, *survey.found.concepts, *captions)))

    def rise(texts: Sequence[str]) -> Tensor:
        return (tower.judge(after, texts) - tower.judge(before, texts)).mean(0).detach()

    first = rise(words)
    centre = float(first.mean())
    scored = dict(zip(words, (first - centre).tolist()))
    top = sorted(scored, key=lambda t: -scored[t])[:4]
    both = {frozenset((a, b)): f"{a} {b}" for a in top for b in words if a != b}  # in one order
    pairs = list(both.values())
    if pairs:
        scored |= dict(zip(pairs, (rise(pairs) - centre).tolist()))
    kept = sorted(scored, key=lambda t: -scored[t])[:best]
    return tuple((text, scored[text]) for text in kept)
