"""Linear probes with their controls: what can be read from each point by a straight line, and what that proves.

A probe's accuracy alone says little: an untrained network, the words themselves, or the probe's own capacity may give
as much. So beside it stand the re-randomised model, a control task (Hewitt & Liang 2019: random labels, one for each
word type; the accuracy above it is the *selectivity*), the bag of tokens, and the difference in means. The point is
chosen on validation items and reported on test items.

k-sparse probes (Gurnee et al. 2023): the k coordinates (neurons, features) with the largest difference in means between
classes, and a classifier fitted again on these alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cutaway.core import Comparison, Estimate, Evidence, InputError, Interval, NotDone, refuse_name
from cutaway.core.drawing import Drawn
from cutaway.core.numbers import seeded, whole
from cutaway.core.table import columns
from cutaway.evidence import permuted, rerandomise
from cutaway.model import Model
from cutaway.readouts.classify import (
    Ints,
    Linear,
    Rows,
    Scorer,
    Scores,
    Split,
    bag_of_tokens,
    centroids,
    chosen,
    logistic,
    split,
)
from cutaway.readouts.examples import Encode, Examples, Where, activations, examples
from cutaway.readouts.labelled import Labelled
from cutaway.readouts.sparse_probe import UNTRAINED, SparseScore, sparse_evidence, sparse_probe

SCHEMA = "cutaway.probe/1"


@dataclass(frozen=True, eq=False)
class PointScore:
    """One point of the sweep. Balanced accuracies on test items; `validation` is what the point is chosen by."""

    point: str
    validation: float
    test: Estimate
    control: Estimate
    selectivity: Interval  # of test - control
    means: Estimate  # difference in means
    untrained: Estimate | None
    C: float


@dataclass(frozen=True, eq=False, repr=False)
class Probe(Drawn):
    """`best` is the point chosen on validation items; `classifier` its probe, whose `.direction` may steer."""

    model: str
    data: str
    classes: tuple[str, ...]
    n: tuple[int, int, int]  # train, validation, test
    sweep: tuple[PointScore, ...]
    best: int
    bag: Estimate
    sparse: tuple[SparseScore, ...]
    classifier: Linear
    settings: Mapping[str, Any]
    evidence: tuple[Evidence, ...]

    def table(self) -> str:
        train, validation, test = self.n
        head = ("point", "test", "95 % interval", "control", "selectivity", "diff. in means", "untrained", "validation")
        rows: list[tuple[str, ...]] = [head]
        for i, s in enumerate(self.sweep):
            gain = s.test.value - s.control.value
            rows.append(
                (
                    s.point + (" *" if i == self.best else ""),
                    f"{s.test.value:.3f}",
                    _ends(s.test),
                    f"{s.control.value:.3f}",
                    f"{gain:+.3f}",
                    f"{s.means.value:.3f}",
                    "-" if s.untrained is None else f"{s.untrained.value:.3f}",
                    f"{s.validation:.3f}",
                )
            )
        features = " through a dictionary's features" if self.settings["inputs"] == "dictionary features" else ""
        kind = "words" if self.settings["level"] == "word" else "texts"
        said = f"{', '.join(self.classes[:8])}{' …' if len(self.classes) > 8 else ''}"
        lines = [
            f"linear probes of {self.model}{features} for {len(self.classes)} classes of {self.data} ({said}); "
            "balanced accuracy",
            f"{train} {kind} to learn from, {validation} to choose by, {test} to report on; chance "
            f"{1 / len(self.classes):.3f}; bag of tokens {self.bag.value:.3f} {_ends(self.bag)}",
            *columns(rows, right=(1, 3, 4, 5, 6, 7)),
            "  * chosen on validation items; the intervals of the other points are not adjusted for their number",
        ]
        if left := self.settings["rare classes left out"]:
            lines.append(f"  left out, too rare in the sample: {', '.join(left)}")
        if self.sparse:
            rows = [("k", "test", "95 % interval", "random k", "untrained", "coordinates")]
            for row in self.sparse:
                shown = ", ".join(map(str, row.coordinates[:8])) + (" …" if len(row.coordinates) > 8 else "")
                other = "-" if row.untrained is None else f"{row.untrained.value:.3f}"
                rows.append(
                    (str(row.k), f"{row.test.value:.3f}", _ends(row.test), f"{row.random.value:.3f}", other, shown)
                )
            lines += ["", f"k-sparse probes at {self.sweep[self.best].point}", *columns(rows, right=(0, 1, 3, 4))]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        def number(item: Estimate | None) -> Any:
            return None if item is None else item.model_dump(mode="json")

        return {
            "schema": SCHEMA,
            "model": self.model,
            "data": self.data,
            "classes": list(self.classes),
            "n": dict(zip(("train", "validation", "test"), self.n)),
            "settings": dict(self.settings),
            "best": self.sweep[self.best].point,
            "bag_of_tokens": number(self.bag),
            "sweep": [
                {
                    "point": s.point,
                    "C": s.C,
                    "validation": s.validation,
                    "test": number(s.test),
                    "control": number(s.control),
                    "selectivity": s.test.value - s.control.value,
                    "selectivity_interval": [s.selectivity.low, s.selectivity.high],
                    "difference_in_means": number(s.means),
                    "untrained": number(s.untrained),
                }
                for s in self.sweep
            ],
            "sparse": [
                {
                    "k": s.k,
                    "coordinates": list(s.coordinates),
                    "test": number(s.test),
                    "random": number(s.random),
                    "untrained": number(s.untrained),
                }
                for s in self.sparse
            ],
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        return "\n\n".join([self.table(), *map(str, self.evidence)])

    __repr__ = __str__


def probe(
    model: Model,
    data: Labelled,
    at: str | Sequence[str] = "resid_post.*",
    *,
    k: Sequence[int] = (),
    where: Where = "last",
    dictionary: Mapping[str, Any] | None = None,
    null: bool = True,
    most: int = 6000,
    seed: int = 0,
) -> Probe:
    """Probes at every point of `at` (one address with `*`, or several), swept over layers.

    k: sizes of sparse probes at the chosen point. where: a text is read at its "last" token or the "mean" over tokens;
    a word at its last token. dictionary: address -> an object with `encode` (or such a function); its features are the
    inputs, and the point itself a baseline. null: also the re-randomised model. most: examples at most.
    Costs one forward of the text for all points (two with `null`), and about ten logistic regressions a point.
    Raises InputError: points with no position axis, k above the width, classes too small to split.
    """
    refuse_name("probe", model=model)
    points = _points(model, at, dictionary)
    seed, most = seeded(seed), whole(most, "most, of the examples,", 1)
    k = list(k) if isinstance(k, Sequence) else [k]
    made = examples(model, data, where, most, seed)
    parts = split(made.label, made.group, seed)
    encode = {point: _encoder(item) for point, item in (dictionary or {}).items()}
    x = activations(model, made, points, encode)
    for size in k:
        whole(size, "k, of the points' coordinates,", 1, min(x[p].shape[1] for p in points))
    controls = _control_labels(made, parts, seed)
    arm = rerandomise(model, seed=seed) if null else None
    other = None if arm is None else activations(arm, made, points, encode)
    score = Scorer(made.label, made.group, len(made.classes), parts)
    fitted = [_fit(point, x[point], None if other is None else other[point], score, controls, seed) for point in points]
    best = max(range(len(points)), key=lambda i: fitted[i].row.validation)
    theirs = None if other is None else max(range(len(points)), key=lambda i: fitted[i].untrained_validation)
    bag = score.of(bag_of_tokens(made.bags, made.label, parts))
    their_x = None if other is None or theirs is None else other[points[theirs]]
    sparse = [sparse_probe(x[points[best]], their_x, size, score, seed) for size in sorted(set(k))]
    settings = {
        "at": list(points),
        "level": "word" if made.word_level else "text",
        "where": "last token of each word" if made.word_level else where,
        "seed": seed,
        "texts cut at the context's end": made.cut,
        "words lost with it": made.lost,
        "rare classes left out": list(made.left_out),
        "inputs": "dictionary features" if dictionary else "activations",
    }
    dense = None
    if dictionary:
        raw = activations(model, made, [points[best]])[points[best]]
        dense = score.test(chosen(raw, made.label, parts)[0], raw)
    control = "a random label for each word type" if made.word_level else "permuted labels"
    untrained = None if theirs is None else fitted[theirs].untrained
    records = [_evidence(fitted[best], untrained, bag, dense, score, control, seed, settings)]
    if sparse:
        records.append(sparse_evidence(sparse[0], points[best], seed, settings))
    return Probe(
        model=model.name,
        data=data.name,
        classes=made.classes,
        n=(len(parts.train), len(parts.validation), len(parts.test)),
        sweep=tuple(item.row for item in fitted),
        best=best,
        bag=bag.estimate("bag of tokens", seed),
        sparse=tuple(row for row, _ in sparse),
        classifier=fitted[best].classifier,
        settings=settings,
        evidence=tuple(records),
    )


def _points(model: Model, at: str | Sequence[str], dictionary: Mapping[str, Any] | None) -> list[str]:
    if dictionary:
        return [name for key in dictionary for name in model.addresses(key)]
    given = [at] if isinstance(at, str) else list(at)
    points = list(dict.fromkeys(name for pattern in given for name in model.addresses(pattern)))
    for point in points:
        axes = model.site(point).axes
        if len(axes) < 3 or axes[1] != "position":
            raise InputError(f"a probe reads one vector a position; {point} is [{', '.join(axes)}].")
    return points


def _encoder(item: Any) -> Encode:
    found = getattr(item, "encode", item)
    if not callable(found):
        raise InputError(f"a dictionary has encode(x); {type(item).__name__} has not.")
    encode: Encode = found
    return encode


def _control_labels(made: Examples, parts: Split, seed: int) -> Ints:
    """Words: each word type's own random label, drawn as the labels are distributed (Hewitt & Liang 2019). Texts have
    no types that come again: their labels permuted."""
    if not made.word_level:
        return np.asarray(permuted(made.label, seed=seed + 1), dtype=np.int64)
    share = np.bincount(made.label[parts.train], minlength=len(made.classes)).astype(np.float64)
    drawn = np.random.default_rng(seed + 1).choice(len(share), size=int(made.kind.max()) + 1, p=share / share.sum())
    return np.asarray(drawn[made.kind], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Fitted:
    """All that was fitted at one point, with scores on the test items."""

    row: PointScore
    classifier: Linear
    main: Scores
    control: Scores
    means: Scores
    untrained: Scores | None
    untrained_validation: float


def _fit(point: str, x: Rows, other: Rows | None, score: Scorer, controls: Ints, seed: int) -> _Fitted:
    label, parts = score.label, score.parts
    classifier, C, validation = chosen(x, label, parts)
    main = score.test(classifier, x)
    control = score.test(logistic(x[parts.train], controls[parts.train], C), x, controls)
    means = score.test(centroids(x[parts.train], label[parts.train]), x)
    untrained, theirs = None, 0.0
    if other is not None:
        fitted, _, theirs = chosen(other, label, parts)
        untrained = score.test(fitted, other)
    row = PointScore(
        point=point,
        validation=validation,
        test=main.estimate(f"balanced accuracy at {point}", seed),
        control=control.estimate("control task", seed),
        selectivity=main.less(control, seed),
        means=means.estimate("difference in means", seed),
        untrained=None if untrained is None else untrained.estimate(UNTRAINED, seed),
        C=C,
    )
    return _Fitted(row, classifier, main, control, means, untrained, theirs)


def _evidence(
    best: _Fitted,
    untrained: Scores | None,
    bag: Scores,
    dense: Scores | None,
    score: Scorer,
    control: str,
    seed: int,
    settings: dict[str, Any],
) -> Evidence:
    row, main = best.row, best.main

    def beside(name: str, other: Scores) -> Comparison:
        return Comparison(estimate=other.estimate(name, seed), difference=main.less(other, seed))

    nulls = [beside(f"control task ({control})", best.control)]
    if untrained is not None:
        nulls.insert(0, beside(f"{UNTRAINED}, its own best point", untrained))
    level = 1 / score.classes
    span = row.test.interval
    apart = None if span is None else Interval(low=span.low - level, high=span.high - level, method=span.method)
    baselines = [
        beside("bag of tokens", bag),
        beside("difference in means, same point", best.means),
        Comparison(estimate=Estimate(name="majority class", value=level, n=len(score.parts.test)), difference=apart),
    ]
    if dense is not None:
        baselines.insert(0, beside("the activations themselves, same point", dense))
    return Evidence(
        claim=f"The labels can be read from {row.point} by a linear probe",
        effect=row.test,
        nulls=tuple(nulls),
        baselines=tuple(baselines),
        seeds=(seed,),
        how=f"Standardised logistic regression, classes weighted alike; the point (of {len(settings['at'])}) and the "
        "strength of regularisation chosen on validation items, reported once on test items; no group on two sides. "
        "One re-randomised model: what another would score is not in its interval. That a label can be read does not "
        "say that the model uses it.",
        settings=settings,
        not_done=() if untrained is not None else (NotDone(what=UNTRAINED, why="it was asked to be left out"),),
    )


def _ends(item: Estimate) -> str:
    return str(item.interval) if item.interval is not None else ""
