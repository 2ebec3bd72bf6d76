"""Completeness (Wang et al. 2022, section 4): without any K in it, the circuit does what the model without K does.

    gap(K) = F(C \\ K) - F(M \\ K)

A circuit that lacks a backup is faithful, and incomplete: K that knocks out what the backup backs up shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.circuits.circuit import Circuit, Level
from cutaway.circuits.faithfulness import random_circuits
from cutaway.circuits.masked import opened_for
from cutaway.circuits.nodewise import measure_any
from cutaway.circuits.units import Units, emptied, units
from cutaway.circuits.wires import Wires
from cutaway.core import Comparison, Estimate, Evidence, Interval, NotDone, TailItem
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import bootstrap
from cutaway.model import Model

Metric = Callable[[Sequence[Tensor]], Tensor]
"""Masks [source, destination] -> the metric of each item under each, [mask, item]."""


@dataclass(frozen=True, eq=False, repr=False)
class Knockout:
    """One K: F(C \\ K) and F(M \\ K) as means over items, and how K was chosen."""

    chosen: str  # "random", "greedy"
    names: tuple[str, ...]
    circuit: float
    model: float

    @property
    def gap(self) -> float:
        return self.circuit - self.model


@dataclass(frozen=True, eq=False, repr=False)
class Completeness(Drawn):
    """`knockouts`, with the worst first. `whole`: F(M) - F(empty), what gaps are a share of."""

    knockouts: tuple[Knockout, ...]
    whole: float
    n: int
    level: str
    evidence: tuple[Evidence, ...]

    @property
    def worst(self) -> Knockout:
        return max(self.knockouts, key=lambda k: abs(k.gap))

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.completeness/1",
            "level": self.level,
            "n": self.n,
            "whole": self.whole,
            "knockouts": [
                {"chosen": k.chosen, "out": list(k.names), "circuit": k.circuit, "model": k.model, "gap": k.gap}
                for k in self.knockouts
            ],
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        rows = [("K, taken out of both", "chosen", "circuit \\ K", "model \\ K", "gap")]
        for k in self.knockouts[:5]:
            names = ", ".join(k.names[:6]) + (f", … ({len(k.names)})" if len(k.names) > 6 else "")
            rows.append((names, k.chosen, f"{k.circuit:.3g}", f"{k.model:.3g}", f"{k.gap:+.3g}"))
        title = f"Completeness: the widest gaps of {len(self.knockouts)} sets K, n={self.n} items (metric)"
        return "\n".join([title, *columns(rows, right=(2, 3, 4))])

    __repr__ = __str__


def completeness(
    model: Model | Wires,
    circuit: Circuit,
    task: Any,
    *,
    ablation: str | None = None,
    level: Level = "node",
    draws: int = 40,
    greedy: int = 4,
    candidates: int = 10,
    null_draws: int = 10,
    choose_on: Any = None,
    seed: int = 0,
) -> Completeness:
    """Gaps for `draws` random K (each unit in with probability 1/2) and for `greedy` K grown one unit at a time, each
    the one of `candidates` random units that widens the gap most (Wang et al., appendix).

    The greedy K are grown on the items `choose_on`, such as those that the circuit was found on; without them on half
    of the task's, and all gaps are measured on the other half (on all, of fewer than 8).
    Null: random K in `null_draws` random circuits of the same size. Costs 2 (draws + greedy * candidates * |K|) masked
    forwards of half the items. Raises InputError for an empty circuit.
    """
    wires = opened_for(model, circuit.graph)
    ablation = str(circuit.choices["ablation"]) if ablation is None else ablation
    parts = units(circuit, level)
    generator = torch.Generator().manual_seed(seed)
    chosen_on, judged_on = halves(task, generator) if choose_on is None else (choose_on, task)
    search, judge = metric_of(wires, circuit, chosen_on, ablation), metric_of(wires, circuit, judged_on, ablation)
    some = [_half(parts.inside, generator) for _ in range(draws)]
    grown = [_grow(search, parts, candidates, generator) for _ in range(greedy)]
    chosen = [("random", k) for k in _distinct(some)] + [("greedy", k) for k in _distinct(grown)]
    masks = [
        mask for _, k in chosen for mask in (parts.without(circuit.members, k), parts.without(circuit.graph.exists, k))
    ]
    values = judge([*masks, emptied(circuit), circuit.graph.exists])
    whole = float((values[-1] - values[-2]).mean())
    pairs = values[:-2].reshape(len(chosen), 2, -1)
    knocked = [
        Knockout(how, tuple(parts.name(u) for u in k), float(c.mean()), float(m.mean()))
        for (how, k), (c, m) in zip(chosen, pairs)
    ]
    beside = _null(judge, circuit, parts, null_draws, whole, generator) if null_draws else None
    evidence = _evidence(knocked, pairs, whole, beside, parts, ablation, seed)
    knocked.sort(key=lambda k: -abs(k.gap))
    return Completeness(tuple(knocked), whole, len(judged_on), level, evidence)


def halves(task: Any, generator: torch.Generator) -> tuple[Any, Any]:
    """(items to choose on, items to judge on); the same where there are fewer than 8."""
    n = len(task)
    if n < 8:
        return task, task
    order = torch.randperm(n, generator=generator)
    return task.take(order[: n // 2].sort().values), task.take(order[n // 2 :].sort().values)


def metric_of(wires: Wires, circuit: Circuit, task: Any, ablation: str) -> Metric:
    return lambda masks: measure_any(wires, circuit.graph, task, torch.stack(list(masks)), ablation)


def _half(inside: Sequence[int], generator: torch.Generator) -> list[int]:
    kept = torch.rand(len(inside), generator=generator) < 0.5
    k = [unit for unit, yes in zip(inside, kept.tolist()) if yes]
    return k or [inside[int(torch.randint(len(inside), (1,), generator=generator))]]


def _distinct(sets: Sequence[Sequence[int]]) -> list[list[int]]:
    return [list(k) for k in dict.fromkeys(tuple(sorted(one)) for one in sets)]


def _grow(metric: Metric, parts: Units, candidates: int, generator: torch.Generator) -> list[int]:
    """K, the best prefix of a greedy order."""
    k: list[int] = []
    best, best_gap = k, -1.0
    left = list(parts.inside)
    while left and len(k) < 10:
        some = [left[i] for i in torch.randperm(len(left), generator=generator)[:candidates].tolist()]
        tried = [[*k, unit] for unit in some]
        masks = [
            mask
            for one in tried
            for mask in (parts.without(parts.members, one), parts.without(parts.graph.exists, one))
        ]
        gaps = metric(masks).mean(1).reshape(-1, 2)
        widths = (gaps[:, 0] - gaps[:, 1]).abs()
        k = tried[int(widths.argmax())]
        left.remove(k[-1])
        if float(widths.max()) > best_gap:
            best, best_gap = k, float(widths.max())
    return best


def _null(
    judge: Metric, circuit: Circuit, parts: Units, draws: int, whole: float, generator: torch.Generator
) -> Estimate:
    seed = int(torch.randint(2**31, (1,), generator=generator))
    masks = []
    for members in random_circuits(circuit.graph, circuit, draws, seed):
        if parts.level == "edge":
            inside = members.flatten().nonzero()[:, 0].tolist()
        else:
            graph = circuit.graph
            free = (graph.source_of > 0) & ~graph.by_node(parts.base)
            inside = (graph.by_node(members) & free).nonzero()[:, 0].tolist()
        k = _half(inside or [0], generator)
        masks += [parts.without(members, k), parts.without(circuit.graph.exists, k)]
    gaps = judge(masks).mean(1).reshape(-1, 2)
    widths = (gaps[:, 0] - gaps[:, 1]).abs() / abs(whole)
    low, high = torch.quantile(widths, torch.tensor([0.025, 0.975], dtype=widths.dtype)).tolist()
    span = Interval(low=low, high=high, method=f"middle 95% of {draws} circuits")
    return Estimate(name="random circuits of this size", value=float(widths.mean()), interval=span, n=draws)


def _evidence(
    knocked: Sequence[Knockout], pairs: Tensor, whole: float, beside: Estimate | None, parts: Units, ablation: str,
    seed: int,
) -> tuple[Evidence, ...]:  # fmt: skip
    settings = {"ablation": ablation, "level": parts.level, "units": len(parts.inside)}
    random = [abs(k.gap) / abs(whole) for k in knocked if k.chosen == "random"]
    grown = [i for i, k in enumerate(knocked) if k.chosen == "greedy"]
    ranked = sorted(knocked, key=lambda k: -abs(k.gap))
    tail = tuple(TailItem(item=", ".join(k.names), predicted=k.model, measured=k.circuit) for k in ranked[:3])
    found = []
    if random:
        found.append(
            Evidence(
                claim="Without a random half of its parts, the circuit does what the model does without them",
                effect=bootstrap(
                    random, name="mean |gap| over K, as a share of F(M) - F(empty)", over="sets K", seed=seed
                ),
                better="lower",
                nulls=() if beside is None else (Comparison(estimate=beside),),
                seeds=(seed,),
                how="gap(K) = F(C \\ K) - F(M \\ K), K each part with probability 1/2 (Wang et al. 2022).",
                settings=settings,
                residual_tail=tail,
            )
        )
    if grown:
        worst = max(grown, key=lambda i: abs(knocked[i].gap))
        gap = (pairs[worst, 0] - pairs[worst, 1]) / abs(whole)
        sign = 1.0 if float(gap.mean()) >= 0 else -1.0
        found.append(
            Evidence(
                claim=f"The widest gap that a greedy search finds: K = {', '.join(knocked[worst].names)}",
                effect=bootstrap(
                    (sign * gap).tolist(), name="|gap| as a share of F(M) - F(empty)", over="items", seed=seed
                ),
                better="lower",
                seeds=(seed,),
                how="K grown on other items than those it is measured on. Zero for a complete circuit.",
                settings=settings,
                not_done=(
                    NotDone(what="a null", why="a search for the worst K has no counterpart that learned nothing"),
                ),
            )
        )
    return tuple(found)
