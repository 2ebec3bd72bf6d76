"""Is the state of the world in the model? Linear probes of many variables at once, layer by layer, with what could be
said of the state without the model.

Source: Li et al. 2023, "Emergent World Representations"; Nanda, Lee & Wattenberg 2023, "Emergent Linear
Representations in World Models": the state told from the side of who moves next is linear in the residual stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, InputError, NotDone
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import bootstrap, bootstrap_difference, rerandomise
from cutaway.model import Model
from cutaway.readouts.softmaxes import Softmaxes, fit_softmaxes
from cutaway.readouts.state_data import StateData
from cutaway.readouts.state_examples import Example, examples_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
TOKENS = 20_000  # of the sequences that are learnt from, at most
BAG = 500  # different tokens that the bag counts, the most frequent
BATCH = 64


@dataclass(frozen=True, eq=False)
class StateScore:
    """One point: share of variables read rightly, on validation and on test sequences; [S] of each variable, NaN where
    it was never counted."""

    point: str
    validation: float
    test: Estimate
    untrained: Estimate | None
    by_variable: Floats
    untrained_by_variable: Floats | None


@dataclass(frozen=True, eq=False, repr=False)
class StateProbe(Drawn):
    """`best` is the point chosen on validation sequences; `probes` all points' classifiers; `counted` [S] on how many
    test tokens each variable is judged; `rivals` what is read without the model, [S] of each variable."""

    model: str
    data: str
    variables: tuple[str, ...]
    values: tuple[str, ...]
    blank: str | None
    n: tuple[int, int, int]  # sequences: train, validation, test
    sweep: tuple[StateScore, ...]
    best: int
    everywhere: Estimate  # at the best point, blanks counted too
    counted: Ints
    rivals: Mapping[str, Floats]
    probes: Mapping[str, Softmaxes]
    sides: tuple[Ints, Ints, Ints] = field(repr=False)  # which sequences
    shape: tuple[int, int] | None = None
    examples: tuple[Example, ...] = ()
    evidence: tuple[Evidence, ...] = ()

    @property
    def by_variable(self) -> Floats:
        """[S], at the best point."""
        return self.sweep[self.best].by_variable

    def table(self) -> str:
        head = ("point", "test", "95 % interval", "untrained", "validation")
        rows: list[tuple[str, ...]] = [head]
        for i, s in enumerate(self.sweep):
            star = " *" if i == self.best else ""
            other = "-" if s.untrained is None else f"{s.untrained.value:.3f}"
            span = str(s.test.interval or "")
            rows.append((s.point + star, f"{s.test.value:.3f}", span, other, f"{s.validation:.3f}"))
        where = f" (where it is not {self.blank})" if self.blank else ""
        low, high = np.nanargmin(self.by_variable), np.nanargmax(self.by_variable)
        return "\n".join(
            [
                f"linear probes of {self.model} for the state of {self.data}: {len(self.variables)} variables, each "
                f"{' / '.join(self.values)}; share read rightly{where}",
                "{} sequences to learn from, {} to choose by, {} to report on".format(*self.n),
                *columns(rows, right=(1, 3, 4)),
                "  * chosen on validation sequences; intervals over sequences",
                f"  there: worst {self.variables[low]} {self.by_variable[low]:.3f}, best {self.variables[high]} "
                f"{self.by_variable[high]:.3f}"
                + (f"; {self.blank} counted too {self.everywhere.value:.3f}" if self.blank else ""),
            ]
        )

    def to_json(self) -> dict[str, Any]:
        def number(item: Estimate | None) -> Any:
            return None if item is None else item.model_dump(mode="json")

        return {
            "schema": "cutaway.state-probe/1",
            "model": self.model,
            "data": self.data,
            "n": dict(zip(("train", "validation", "test"), self.n)),
            "values": list(self.values),
            "blank": self.blank,
            "best": self.sweep[self.best].point,
            "everywhere": number(self.everywhere),
            "sweep": [
                {
                    "point": s.point,
                    "validation": s.validation,
                    "test": number(s.test),
                    "untrained": number(s.untrained),
                    "by_variable": _finite(s.by_variable),
                    "untrained_by_variable": _finite(s.untrained_by_variable),
                }
                for s in self.sweep
            ],
            "variables": [
                {"name": name, "accuracy": x, "n": int(n)}
                for name, x, n in zip(self.variables, _finite(self.by_variable) or [], self.counted)
            ],
            "shape": None if self.shape is None else list(self.shape),
            "rivals": [{"name": name, "by_variable": _finite(x)} for name, x in self.rivals.items()],
            "examples": [example.to_json() for example in self.examples],
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        return "\n\n".join([self.table(), *map(str, self.evidence)])

    __repr__ = __str__


def state_probe(
    model: Model,
    data: StateData,
    at: str | Sequence[str] = "resid_post.*",
    *,
    null: bool = True,
    seed: int = 0,
) -> StateProbe:
    """A probe of every variable at every point of `at`, beside the re-randomised model (`null`), a bag of the tokens so
    far (each by whether it came an even or an odd number of tokens ago), and the most common value at that position.

    Costs a forward of all sequences (two with `null`) and a hundred steps of L-BFGS a point.
    Raises InputError: points without one vector a position, sequences that the model can't read.
    """
    points = vector_points(model, at)
    sides = _sides(len(data.tokens), seed)
    learnt = _learnt(data, sides[0], seed)
    read = Reader(data, sides)
    fitted = {point: _fit(x, data, learnt) for point, x in read.states(model, points).items()}
    scores = {point: read.scored(model, point, fitted[point]) for point in points}
    best = max(range(len(points)), key=lambda i: scores[points[i]].validation)
    examples = examples_of(data, sides[2], fitted, read.states(model, points), points[best])
    theirs: dict[str, Scored] = {}
    if null:
        other = rerandomise(model, seed=seed)
        for point, x in read.states(other, points).items():
            theirs[point] = read.scored(other, point, _fit(x, data, learnt))
    rivals = _rivals(read, data, learnt)
    chosen = scores[points[best]]
    everywhere = bootstrap(chosen.all, name="with blanks", over="sequences", seed=seed)
    return StateProbe(
        model=model.name,
        data=data.name,
        variables=data.variables,
        values=data.values,
        blank=None if data.blank is None else data.values[data.blank],
        n=(len(sides[0]), len(sides[1]), len(sides[2])),
        sweep=tuple(
            StateScore(
                point,
                scores[point].validation,
                scores[point].estimate(f"share read rightly at {point}", seed),
                theirs[point].estimate("re-randomised model", seed) if point in theirs else None,
                scores[point].by_variable,
                theirs[point].by_variable if point in theirs else None,
            )
            for point in points
        ),
        best=best,
        everywhere=everywhere,
        counted=data.counted[sides[2]].sum((0, 1)),
        rivals={name: scored.by_variable for name, scored in rivals.items()},
        probes=fitted,
        sides=sides,
        shape=data.shape,
        examples=examples,
        evidence=(_evidence(data.name, points, best, scores, theirs, rivals, len(learnt[0]), seed),),
    )


def vector_points(model: Model, at: str | Sequence[str]) -> list[str]:
    """The points that `at` names. Raises InputError where one has not one vector a position."""
    points = [name for pattern in ([at] if isinstance(at, str) else at) for name in model.addresses(pattern)]
    for point in points:
        axes = model.site(point).axes
        if len(axes) != 3 or axes[1] != "position":
            raise InputError(f"a probe reads one vector a position; {point} is [{', '.join(axes)}].")
    return points


def _sides(n: int, seed: int) -> tuple[Ints, Ints, Ints]:
    """60 / 20 / 20 % of the sequences."""
    order = np.random.default_rng(seed).permutation(n)
    held = max(1, n // 5)
    return np.sort(order[2 * held :]), np.sort(order[held : 2 * held]), np.sort(order[:held])


def _learnt(data: StateData, train: Ints, seed: int) -> tuple[Ints, Ints]:
    """(row, position) of the tokens that are learnt from, at most `TOKENS`."""
    rows, positions = np.nonzero(data.tokens[train] >= 0)
    keep = np.sort(np.random.default_rng(seed + 1).permutation(len(rows))[:TOKENS])
    return train[rows[keep]], positions[keep]


def _fit(x: Tensor, data: StateData, learnt: tuple[Ints, Ints]) -> Softmaxes:
    """x: [n, T, width] of all sequences."""
    rows, positions = (torch.from_numpy(part) for part in learnt)
    y = torch.from_numpy(data.state[learnt[0], learnt[1]])
    return fit_softmaxes(x[rows, positions].float(), y, len(data.values))


@dataclass(frozen=True, eq=False)
class Scored:
    """Shares read rightly: over validation, of each test sequence (`each`; `all`: blanks too), of each variable."""

    validation: float
    each: Floats
    all: Floats
    by_variable: Floats

    def estimate(self, name: str, seed: int) -> Estimate:
        return bootstrap(self.each, name=name, over="sequences", seed=seed)


class Reader:
    """The data's sequences as one model sees them, and how well classifiers do on them. States of the last model are
    kept: [n, T, width] a point."""

    def __init__(self, data: StateData, sides: tuple[Ints, Ints, Ints]) -> None:
        self.data, self.sides = data, sides
        self._kept: tuple[Model | None, dict[str, Tensor]] = (None, {})

    def states(self, model: Model, points: Sequence[str]) -> dict[str, Tensor]:
        if self._kept[0] is not model:
            self._kept = (model, states_of(model, self.data, points))
        return self._kept[1]

    def scored(self, model: Model, point: str, probe: Softmaxes) -> Scored:
        x = self.states(model, [point])[point]
        return self.judged(lambda rows: probe.predict(x[rows].flatten(0, 1)).view(len(rows), x.shape[1], -1).numpy())

    def judged(self, predict: Any) -> Scored:
        """predict: rows [m] -> [m, T, S]."""
        _, validation, test = self.sides
        right, counted = self._right(predict, validation)
        checked = float(right[counted].mean()) if counted.any() else float("nan")
        right, counted = self._right(predict, test)
        asked = (self.data.state[test] >= 0) & (self.data.tokens[test] >= 0)[:, :, None]
        kept = counted.any((1, 2))
        with np.errstate(invalid="ignore"):
            each = (right & counted).sum((1, 2)) / counted.sum((1, 2))
            every = (right & asked).sum((1, 2)) / asked.sum((1, 2))
            by_variable = (right & counted).sum((0, 1)) / counted.sum((0, 1))
        return Scored(checked, each[kept], every[kept], by_variable)

    def _right(self, predict: Any, rows: Ints) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        return predict(torch.from_numpy(rows)) == self.data.state[rows], self.data.counted[rows]


def states_of(model: Model, data: StateData, points: Sequence[str]) -> dict[str, Tensor]:
    """Point -> [n, T, width], zero after a sequence's end."""
    n, longest = data.tokens.shape
    found: dict[str, Tensor] = {}
    for start in range(0, n, BATCH):
        which = np.arange(start, min(n, start + BATCH))
        run = model.run(data.rows(which), read=points, logits=False)
        for point in points:
            x = run[point].float().cpu()
            if point not in found:
                found[point] = torch.zeros(n, longest, x.shape[-1])
            found[point][start : start + len(which), : x.shape[1]] = x
    return found


def _bag(data: StateData) -> Tensor:
    """[n, T, 2V]: how often each token has come so far, an even or an odd number of tokens ago."""
    longest = data.tokens.shape[1]
    kinds, counts = np.unique(data.tokens[data.tokens >= 0], return_counts=True)
    kinds = np.sort(kinds[np.argsort(-counts, kind="stable")[:BAG]])
    said = torch.from_numpy(data.tokens[:, :, None] == kinds).float()  # [n, T, V]
    sign = torch.tensor([1.0, -1.0]).repeat(longest)[:longest, None]
    total, signed = said.cumsum(1), (said * sign).cumsum(1) * sign
    return torch.cat([(total + signed) / 2, (total - signed) / 2], -1)


def _rivals(read: Reader, data: StateData, learnt: tuple[Ints, Ints]) -> dict[str, Scored]:
    """What can be said of the state without the model."""
    bag = _bag(data)
    probe = _fit(bag, data, learnt)
    counts = np.stack([(data.state[read.sides[0]] == c).sum(0) for c in range(len(data.values))], -1)  # [T, S, C]
    if data.blank is not None:
        counts[..., data.blank] = -1  # counted where the truth is another: the most common of the others
    common = counts.argmax(-1)
    return {
        "bag of the tokens so far, by parity": read.judged(
            lambda rows: probe.predict(bag[rows].flatten(0, 1)).view(len(rows), bag.shape[1], -1).numpy()
        ),
        "most common value at that position": read.judged(
            lambda rows: np.broadcast_to(common, (len(rows), *common.shape))
        ),
    }


def _evidence(
    world: str,
    points: list[str],
    best: int,
    scores: Mapping[str, Scored],
    theirs: Mapping[str, Scored],
    rivals: Mapping[str, Scored],
    learnt: int,
    seed: int,
) -> Evidence:
    main = scores[points[best]]

    def beside(name: str, other: Scored) -> Comparison:
        apart = bootstrap_difference(main.each, other.each, paired=True, over="sequences", seed=seed)
        return Comparison(estimate=other.estimate(name, seed), difference=apart)

    nulls = []
    if theirs:
        point = max(theirs, key=lambda p: theirs[p].validation)
        nulls.append(beside(f"re-randomised model, its own best point ({point})", theirs[point]))
    return Evidence(
        claim=f"The state of {world} can be read from {points[best]} by linear probes",
        effect=main.estimate("share of variables read rightly", seed),
        nulls=tuple(nulls),
        baselines=tuple(beside(name, rival) for name, rival in rivals.items()),
        seeds=(seed,),
        how="One softmax for each variable, all fitted at once on the same tokens; the point chosen on validation "
        "sequences, reported once on test sequences. That a state can be read does not say that the model uses it: "
        "edits do.",
        settings={"points": len(points), "tokens learnt from": learnt},
        not_done=() if theirs else (NotDone(what="the re-randomised model", why="it was asked to be left out"),),
    )


def _finite(values: Floats | None) -> list[float | None] | None:
    """To four digits; null where it is undefined."""
    return None if values is None else [round(float(x), 4) if np.isfinite(x) else None for x in values]
