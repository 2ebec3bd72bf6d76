"""Dictionaries of the five arms of Heap et al., trained alike: what of a dictionary's scores a random network has too.

An arm and a point at a time: activations of the arm's model on the same text, a dictionary trained on them, another
on Gaussian rows of the same mean and covariance (the floor), and for a sample of features the rules of rules.py.

    excess       explained variance - that of the floor (a dictionary explains some of noise, too)
    after token  explained variance about the mean of the token's other occurrences: what is left of it once the
                 token's identity is taken away
    AUROC        of the current-token rule on texts it was not learned on, mean over features; + what the previous token
                 adds
    entropy      nats, of the tokens that a feature fires at, median over features
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, InputError, Interval
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import ARMS, arm, bootstrap, explained_variance, matched_gaussian
from cutaway.features.fit_rows import fit_rows
from cutaway.features.places import Places
from cutaway.features.rules import contexts, fit_rules
from cutaway.features.settings import TrainSettings
from cutaway.features.stream import as_rows, harvest_all, kept_positions

if TYPE_CHECKING:
    from cutaway.model import Model

FEATURES = 100  # of a dictionary whose rules are scored
_READ = 8192
Say = Callable[[str], None]


@dataclass(frozen=True)
class ArmFigures:
    """One arm at one point. Intervals: of explained variances the range over seeds, of rules a bootstrap over features.

    `per_seed` holds every figure of every seed.
    """

    arm: str
    point: str
    explained_variance: Estimate
    about_zero: Estimate
    floor: Estimate
    excess: Estimate
    after_token: Estimate
    l0: Estimate
    dead: Estimate
    auroc: Estimate
    gain: Estimate
    entropy: Estimate
    per_seed: tuple[Mapping[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        found = {k: v.model_dump(mode="json") if isinstance(v, Estimate) else v for k, v in vars(self).items()}
        return {**found, "about": ARMS[self.arm][0], "per_seed": [_json(one) for one in self.per_seed]}


@dataclass(frozen=True)
class ArmStudy(Drawn):
    """The table of all arms, and what it says of the trained one."""

    model: str
    n_tokens: int
    n_held_out: int
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    rows: tuple[ArmFigures, ...]
    evidence: tuple[Evidence, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.arm_study/1",
            "model": self.model,
            "n_tokens": self.n_tokens,
            "n_held_out": self.n_held_out,
            "seeds": list(self.seeds),
            "settings": dict(self.settings),
            "columns": COLUMNS,
            "rows": [row.to_json() for row in self.rows],
            "evidence": [one.to_json() for one in self.evidence],
        }

    def of(self, name: str, point: str) -> ArmFigures:
        return next(row for row in self.rows if (row.arm, row.point) == (name, point))

    def __str__(self) -> str:
        s = self.settings
        lines = [
            f"{self.model}: dictionaries of {s['features']} features, {s['activation']} at L0 {s['l0']}, trained alike "
            f"on {self.n_tokens:,} tokens of each arm",
            f"seeds {', '.join(map(str, self.seeds))}; scored on {self.n_held_out:,} held-out tokens; brackets: range "
            f"over seeds (explained variances), 95 % bootstrap over features (rules)",
        ]
        for point in dict.fromkeys(row.point for row in self.rows):
            here = [row for row in self.rows if row.point == point]
            for shown in (_SHOWN[:4], _SHOWN[4:]):
                table = [[point, *(COLUMNS[name][0] for name in shown)]]
                table += [[row.arm, *(_short(getattr(row, name), name) for name in shown)] for row in here]
                lines += ["", *columns(table, right=range(1, len(table[0])))]
        lines += ["", *(f"  {name}: {about}" for name, (about, _) in ARMS.items()), ""]
        lines += [f"  {COLUMNS[name][0]}: {COLUMNS[name][1]}" for name in _SHOWN]
        lines += ["", *(f"  {one.claim}: {one.verdict_text}" for one in self.evidence)]
        return "\n".join(lines)

    __repr__ = __str__


COLUMNS = {
    "explained_variance": ("EV", "explained variance on held-out tokens, about their mean"),
    "about_zero": ("about 0", "the same about zero: a definition in use that counts the mean as explained"),
    "excess": ("EV - floor", "less that of a dictionary trained alike on Gaussian rows of the same covariance"),
    "after_token": ("after token", "explained variance of what the token's identity leaves"),
    "auroc": ("AUROC", "of telling from the token alone whether a feature fires, mean over features"),
    "gain": ("+prev", "what the previous token adds to it"),
    "entropy": ("entropy", "nats, of the tokens a feature fires at, median over features"),
    "dead": ("dead", "share of features that never fired on held-out tokens"),
    "l0": ("L0", "features active a token"),
}
_SHOWN = tuple(COLUMNS)


def arm_study(
    model: Model, train_rows: ArrayLike | Tensor, held_out: ArrayLike | Tensor, settings: TrainSettings, *,
    seeds: Sequence[int] = (0, 1, 2), arms: Sequence[str] = tuple(ARMS), on: Say = lambda message: None,
) -> ArmStudy:  # fmt: skip
    """Train and score the dictionaries of `settings` (kind sae, one a point) on each arm, for each seed.

    A seed sets the arm's weights or noise, the dictionary's start and the order of its rows. Rows are token ids [rows,
    position] (-1 pads); position 0 is never counted.
    Cost an arm and seed: one pass over both sets of rows, and two dictionaries a point. Memory: tokens x d a point.
    Raises `InputError` for fewer held-out rows than two, UnknownName for other arms.
    """
    learn, score = as_rows(train_rows, model.facts.vocab_size), as_rows(held_out, model.facts.vocab_size)
    if score.shape[0] < 2:
        raise InputError("rules are learned on some held-out rows and scored on others: give at least two.")
    if any(d.kind != "sae" or d.to is not None for d in settings.dictionaries):
        raise InputError("the arms are of dictionaries of one point: kind sae, without `to`.")
    found: dict[tuple[str, str], list[_Seed]] = {}
    for name in arms:
        for seed in seeds:
            on(f"{name}, seed {seed}")
            for point, one in _of_arm(arm(model, name, seed), learn, score, settings, seed).items():
                found.setdefault((point, name), []).append(one)
    order = sorted(found, key=lambda key: list(dict.fromkeys(p for p, _ in found)).index(key[0]))
    table = tuple(_figures(name, point, found[point, name], list(seeds)) for point, name in order)
    first = settings.dictionaries[0]
    kept = {"features": first.features, "l0": first.l0, "activation": first.activation, "tokens": settings.tokens}
    return ArmStudy(
        model.name, settings.tokens, int(kept_positions(score, False).sum()), tuple(seeds), kept, table,
        tuple(_evidence(table, point, tuple(seeds)) for point in dict.fromkeys(row.point for row in table)),
    )  # fmt: skip


@dataclass(frozen=True)
class _Seed:
    numbers: dict[str, float]
    auroc: NDArray[np.float64]
    gain: NDArray[np.float64]
    entropy: NDArray[np.float64]


def _of_arm(model: Model, learn: Tensor, score: Tensor, settings: TrainSettings, seed: int) -> dict[str, _Seed]:
    names = [str(d.at) for d in settings.dictionaries]
    places = Places.of(model, names, mlps=False)
    train_on = harvest_all(places, learn, first_position=False).at
    kept = kept_positions(score, first_position=False)
    scored_on = harvest_all(places, score, first_position=False).at
    tokens, previous, row = contexts(score, kept)
    out = {}
    for given in settings.dictionaries:
        at = places.address(str(given.at))
        run = settings.model_copy(update={"dictionaries": (given.model_copy(update={"seed": seed}),), "seed": seed})
        sae = fit_rows(train_on[at], run)[given.name]
        noise = matched_gaussian(train_on[at], seed=seed)
        floor = fit_rows(noise, run)[given.name]
        x = scored_on[at]
        fresh = matched_gaussian(train_on[at], x.shape[0], seed=seed + 1_000_003)
        x_hat, fires, l0 = _applied(sae, x)
        ev = explained_variance(x, x_hat)
        ev_floor = explained_variance(fresh, _applied(floor, fresh)[0])
        alive = fires.any(0)
        some = _sample(fires, seed)
        rules = fit_rules(tokens, previous, fires[:, some], row % 2 == 0)
        out[at] = _Seed(
            {
                "explained_variance": ev,
                "about_zero": explained_variance(x, x_hat, "zero"),
                "floor": ev_floor,
                "excess": ev - ev_floor,
                "after_token": explained_variance(x, x_hat, "token", tokens),
                "l0": l0,
                "dead": float((~alive).float().mean()),
            },
            rules.token,
            rules.gain,
            rules.entropy,
        )
    return out


def _applied(sae: Any, x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Reconstructions [n, d], which features fire [n, F] bool, L0."""
    hats, fires = [], torch.zeros(x.shape[0], sae.n_features, dtype=torch.bool)
    for start in range(0, x.shape[0], _READ):
        y_hat, active = sae.reconstruct(x[start : start + _READ])
        hats.append(y_hat)
        fires[start + active.tokens, active.features] = True
    return torch.cat(hats), fires, float(fires.sum()) / x.shape[0]


def _sample(fires: Tensor, seed: int) -> Tensor:
    """FEATURES of those that fire at least 20 times, at random."""
    often = (fires.sum(0) >= 20).nonzero()[:, 0]
    order = torch.randperm(often.shape[0], generator=torch.Generator().manual_seed(seed))
    return often[order[:FEATURES]]


def _figures(name: str, point: str, found: list[_Seed], seeds: list[int]) -> ArmFigures:
    def over_seeds(what: str) -> Estimate:
        values = [one.numbers[what] for one in found]
        span = Interval(low=min(values), high=max(values), method=f"range over {len(values)} seeds")
        return Estimate(name=what, value=float(np.mean(values)), n=len(values), interval=span)

    def over_features(what: str, statistic: str) -> Estimate:
        values = np.concatenate([getattr(one, what) for one in found])
        values = values[np.isfinite(values)]
        kind = {"mean": _mean, "median": _median}[statistic]
        return bootstrap(values, statistic=kind, name=what, over=f"features of {len(found)} seeds", method="percentile")

    numbers = {what: over_seeds(what) for what in found[0].numbers}
    each = [
        {
            "seed": float(seed),
            **one.numbers,
            **{what: float(np.nanmean(getattr(one, what))) if np.isfinite(getattr(one, what)).any() else np.nan
               for what in ("auroc", "gain")},
            "entropy": float(np.nanmedian(one.entropy)) if np.isfinite(one.entropy).any() else np.nan,
        }
        for seed, one in zip(seeds, found)
    ]  # fmt: skip
    return ArmFigures(
        arm=name, point=point, **numbers, auroc=over_features("auroc", "mean"), gain=over_features("gain", "mean"),
        entropy=over_features("entropy", "median"), per_seed=tuple(each),
    )  # fmt: skip


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values.mean(-1), dtype=np.float64)


def _median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.median(values, -1), dtype=np.float64)


def _evidence(rows: tuple[ArmFigures, ...], point: str, seeds: tuple[int, ...]) -> Evidence:
    """On the context gain: the one score here that a token detector cannot have."""
    here = {row.arm: row for row in rows if row.point == point}
    trained = here.get("trained")
    nulls = tuple(
        Comparison(estimate=row.gain.model_copy(update={"name": name})) for name, row in here.items() if row != trained
    )
    effect = trained.gain if trained is not None else Estimate(name="gain", value=float("nan"), n=0)
    return Evidence(
        claim=f"features at {point} carry context: the previous token helps to tell when they fire",
        effect=effect,
        nulls=nulls,
        seeds=seeds,
        how="held-out AUROC of the rule with the previous token, less that of the current token alone; mean over "
        "features; each arm has its own dictionary, trained alike",
    )


def _short(estimate: Estimate, name: str) -> str:
    if name in ("dead",):
        return f"{estimate.value:.1%}"
    if name == "l0":
        return f"{estimate.value:.1f}"
    sign = "+" if name in ("excess", "gain") else ""
    span = estimate.interval
    ends = f" [{span.low:{sign}.3f}, {span.high:{sign}.3f}]" if span is not None else ""
    return f"{estimate.value:{sign}.3f}{ends}"


def _json(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {key: value if np.isfinite(value) else None for key, value in numbers.items()}
