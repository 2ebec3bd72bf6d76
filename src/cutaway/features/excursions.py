"""Paired prompts in the latent space: which features tell clean from counterfactual, layer by layer, and how far one of
them steers the answer (after "Excursions into sparse autoencoder latent space").

    difference        mean over pairs of a(clean) - a(counterfactual) at one position
    p                 of the largest |difference| / its standard error over all features, signs of pairs flipped at
                      random (so that it holds for the whole dictionary at once)
    range             the span of multiples of the feature's strongest activation, around what it is, over which the
                      task's metric goes one way and the top token stays one of the two answers for most items
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, InputError
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import bootstrap, random_directions
from cutaway.features.components import random_dictionary
from cutaway.features.fit import placed_sae
from cutaway.features.sae import SAE
from cutaway.features.statistics import short
from cutaway.model import rewrite

if TYPE_CHECKING:
    from cutaway.core.protocols import Task
    from cutaway.model import Model

MULTIPLES = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0)
_FLIPS = 500
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LatentRow:
    """One feature of one dictionary: its mean on clean and counterfactual prompts, and the difference."""

    point: str
    feature: int
    clean: float
    counterfactual: float
    difference: Estimate
    p: float


@dataclass(frozen=True)
class LatentDifferences(Drawn):
    """rows: the features that differ most, a dictionary each; told[point]: features with p < .05, and of as many random
    directions at the same L0."""

    task: str
    position: str
    n: int
    rows: tuple[LatentRow, ...]
    told: dict[str, tuple[int, int]]

    def to_json(self) -> dict[str, Any]:
        rows = [{**vars(row), "difference": row.difference.model_dump(mode="json")} for row in self.rows]
        told = {point: {"features": a, "random_directions": b} for point, (a, b) in self.told.items()}
        return {"schema": "cutaway.latent_differences/1", "task": self.task, "position": self.position, "n": self.n,
                "rows": rows, "told": told}  # fmt: skip

    def __str__(self) -> str:
        table = [["point", "feature", "clean", "counterfactual", "difference", "p"]]
        for r in self.rows:
            table.append([r.point, str(r.feature), f"{r.clean:.2f}", f"{r.counterfactual:.2f}", str(r.difference),
                          f"{r.p:.3f}"])  # fmt: skip
        lines = [
            f"{self.task}: features that differ between clean and counterfactual prompts, at “{self.position}” "
            f"({self.n} pairs); p over all features of a dictionary",
            *columns(table, right=range(1, 6)),
        ]
        lines += [
            f"  {point}: {ours} features differ (p < .05), {theirs} of as many random directions"
            for point, (ours, theirs) in self.told.items()
        ]
        return "\n".join(lines)

    __repr__ = __str__


@torch.no_grad()
def latent_differences(
    model: Model, dictionaries: Sequence[SAE], task: Task, position: str = "end", top: int = 5, seed: int = 0
) -> LatentDifferences:
    """Of each dictionary (a point each), the `top` features by |difference| in standard errors.

    Cost: two forwards of the task's prompts. Raises `InputError` for a position that the task does not name.
    """
    saes = [placed_sae(one, model) for one in dictionaries]
    points = list(dict.fromkeys(one.point for one in saes))
    clean, other = (_read(model, prompts, task, position, points) for prompts in (task.clean, task.counterfactual))
    rows: list[LatentRow] = []
    told = {}
    for sae in saes:
        x, y = clean[sae.point], other[sae.point]
        a, b = sae.encode(x).double().numpy(), sae.encode(y).double().numpy()
        p, size = _flipped(a - b, seed)
        l0 = max(1, round(float((a > 0).sum(1).mean())))
        random = random_dictionary(torch.cat([x, y]), l0, sae.n_features, seed)
        p_random, _ = _flipped((random.encode(x) - random.encode(y)).double().numpy(), seed)
        told[sae.point] = (int((p < 0.05).sum()), int((p_random < 0.05).sum()))
        for f in np.argsort(-size)[:top].tolist():
            apart = bootstrap(a[:, f] - b[:, f], name="difference", over="pairs", seed=seed)
            rows.append(LatentRow(sae.point, f, float(a[:, f].mean()), float(b[:, f].mean()), apart, float(p[f])))
    return LatentDifferences(task.name, position, len(task), tuple(rows), told)


def _read(model: Model, prompts: Any, task: Task, position: str, points: list[str]) -> dict[str, Tensor]:
    """Activations [n, d] at the task's position."""
    at = _columns(task, position)
    run = model.run(prompts, read=points)
    row = torch.arange(len(at))
    return {point: run[point].flatten(2)[row, at].float() for point in points}


def _columns(task: Task, position: str) -> Tensor:
    if position not in task.positions:
        raise InputError(f"{task.name} names no position {position!r}; there are: {', '.join(task.positions)}.")
    return torch.as_tensor(task.columns(position))  # type: ignore[attr-defined]


def _flipped(d: Floats, seed: int) -> tuple[Floats, Floats]:
    """(p [F], |t| [F]) of differences [n, F]: p by the largest |t| of sign-flipped pairs."""
    n = d.shape[0]

    def t(values: Floats) -> Floats:
        spread = np.sqrt((d**2).sum(0))  # the same for every flip: sums of squares do not change
        return np.asarray(np.abs(values.sum(0)) / np.where(spread > 0, spread, np.inf), dtype=np.float64)

    size = t(d)
    rng = np.random.default_rng(seed)
    largest = np.array([t(d * rng.choice((-1.0, 1.0), n)[:, None]).max() for _ in range(_FLIPS)])
    return (1 + (largest[None] >= size[:, None] - 1e-12).sum(1)) / (_FLIPS + 1), size


@dataclass(frozen=True)
class Controllability(Drawn):
    """Of one feature: at each multiple of `unit` the metric, KL to the unchanged model, and the share of items whose
    top token is still one of the two answers; the same for a random direction of the same length."""

    task: str
    point: str
    feature: int
    unit: float
    present: float
    multiples: tuple[float, ...]
    metric: tuple[Estimate, ...]
    random: tuple[Estimate, ...]
    kl: tuple[float, ...]
    answers_kept: tuple[float, ...]
    span: tuple[float, float]
    evidence: Evidence

    def to_json(self) -> dict[str, Any]:
        held = {**vars(self), "evidence": self.evidence.to_json()}
        for name in ("metric", "random"):
            held[name] = [one.model_dump(mode="json") for one in held[name]]
        return {"schema": "cutaway.controllability/1", **held}

    def __str__(self) -> str:
        table = [["set to", "metric", "random direction", "KL, nats", "top token is an answer"]]
        for i, m in enumerate(self.multiples):
            table.append([f"{m:+.1f} x", short(self.metric[i]), short(self.random[i]), f"{self.kl[i]:.3f}",
                          f"{self.answers_kept[i]:.0%}"])  # fmt: skip
        low, high = self.span
        return "\n".join(
            [
                f"{self.task}: feature {self.feature} of {self.point}, set to multiples of its strongest activation "
                f"({self.unit:.2f}; now {self.present:+.2f} x on average)",
                *columns(table, right=range(1, 5)),
                f"  it steers the answer from {low:+.1f} x to {high:+.1f} x"
                if high > low
                else "  there is no range over which it steers the answer",
                f"  {self.evidence.claim}: {self.evidence.verdict_text}",
            ]
        )

    __repr__ = __str__


@torch.no_grad()
def controllability(
    model: Model, dictionary: SAE, task: Task, feature: int, *, position: str = "end",
    multiples: Sequence[float] = MULTIPLES, unit: float | None = None, seed: int = 0,
) -> Controllability:  # fmt: skip
    """Set one feature at one position to multiples of `unit` (its strongest activation on these prompts), keeping all
    else, the dictionary's error too. Cost: two forwards of the prompts a multiple, and one.

    Raises `InputError` for a feature that does not exist or never fires (give `unit` then).
    """
    sae = placed_sae(dictionary, model)
    if not 0 <= feature < sae.n_features:
        raise InputError(f"no feature {feature}; there are {sae.n_features}, from 0.")
    at = _columns(task, position)
    ends = _columns(task, "end")
    row = torch.arange(len(at))
    clean: Any = task.clean
    run = model.run(clean, read=[sae.point])
    x = run[sae.point].flatten(2)[row, at].float()
    a = sae.encode(x)[:, feature]
    size = float(a.max()) if unit is None else unit
    if size <= 0:
        raise InputError(
            f"feature {feature} never fires at “{position}” of {task.name}: give unit=, what to set it to."
        )
    d, gain = sae.written[feature], sae.gain(x)
    base = run.logits[row, ends].float()
    answers = torch.stack([task.answers, task.answers if task.wrong is None else task.wrong], 1)
    away = random_directions(d[None], seed=seed)[0]
    found: dict[str, list[Any]] = {"metric": [], "random": [], "kl": [], "kept": []}
    for m in multiples:
        push = (m * size - a)[:, None] * gain
        for name, direction in (("metric", d), ("random", away)):
            logits = _pushed(model, sae, task, at, push * direction)[row, ends].float()
            values = task.metric(logits).double().cpu().numpy()
            found[name].append(bootstrap(values, name=name, over="items", seed=seed))
            if name == "metric":
                p, q = base.log_softmax(-1), logits.log_softmax(-1)
                found["kl"].append(float((p.exp() * (p - q)).sum(-1).mean()))
                found["kept"].append(float((logits.argmax(-1)[:, None] == answers).any(1).float().mean()))
    means = np.array([one.value for one in found["metric"]])
    span = _span(np.array(multiples), means, np.array(found["kept"]), float(a.mean()) / size)
    spread = [float(np.ptp([one.value for one in found[name]])) for name in ("metric", "random")]
    evidence = Evidence(
        claim="the feature moves the metric further than a random direction of its length",
        effect=Estimate(name="range of the metric", value=spread[0], n=len(task)),
        nulls=(Comparison(estimate=Estimate(name="random direction", value=spread[1], n=len(task))),),
        seeds=(seed,), how=f"set to {len(multiples)} multiples at {position}, error kept; one random direction",
    )  # fmt: skip
    return Controllability(
        task.name, sae.point, feature, size, float(a.mean()) / size, tuple(multiples), tuple(found["metric"]),
        tuple(found["random"]), tuple(found["kl"]), tuple(found["kept"]), span, evidence,
    )  # fmt: skip


def _pushed(model: Model, sae: SAE, task: Task, at: Tensor, change: Tensor) -> Tensor:
    """Logits of the clean prompts with change [n, d] added at columns `at`."""
    row = torch.arange(len(at))

    def add(y: Tensor) -> Tensor:
        flat = y.flatten(2).clone()
        flat[row, at] += change.to(flat)
        return flat.view(y.shape)

    clean: Any = task.clean
    return model.run(clean, interventions=[rewrite(sae.writes_to, add)]).logits


def _span(multiples: Floats, means: Floats, kept: Floats, present: float) -> tuple[float, float]:
    """From the multiple nearest to what is, outwards while the metric keeps its direction and answers are kept."""
    order = np.argsort(multiples)
    m, y, good = multiples[order], means[order], kept[order] >= 0.5
    here = int(np.abs(m - present).argmin())
    best = (float(m[here]), float(m[here]))
    for sign in (1, -1):
        low = high = here
        while low > 0 and good[low - 1] and sign * (y[low] - y[low - 1]) > 0:
            low -= 1
        while high < len(m) - 1 and good[high + 1] and sign * (y[high + 1] - y[high]) > 0:
            high += 1
        if m[high] - m[low] > best[1] - best[0]:
            best = (float(m[low]), float(m[high]))
    return best
