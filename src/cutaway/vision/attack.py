"""The attack bench: words laid on pictures (typographic attacks) and words in another colour's ink (Stroop).

Goh et al. 2021: a handwritten "iPod" on an apple makes CLIP see an iPod. Here each picture is attacked with the name of
another concept, and, as control, with gibberish: as many letters, of as nearly the same ink, on the same paper at the
same place. The rate is the share of pictures said to be what the word says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, InputError, NotDone
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import bootstrap, proportion
from cutaway.evidence.statistics import bootstrap_difference
from cutaway.vision.lettering import Label, alike, fitting_size, put, word_mask
from cutaway.vision.pictures import Pictures, sheet
from cutaway.vision.stroop import INKS, stroop
from cutaway.vision.tower import Tower


@dataclass(frozen=True)
class Attack:
    """What is laid on one picture: the words and the gibberish that control for them."""

    target: int  # index of the name that is written
    word: Label
    control: Label


def planned(truth: Sequence[int], names: Sequence[str], size: int, side: int, seed: int) -> list[Attack]:
    """An attack for each picture: another name, at a random place, on white paper. Raises InputError for one name."""
    if len(names) < 2:
        raise InputError(f"an attack needs two names or more; given {', '.join(names) or 'none'}.")
    rng = np.random.default_rng(seed)
    known = frozenset(names)
    found = []
    for true in truth:
        target = int((true + 1 + rng.integers(len(names) - 1)) % len(names))
        fits = min(size, fitting_size(names[target], side - 2, side - 2, size))
        mask = word_mask(names[target], fits)
        top = int(rng.integers(1, max(2, side - mask.shape[0])))
        left = int(rng.integers(1, max(2, side - mask.shape[1])))
        control = alike(names[target], fits, rng, known)
        over = max(0, left + word_mask(control, fits).shape[1] - (side - 1))
        found.append(
            Attack(target, Label(names[target], fits, top, left), Label(control, fits, top, max(0, left - over)))
        )
    return found


@dataclass(frozen=True)
class Rates:
    """Shares of pictures, at one size of letters and by one classifier. `fooled`: said to be what is written;
    `fooled_by_gibberish`: said to be that name when gibberish is written in its place; `changed_by_gibberish`: said
    to be something else than without letters."""

    classifier: str
    size: int
    fooled: Estimate
    fooled_by_gibberish: Estimate
    changed: Estimate
    changed_by_gibberish: Estimate
    twins: tuple[Estimate, ...] = ()  # said to be what is written, by each twin

    def to_json(self) -> dict[str, Any]:
        return (
            {"classifier": self.classifier, "size": self.size}
            | {
                name: getattr(self, name).model_dump(mode="json")
                for name in ("fooled", "fooled_by_gibberish", "changed", "changed_by_gibberish")
            }
            | {"twins": [e.model_dump(mode="json") for e in self.twins]}
        )


@dataclass(frozen=True, eq=False, repr=False)
class Bench(Drawn):
    """The attacks on one tower. Only pictures that are seen rightly without letters are counted, and their number is
    `kept` of `n`. `stroop` is None for names that are no colours."""

    tower: str
    names: tuple[str, ...]
    n: int
    accuracy: tuple[tuple[str, Estimate], ...]  # of each classifier, on pictures without letters
    rates: tuple[Rates, ...]
    stroop: Evidence | None
    evidence: tuple[Evidence, ...]
    examples: tuple[tuple[Tensor, str, str, str], ...] = ()  # picture, true name, written, what the tower says
    smaller: tuple[tuple[int, tuple[str, ...]], ...] = ()  # names that had to be written smaller, by size

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.attack/1",
            "model": self.tower,
            "names": list(self.names),
            "n": self.n,
            "accuracy": {name: e.model_dump(mode="json") for name, e in self.accuracy},
            "rates": [row.to_json() for row in self.rates],
            "written_smaller": {str(size): list(names) for size, names in self.smaller},
            "examples": [{"true": t, "written": w, "says": s} for _, t, w, s in self.examples],
            "evidence": [e.to_json() for e in (*self.evidence, *([self.stroop] if self.stroop else []))],
        }

    def __str__(self) -> str:
        lines = [f"{self.tower}: {self.n} pictures, {len(self.names)} names ({', '.join(self.names[:14])})"]
        lines += [f"  seen rightly without letters, {name}: {_percent(e)}" for name, e in self.accuracy]
        head = ["classifier", "letters", "fooled to the word", "by gibberish of equal ink", "answer changed",
                "by gibberish", *[f"fooled: {e.name}" for e in self.rates[0].twins], "n"]  # fmt: skip
        rows = [
            [r.classifier, f"{r.size} px", _percent(r.fooled), _percent(r.fooled_by_gibberish), _percent(r.changed),
             _percent(r.changed_by_gibberish), *[_percent(e) for e in r.twins],
             *([""] * (len(self.rates[0].twins) - len(r.twins))), str(r.fooled.n)]
            for r in self.rates
        ]  # fmt: skip
        lines += ["", *columns([head, *rows])]
        for size, shrunk in self.smaller:
            lines.append(f"  at {size} px written smaller, to fit: {', '.join(shrunk)}")
        for item in (self.evidence[0], *([self.stroop] if self.stroop else [])):
            lines += ["", str(item)]
        return "\n".join(lines)

    __repr__ = __str__


def _percent(e: Estimate) -> str:
    span = f" [{100 * e.interval.low:.0f}, {100 * e.interval.high:.0f}]" if e.interval else ""
    return f"{100 * e.value:.1f} %{span}" if np.isfinite(e.value) else "undefined"


def attack(
    tower: Tower,
    pictures: Pictures,
    names: Sequence[str] | None = None,
    *,
    sizes: Sequence[int] = (),
    twins: Sequence[Tower] = (),
    train: Pictures | None = None,
    seed: int = 0,
) -> Bench:
    """Lay other names on pictures, at several sizes of letters, and see what the tower says.

    `names`: what a picture can be (its first label among them); those of the pictures by default. Classifiers: the
    tower's own scores (zero-shot by captions, or its classes), where it gives any, and with `train` a linear probe on
    its embeddings.
    `twins` are attacked alike with the same letters: the null. `sizes`: of letters in pixels, by default four up to a
    third of the side.

    Costs (2 sizes + 1) forwards a picture and tower. Raises InputError: pictures without a name of `names`, a tower
    that answers nothing and no `train`.
    """
    names = tuple(names or pictures.concepts)
    sizes = tuple(sizes) or tuple(dict.fromkeys(max(6, round(tower.side * s)) for s in (0.17, 0.21, 0.27, 0.33)))
    truth = true_names(pictures, names)
    smaller = {size: _smaller(names, size, tower.side) for size in sizes}
    plans = {size: planned(truth, names, size, tower.side, seed + size) for size in sizes}
    laid = {size: _laid(pictures.images, plan) for size, plan in plans.items()}
    if not tower.answers and train is None:
        raise InputError(
            f"{tower.name} has no classes and reads no captions, so it says nothing of a picture: attack a linear "
            "probe on its embeddings (--probe)."
        )
    judges = [None] * tower.answers + [train] * (train is not None)
    mine = [_Judged(tower, pictures, names, laid, truth, plans, judge) for judge in judges]
    others = [_Judged(twin, pictures, names, laid, truth, plans, judges[0]) for twin in twins]
    rates = tuple(row for judged in mine for row in judged.rates(others if judged is mine[0] else ()))
    evidence = [_evidence(mine[0], others, sizes, seed), *[_evidence(mine[0], others, (s,), seed) for s in sizes]]
    evidence += [_evidence(judged, [], sizes, seed) for judged in mine[1:]]
    stroop_names = tuple(n for n in (tower.words or names) if n in INKS)
    can = tower.texts is not None or all(n in tower.classes for n in stroop_names)
    return Bench(
        tower.name,
        names,
        len(pictures),
        tuple((j.name, j.accuracy) for j in mine),
        rates,
        stroop(tower, stroop_names, twins, seed=seed) if len(stroop_names) >= 3 and can else None,
        tuple(evidence),
        _examples(mine[0], laid[max(sizes)][0], plans[max(sizes)]),
        tuple((size, tuple(found)) for size, found in smaller.items() if found),
    )


def _smaller(names: Sequence[str], size: int, side: int) -> list[str]:
    """Names that are written smaller than asked, so that they fit. Raises InputError where that is all of them."""
    room = side - 2
    fits = {name: fitting_size(name, room, room, size) for name in names}
    if max(fits.values()) < size:
        best = max(fits, key=lambda name: fits[name])
        raise InputError(
            f"letters of {size} px are larger than a picture of {side} x {side}: {best!r} fits up to {fits[best]} px."
        )
    return [name for name in names if fits[name] < size]


def true_names(pictures: Pictures, names: Sequence[str]) -> list[int]:
    """The index of each picture's name. Raises InputError for a picture that has none of them."""
    found = []
    for row, labels in enumerate(pictures.labels):
        mine = [names.index(name) for name in labels if name in names]
        if not mine:
            raise InputError(f"picture {row} shows {', '.join(labels) or 'nothing'}: none of {', '.join(names[:8])}.")
        found.append(mine[0])
    return found


def _laid(images: Tensor, plan: Sequence[Attack]) -> tuple[Tensor, Tensor]:
    """(pictures with the words, pictures with gibberish)."""
    words = torch.stack([put(image, a.word) for image, a in zip(images, plan)])
    return words, torch.stack([put(image, a.control) for image, a in zip(images, plan)])


class _Judged:
    """One tower's answers to pictures without letters, with words and with gibberish."""

    def __init__(
        self,
        tower: Tower,
        pictures: Pictures,
        names: Sequence[str],
        laid: dict[int, tuple[Tensor, Tensor]],
        truth: Sequence[int],
        plans: dict[int, list[Attack]],
        train: Pictures | None,
    ) -> None:
        self.tower, self.names, self.plans = tower, names, plans
        self.name = "linear probe" if train is not None else "zero-shot" if tower.texts is not None else "its classes"
        decide = _probe(tower, train, names, seed=0) if train is not None else None
        answer = decide or (lambda images: tower.scores(images, names).argmax(1).numpy())
        self.truth = np.array(truth)
        self.clean = answer(pictures.images)
        self.right = self.clean == self.truth
        self.accuracy = proportion(int(self.right.sum()), len(self.truth), name="accuracy")
        self.words = {size: answer(pair[0]) for size, pair in laid.items()}
        self.noise = {size: answer(pair[1]) for size, pair in laid.items()}
        self.targets = {size: np.array([a.target for a in plan]) for size, plan in plans.items()}

    def fooled(self, size: int) -> tuple[Any, Any]:
        """Truth values of the pictures seen rightly: said to be the word's, with the word and with gibberish."""
        return tuple((said[size] == self.targets[size])[self.right] for said in (self.words, self.noise))

    def rates(self, others: Sequence[_Judged] = ()) -> list[Rates]:
        out = []
        for size in self.words:
            word, noise = self.fooled(size)
            moved, shaken = ((said[size] != self.clean)[self.right] for said in (self.words, self.noise))
            n = len(word)
            each = [
                proportion(int(hits.sum()), n, name=name)
                for hits, name in (
                    (word, "fooled to the word"),
                    (noise, "said to be that name under gibberish"),
                    (moved, "answer changed by the word"),
                    (shaken, "answer changed by gibberish"),
                )
            ]
            hits = [(other.tower.name, other.fooled(size)[0]) for other in others]
            twins = tuple(proportion(int(h.sum()), len(h), name=name) for name, h in hits)
            out.append(Rates(self.name, size, each[0], each[1], each[2], each[3], twins))
        return out


def _probe(tower: Tower, train: Pictures, names: Sequence[str], seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    x = tower.embedding(train.images).numpy()
    mean, spread = x.mean(0), x.std(0) + 1e-6
    y = np.array(true_names(train, names))
    if len(set(y.tolist())) < 2:
        raise InputError("a linear probe needs pictures of two names or more.")
    found = LogisticRegression(C=1.0, max_iter=500, random_state=seed).fit((x - mean) / spread, y)
    return lambda images: found.predict((tower.embedding(images).numpy() - mean) / spread)


def _evidence(mine: _Judged, others: Sequence[_Judged], sizes: Sequence[int], seed: int) -> Evidence:
    """At one size, or at all of them: then a picture's value is its share of sizes, and pictures are the units."""

    def share(judged: _Judged, control: bool) -> Any:
        return np.mean([judged.fooled(size)[control] for size in sizes], axis=0)

    def estimate(values: Any, name: str) -> Estimate:
        if len(sizes) == 1:
            return proportion(int(values.sum()), len(values), name=name)
        return bootstrap(values, name=name, over="pictures", method="percentile", seed=seed)

    word, noise = share(mine, False), share(mine, True)
    apart = bootstrap_difference(word, noise, paired=True, over="pictures", seed=seed) if len(word) > 1 else None
    nulls = [Comparison(estimate=estimate(noise, "gibberish of equal ink"), difference=apart)]
    for other in others:
        nulls.append(Comparison(estimate=estimate(share(other, False), f"{other.tower.name}, the same words")))
    letters = f"{sizes[0]} px" if len(sizes) == 1 else f"{', '.join(map(str, sizes))} px (all sizes together)"
    return Evidence(
        claim=f"A name in letters of {letters} on a picture makes {mine.tower.name} ({mine.name}) say that name",
        effect=estimate(word, "fooled to the word"),
        nulls=tuple(nulls),
        seeds=(seed,),
        how="Names of other concepts in black on white paper at random places, on pictures seen rightly without; "
        "n counts pictures.",
        settings={"sizes": list(sizes), "names": list(mine.names), "accuracy_without_letters": mine.accuracy.value},
        not_done=() if others else (NotDone(what="a twin trained without text", why="none was given"),),
    )


def _examples(
    mine: _Judged, images: Tensor, plan: Sequence[Attack], most: int = 24
) -> tuple[tuple[Tensor, str, str, str], ...]:
    """The first pictures that were seen rightly without letters, in order: fooled or not."""
    rows = np.flatnonzero(mine.right)[:most]
    said = mine.words[max(mine.words)]
    return tuple(
        (images[r], mine.names[int(mine.truth[r])], mine.names[plan[r].target], mine.names[int(said[r])]) for r in rows
    )


def example_sheet(found: Bench, columns_: int = 8, enlarge: int = 3) -> Tensor:
    """The attacked pictures, and under each what the tower says: red where it is what is written."""
    tiles = []
    for image, true, target, says in found.examples:
        big = image.repeat_interleave(enlarge, 1).repeat_interleave(enlarge, 2)
        foot = torch.ones(3, 18, big.shape[-1])
        ink = (0.8, 0.1, 0.1) if says == target else (0.1, 0.1, 0.1) if says == true else (0.45, 0.45, 0.45)
        foot = put(foot, Label(f"{true}: {says}", 12, 4, 3, ink, None))
        tiles.append(torch.cat([big.clamp(0, 1), foot], 1))
    rows = [tiles[i : i + columns_] for i in range(0, len(tiles), columns_)]
    return sheet(rows, gap=4)
