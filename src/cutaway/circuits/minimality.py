"""Minimality (Wang et al. 2022, section 4): every part v has some K in the circuit without which v matters.

    score(v) = max over K in C \\ {v} of |F(C \\ (K + v)) - F(C \\ K)| / |F(M) - F(empty)|

K is chosen on some of the items and the score measured on others. Beside the parts stand as many parts of the model
that are not in the circuit, put into it and taken out again in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from cutaway.circuits.circuit import Circuit, Level
from cutaway.circuits.completeness import Metric, halves, metric_of
from cutaway.circuits.masked import opened_for
from cutaway.circuits.units import Units, emptied, units
from cutaway.circuits.wires import Wires
from cutaway.core import Comparison, Estimate, Evidence, Interval, NotDone, TailItem
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import bootstrap, holm, wilson
from cutaway.model import Model

LEAST = 0.01  # of F(M) - F(empty): Wang et al. ask for 1 %
ALPHA = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class Part:
    """One unit of the circuit (or, `inside` False, one put into it): its score and what K it was found with."""

    name: str
    inside: bool
    without: tuple[str, ...]
    score: Estimate
    p: float  # of score <= LEAST, one-sided t-test over items
    p_holm: float

    @property
    def needed(self) -> bool:
        return self.p_holm <= ALPHA


@dataclass(frozen=True, eq=False, repr=False)
class Minimality(Drawn):
    """`parts`: of the circuit, the largest score first; `others`: parts of the model outside it, the null."""

    parts: tuple[Part, ...]
    others: tuple[Part, ...]
    n: int
    evidence: tuple[Evidence, ...]

    @property
    def idle(self) -> tuple[str, ...]:
        """Parts not shown to be needed."""
        return tuple(part.name for part in self.parts if not part.needed)

    def to_json(self) -> dict[str, Any]:
        def row(part: Part) -> dict[str, Any]:
            return {
                "part": part.name,
                "without": list(part.without),
                "score": part.score.model_dump(mode="json"),
                "p": part.p,
                "p_holm": part.p_holm,
                "needed": part.needed,
            }

        return {
            "schema": "cutaway.minimality/1",
            "least": LEAST,
            "n": self.n,
            "parts": [row(part) for part in self.parts],
            "outside": [row(part) for part in self.others],
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        rows = [("part", "score", "p (Holm)", "needed", "with K out")]
        for part in self.parts[:30]:
            names = ", ".join(part.without[:4]) + (f", … ({len(part.without)})" if len(part.without) > 4 else "")
            needed = "yes" if part.needed else "not shown"
            rows.append((part.name, str(part.score), f"{part.p_holm:.2g}", needed, names or "-"))
        more = [f"  … and {len(self.parts) - 30} more"] if len(self.parts) > 30 else []
        ablation = self.evidence[0].settings["ablation"]
        title = f"Minimality: what each part adds, as a share of F(M) - F(empty), {ablation} ablation, n={self.n} items"
        return "\n".join([title, *columns(rows, right=(2,)), *more])

    __repr__ = __str__


def minimality(
    model: Model | Wires,
    circuit: Circuit,
    task: Any,
    *,
    ablation: str | None = None,
    level: Level | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    draws: int = 12,
    null_parts: int = 20,
    most: int = 60,
    choose_on: Any = None,
    seed: int = 0,
) -> Minimality:
    """The score of each edge or node of a circuit, with its interval, its p-value after Holm, and a null.

    K is one of: nothing, all the rest, `draws` random halves of the rest, and of `groups` (named sets of parts, such as
    classes of heads) the rest of each. Of a circuit of more than `most` parts that many are drawn.
    `choose_on`: items on which each part's K is chosen, such as those that the circuit was found on; without them half
    of the task's, and the other half judges.
    Costs 2 (3 + draws + groups) masked forwards of the items a part. Raises InputError for an empty circuit.
    """
    wires = opened_for(model, circuit.graph)
    ablation = str(circuit.choices["ablation"]) if ablation is None else ablation
    parts = units(circuit, level)
    generator = torch.Generator().manual_seed(seed)
    chosen_on, judged_on = halves(task, generator) if choose_on is None else (choose_on, task)
    search, judge = metric_of(wires, circuit, chosen_on, ablation), metric_of(wires, circuit, judged_on, ablation)
    named = {parts.name(u): u for u in (*parts.inside, *parts.outside)}
    sets = [tuple(named[name] for name in some if name in named) for some in (groups or {}).values()]
    inside = _some(parts.inside, most, generator)
    outside = _some(parts.outside, null_parts, generator)
    empty, whole = judge([emptied(circuit), circuit.graph.exists]).mean(1)
    scale = abs(float(whole - empty))
    asked = [(u, True) for u in inside] + [(u, False) for u in outside]
    measured = [_score(search, judge, parts, u, sets, draws, scale, generator, seed) for u, _ in asked]
    adjusted = holm([p for (_, is_in), (*_, p) in zip(asked, measured) if is_in]).tolist()
    adjusted += holm([p for (_, is_in), (*_, p) in zip(asked, measured) if not is_in]).tolist() if outside else []
    made = [
        Part(parts.name(u), is_in, tuple(parts.name(x) for x in k), score, p, float(after))
        for (u, is_in), (k, score, p), after in zip(asked, measured, adjusted)
    ]
    made.sort(key=lambda part: -part.score.value)
    within, beside = tuple(p for p in made if p.inside), tuple(p for p in made if not p.inside)
    evidence = _evidence(within, beside, len(parts.inside), ablation, parts, seed)
    return Minimality(within, beside, len(judged_on), (evidence,))


def _some(items: Sequence[int], most: int, generator: torch.Generator) -> list[int]:
    kept = torch.randperm(len(items), generator=generator)[:most].sort().values.tolist()
    return [items[i] for i in kept]


def _score(
    search: Metric, judge: Metric, parts: Units, unit: int, groups: Sequence[tuple[int, ...]], draws: int,
    scale: float, generator: torch.Generator, seed: int,
) -> tuple[tuple[int, ...], Estimate, float]:  # fmt: skip
    rest = [u for u in parts.inside if u != unit]
    sets: list[tuple[int, ...]] = [(), tuple(rest)]
    for _ in range(draws if rest else 0):
        kept = torch.rand(len(rest), generator=generator) < 0.5
        sets.append(tuple(u for u, yes in zip(rest, kept.tolist()) if yes))
    sets += [tuple(u for u in group if u != unit and u in rest) for group in groups]
    sets = list(dict.fromkeys(sets))

    def masks(k: Sequence[int]) -> list[Tensor]:
        base = parts.without(parts.members, k)
        return [parts.added(base, [unit]), parts.without(base, [unit])]

    found = search([mask for k in sets for mask in masks(k)]).mean(1).reshape(-1, 2)
    best = int((found[:, 0] - found[:, 1]).abs().argmax())
    sign = 1.0 if float(found[best, 0] - found[best, 1]) >= 0 else -1.0
    with_it, without_it = judge(masks(sets[best]))
    effect = sign * (with_it - without_it) / scale
    estimate = bootstrap(effect.tolist(), name="score", over="items", seed=seed)
    return sets[best], estimate, _above(effect.numpy(), LEAST)


def _above(values: Any, least: float) -> float:
    """One-sided p of the null that the mean is at most `least`: Student's t; 0 or 1 where values do not vary."""
    if len(values) < 2 or np.ptp(values) < 1e-12 * max(1.0, float(np.abs(values).max())):
        return 0.0 if float(values.mean()) > least else 1.0
    return float(stats.ttest_1samp(values, least, alternative="greater").pvalue)


def _evidence(
    within: Sequence[Part], beside: Sequence[Part], of: int, ablation: str, parts: Units, seed: int
) -> Evidence:
    what = "nodes" if parts.level == "node" else "edges"
    needed = sum(part.needed for part in within)
    share = Estimate(
        name=f"share of its {what} shown to be needed",
        value=needed / len(within),
        interval=wilson(needed, len(within)),
        n=len(within),
    )
    nulls: tuple[Comparison, ...] = ()
    if beside:
        other = sum(part.needed for part in beside)
        span: Interval = wilson(other, len(beside))
        name = f"other {what} put into it and taken out"
        nulls = (Comparison(estimate=Estimate(name=name, value=other / len(beside), interval=span, n=len(beside))),)
    tail = tuple(
        TailItem(item=p.name, predicted=LEAST, measured=p.score.value) for p in reversed(within) if not p.needed
    )
    return Evidence(
        claim=f"Every part is needed: {needed} of {len(within)} {what} add more than {LEAST:.0%} for some K",
        effect=share,
        nulls=nulls,
        seeds=(seed,),
        how=f"max over K of |F(C \\ (K + v)) - F(C \\ K)| / |F(M) - F(empty)|, {ablation} ablation; K chosen on other "
        "items; one-sided t-tests over items, Holm over parts at .05.",
        settings={"ablation": ablation, "level": parts.level, "parts": of, "tested": len(within)},
        residual_tail=tail[:5],
        not_done=()
        if beside
        else (NotDone(what="parts outside the circuit", why="none was asked for, or there is none"),),
    )
