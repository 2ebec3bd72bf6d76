"""Whether a ranking of edges is to be believed: bootstrap stability, an audit by exact patching, known truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from cutaway.circuits.circuit import By, Circuit, top_members
from cutaway.circuits.exact import exact
from cutaway.circuits.graph import Graph
from cutaway.circuits.masked import measure
from cutaway.circuits.wires import Wires
from cutaway.core import Comparison, Estimate, Evidence, InputError, Interval
from cutaway.evidence import auroc, correlation
from cutaway.evidence.statistics import spearman


def jaccard(a: Tensor, b: Tensor) -> float:
    """|A and B| / |A or B| of two sets of edges [source, destination]."""
    return float((a & b).sum()) / max(1.0, float((a | b).sum()))


def stability(circuit: Circuit, *, by: By = "absolute", resamples: int = 200, seed: int = 0) -> Evidence:
    """Jaccard of the edge sets that two resamples of the items choose, beside random sets of the same size.

    Costs no forward: the method's scores of single items are resampled. Raises InputError for a circuit without them.
    """
    if circuit.per_item is None:
        raise InputError("the circuit holds no scores of single items (one read from a file does not).")
    generator = torch.Generator().manual_seed(seed)
    scores = torch.where(circuit.graph.exists, circuit.per_item.double(), 0.0)
    n = len(scores)
    size = circuit.count

    def chosen() -> Tensor:
        counts = torch.bincount(torch.randint(n, (n,), generator=generator), minlength=n).double()
        mean = torch.tensordot(counts / n, scores, dims=1)
        return top_members(circuit.graph, mean, max(size, 1), by, circuit.level)

    def drawn() -> Tensor:
        graph = circuit.graph
        if circuit.level == "edge":
            noise = torch.rand(graph.exists.shape, generator=generator)
        else:
            noise = torch.rand(len(graph.nodes), generator=generator)[graph.node_of.clamp(min=0)]
        return top_members(graph, noise, max(size, 1), "signed", circuit.level)

    pairs = torch.tensor([jaccard(chosen(), chosen()) for _ in range(resamples)])
    beside = torch.tensor([jaccard(drawn(), drawn()) for _ in range(resamples)])
    what = f"{resamples} pairs of resamples"
    return Evidence(
        claim=f"The {size} {circuit.level}s are those of the task, not of these {n} items",
        effect=_spread(f"Jaccard of {circuit.level} sets from resampled items", pairs, what),
        nulls=(Comparison(estimate=_spread("random sets of the same size", beside, what)),),
        seeds=(seed,),
        how=f"Items drawn with replacement, {circuit.level}s chosen by the mean score. n counts {what}; the interval "
        "is the middle 95% of them. At least 0.8 from 100 items is the suggested bar.",
        settings={"resamples": resamples, "by": by, "items": n, "size": size},
    )


def _spread(name: str, values: Tensor, what: str) -> Estimate:
    low, high = torch.quantile(values, torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    span = Interval(low=low, high=high, method=f"middle 95% of {what}")
    return Estimate(name=name, value=float(values.mean()), interval=span, n=len(values))


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """Exact effects of a stratified sample of edges. `edges` [k, 2], `estimated` and `measured` [k].

    An edge matters if ablating it alone costs `matters` of the metric or more. `missed`: an upper bound at 95 % on the
    edges outside the circuit that do.
    """

    edges: Tensor
    estimated: Tensor
    measured: Tensor
    matters: float
    missed: int
    outside: int
    evidence: tuple[Evidence, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "edges": self.edges.tolist(),
            "estimated": self.estimated.tolist(),
            "measured": self.measured.tolist(),
            "matters": self.matters,
            "missed_upper_bound": self.missed,
            "outside": self.outside,
        }

    def __str__(self) -> str:
        return (
            f"Audit: {len(self.edges)} edges ablated for real; at most {self.missed:,} of the {self.outside:,} edges "
            f"left out cost {self.matters:.3g} of the metric or more when ablated alone (95%)"
        )

    __repr__ = __str__


def audit(
    wires: Wires, circuit: Circuit, task: Any, *, sample: int = 60, matters: float = 0.01, seed: int = 0
) -> Audit:
    """Ablate for real a random sample of edges from four strata: of the circuit and of the rest, the upper quarter by
    |score| and what is below it. `matters`: as a share of |m(N) - m(empty)|.

    The bound on missed edges is hypergeometric in each stratum outside, at a confidence that adds up to 95 %.
    Costs `sample` forwards an item.
    """
    graph = circuit.graph
    generator = torch.Generator().manual_seed(seed)
    rank = circuit.scores.abs()
    strata = [part for inside in (True, False) for part in _halves(graph, circuit.members == inside, rank)]
    shares = (1, 1, 3, 3)  # most of the sample where edges may have been missed
    drawn = [
        s[torch.randperm(len(s), generator=generator)[: max(1, sample * share // sum(shares))]]
        for s, share in zip(strata, shares)
    ]
    asked = torch.zeros(graph.exists.numel(), dtype=torch.bool)
    asked[torch.cat(drawn)] = True
    ablation = str(circuit.choices["ablation"])
    found = exact(wires, graph, task, ablation, edges=asked.reshape(graph.exists.shape))
    effects = found.mean(0).flatten()
    empty, whole = measure(
        wires, graph, task, torch.stack([torch.zeros_like(graph.exists), graph.exists]), ablation
    ).mean(1)
    least = matters * abs(float(whole - empty))
    confidence = 1 - 0.05 / max(1, sum(bool(len(s)) for s in strata[2:]))
    hits = [int((effects[d].abs() >= least).sum()) for d in drawn]
    counted = [hit * len(s) / len(d) if len(d) else 0.0 for hit, s, d in zip(hits, strata, drawn)]  # scaled up
    missed = sum(
        upper_bound(hit, len(d), len(s), confidence) for hit, s, d in zip(hits[2:], strata[2:], drawn[2:]) if len(s)
    )
    outside = sum(len(s) for s in strata[2:])
    index = asked.nonzero()[:, 0]
    estimated, measured = circuit.scores.flatten()[index], effects[index]
    settings = {"sample": len(index), "matters": least, "seed": seed, "ablation": ablation, "items": len(task)}
    how = f"{len(index)} edges in four strata (in and out of the circuit, upper quarter by |score| and the rest)."
    pair = estimated.abs().numpy(), measured.abs().numpy()
    agreement = correlation(*pair, name="Spearman of |estimated|, |exact|", over="edges", seed=seed)
    order = [torch.randperm(len(index), generator=generator).numpy() for _ in range(200)]
    shuffled = torch.as_tensor(spearman(np.stack([pair[0][o] for o in order]), np.stack([pair[1]] * 200)))
    bounds = Interval(low=float(sum(hits[2:])), high=float(missed), method="hypergeometric, by stratum")
    left_out = Estimate(name="edges missed", value=sum(counted[2:]), interval=bounds, n=len(index))
    by_chance = Estimate(
        name="expected of a random circuit of this size", value=sum(counted) * outside / graph.n_edges, n=len(index)
    )
    evidence = (
        Evidence(
            claim=f"{circuit.choices['method']} ranks edges as ablating each of them does",
            effect=agreement,
            nulls=(Comparison(estimate=_spread("scores shuffled", shuffled, "200 shuffles")),),
            seeds=(seed,),
            how=how,
            settings=settings,
        ),
        Evidence(
            claim="The circuit leaves out few edges that matter by themselves",
            effect=left_out,
            better="lower",
            nulls=(Comparison(estimate=by_chance),),
            seeds=(seed,),
            how=f"{how} An edge matters if ablating it alone costs {least:.3g} of the metric ({matters:.0%} of what "
            "ablating everything does). Edges that back one another up do not show singly.",
            settings=settings,
        ),
    )
    pairs = torch.stack([index // graph.exists.shape[1], index % graph.exists.shape[1]], 1)
    return Audit(pairs, estimated, measured, least, int(missed), outside, evidence)


def _halves(graph: Graph, where: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Flat indices of existing edges `where`, cut into the upper quarter by rank and the rest."""
    index = (where & graph.exists).flatten().nonzero()[:, 0]
    order = index[rank.flatten()[index].argsort(descending=True, stable=True)]
    cut = -(-len(order) // 4)
    return order[:cut], order[cut:]


def upper_bound(hits: int, drawn: int, population: int, confidence: float = 0.95) -> int:
    """The most of `population` that may be hits, when a sample of `drawn` without replacement holds `hits` of them:
    the largest K with P(at most `hits` | K) >= 1 - confidence (hypergeometric)."""
    low, high = hits, population - (drawn - hits)
    while low < high:
        middle = (low + high + 1) // 2
        if stats.hypergeom.cdf(hits, population, middle, drawn) >= 1 - confidence - 1e-12:
            low = middle
        else:
            high = middle - 1
    return low


def against_truth(scores: Tensor, exists: Tensor, truth: Tensor) -> tuple[Estimate, Estimate]:
    """(AUROC over the full ranking by |score|, precision among as many edges as are true), of scores [source,
    destination]. Ties count by half in the AUROC; in the precision a tie at the cut counts in proportion."""
    s: NDArray[np.float64] = scores[exists].abs().double().numpy()
    labels = truth[exists].numpy()
    n = int(labels.sum())
    area = auroc(s, labels)
    if n == 0:
        return area, Estimate(name="precision at the true size", value=float("nan"), n=0)
    cut = np.sort(s)[::-1][n - 1]
    above, tied = s > cut, s == cut
    right = labels[above].sum() + (n - above.sum()) * labels[tied].mean()
    return area, Estimate(name="precision at the true size", value=float(right / n), n=n)
