"""The exam of `circuits/`: every method on compiled programs, whose structural and causal edges are known, and on
networks trained to be programs, whose nodes are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cutaway.exams.circuit_laws import laws
from cutaway.exams.circuit_subjects import KINDS, Subject, Trained, margin

QUICK = ("length", "hist", "double_hist", "frac_prevs", "sort", "shift")
QUICK_TRAINED = ("hist", "shift")
QUICK_LEFT_OUT = ("acdc-metric", "eap-ig-activations", "edge-pruning")  # slow, and like one that is in
PAIRS, QUICK_PAIRS = 512, 256
SCORED = 64  # items that methods score on
FEW = 16  # items for those that search or train: a forward an edge, or a hundred of them
SLOW = ("acdc", "acdc-metric", "subnetwork-probing", "edge-pruning")
DRAWS = 100  # random rankings
TIED = 1e-7  # scores below this share of the largest count as equal

__all__ = ["Subject", "Trained", "circuits_exam", "margin"]


def circuits_exam(*, quick: bool = False, seed: int = 0) -> list[dict[str, Any]]:
    """Laws of the masked forward and of exact patching, which pass or fail; then each method's AUROC over the full
    ranking of edges and its precision at the true size, which are reported.

    Items: pairs of inputs of one length and a position, drawn by the seed. For the laws the metric is whether the
    output is right, so that an edge scores where ablating it changes an output, as in the truth; methods are scored by
    the margin, logit(right output) - the best other logit, which has a gradient. Methods that search or train take 16
    items, the others 64. Scores below 1e-7 of the largest are ties. Trained networks: a node's score is that of its
    edges, the largest |score|; an edge is true if the program has it. All of it takes some three minutes on one core;
    `quick`: 6 programs, 2 trained networks and all but three methods, half a minute.
    """
    from cutaway.circuits import METHODS
    from cutaway.toys.rasp import compile_program, program, program_names
    from cutaway.toys.siit.shipped import names as trained_names

    pairs = QUICK_PAIRS if quick else PAIRS
    names = QUICK if quick else program_names()
    subjects = [Subject(compile_program(program(name)), pairs, seed) for name in names]
    rows = laws(subjects)
    methods = [name for name in METHODS if METHODS[name].level == "edge" and not (quick and name in QUICK_LEFT_OUT)]
    trained = [Trained(name, SCORED, seed) for name in (QUICK_TRAINED if quick else trained_names())]
    scored: dict[str, list[dict[str, Any]]] = {}
    for method in methods:
        scored[method] = [_score(subject, method, seed) for subject in subjects]
        rows += _means(method, METHODS[method].cost, scored[method], KINDS, "programs", seed)
        rows += _means(
            method, METHODS[method].cost, [_nodes(one, method, seed) for one in trained], WHAT, "networks", seed
        )
    for i, subject in enumerate(subjects):
        rows += [_one(subject, method, scored[method][i]) for method in methods]
    return rows


WHAT = ("nodes of the circuit", "edges of the program")


def _score(subject: Subject, method: str, seed: int) -> dict[str, Any]:
    """AUROC and precision against both truths, and seconds."""
    from cutaway.circuits import against_truth

    if method == "random":
        return {"seconds": 0.0, **{kind: _by_chance(subject.truth[kind], subject.exists, seed) for kind in KINDS}}
    size, seconds = _sizes(subject, method, seed)
    found = {kind: against_truth(size, subject.exists, subject.truth[kind]) for kind in KINDS}
    return {"seconds": seconds, **found}


def _nodes(subject: Trained, method: str, seed: int) -> dict[str, Any]:
    """The same of a trained network: its nodes, and the edges that its program has."""
    from cutaway.circuits import against_truth

    inside, edges = subject.nodes[1:, None], subject.truth["structural"]  # the input is in every circuit
    every = torch.ones_like(inside)
    if method == "random":
        by_chance = _by_chance(inside, every, seed), _by_chance(edges, subject.exists, seed)
        return {"seconds": 0.0, **dict(zip(WHAT, by_chance))}
    size, seconds = _sizes(subject, method, seed)
    best = torch.where(subject.exists, size, 0.0).amax(1)[1:, None]
    found = against_truth(best, every, inside), against_truth(size, subject.exists, edges)
    return {"seconds": seconds, **dict(zip(WHAT, found))}


def _sizes(subject: Subject | Trained, method: str, seed: int) -> tuple[Tensor, float]:
    """(by how much each edge moves the metric, in either direction, a mean over items; seconds)."""
    from cutaway.circuits import METHODS, exact
    from cutaway.circuits.methods import Settings
    from cutaway.core import InputError

    begun = time.process_time()
    task = subject.task.take(range(min(len(subject.task), FEW if method in SLOW else SCORED)))
    if method == "exact":
        scores = exact(subject.wires, subject.graph, task, edges=subject.exists, tokens=8192).nan_to_num(0)
    else:
        try:
            scores = METHODS[method].score(subject.wires, subject.graph, task, Settings("resample", 5, seed)).double()
        except InputError as error:  # no ablation changes the output: there is nothing to search for
            if "the output is what it was" not in str(error):
                raise
            scores = torch.zeros(1, *subject.exists.shape, dtype=torch.float64)
    size = scores.abs().mean(0)
    # Below float32's precision an order is one of rounding, or of exp(-60) where a softmax is saturated: a tie.
    size = torch.where(size < TIED * size.max(), 0.0, size)
    return size, round(time.process_time() - begun, 3)


def _by_chance(truth: Tensor, exists: Tensor, seed: int) -> tuple[Any, ...]:
    """(AUROC, precision) of random rankings: the mean of DRAWS, and the middle 95 % of them."""
    from cutaway.circuits import against_truth
    from cutaway.core import Interval

    generator = torch.Generator().manual_seed(seed)
    drawn = [against_truth(torch.rand(exists.shape, generator=generator), exists, truth) for _ in range(DRAWS)]
    found = []
    for estimates in zip(*drawn):
        values = torch.tensor([one.value for one in estimates], dtype=torch.float64)
        low, high = torch.quantile(values, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        span = Interval(low=low, high=high, method=f"middle 95% of {DRAWS} rankings")
        found.append(estimates[0].model_copy(update={"value": float(values.mean()), "interval": span}))
    return tuple(found)


def _means(
    method: str, cost: str, scored: Sequence[dict[str, Any]], kinds: Sequence[str], over: str, seed: int
) -> list[dict[str, Any]]:
    """A method's means over subjects, with intervals over them."""
    from cutaway.evidence import bootstrap

    rows = []
    for kind in kinds:
        named = f"{kind} edges" if kind in KINDS else kind
        for which, what in enumerate(("AUROC", "precision at the true size")):
            values = [one[kind][which].value for one in scored]
            known = [value for value in values if value == value]
            mean = bootstrap(known, name=what, over=over, seed=seed)
            span = mean.interval
            rows.append(
                {
                    "name": f"{method}: {what}, {named}, mean of {len(known)} {over}",
                    "truth": None,
                    "estimate": mean.value,
                    "interval": None if span is None else [span.low, span.high],
                    "n": len(known),
                    "tolerance": None,
                    "passed": None,
                    "cost": cost,
                    "seconds": round(sum(one["seconds"] for one in scored), 2),
                }
            )
    return rows


def _one(subject: Subject, method: str, scored: dict[str, Any]) -> dict[str, Any]:
    whole = subject.truth["causal"].sum() in (0, int(subject.exists.sum()))
    kind = "structural" if whole else "causal"
    area, precision = scored[kind]
    span = area.interval
    return {
        "name": f"{subject.name}, {method}: AUROC, {kind} edges",
        "truth": None,
        "estimate": area.value,
        "interval": None if span is None else [span.low, span.high],
        "n": area.n,
        "tolerance": None,
        "passed": None,
        "precision": precision.value,
        "true_edges": {kind: int(subject.truth[kind].sum()) for kind in KINDS},
        "structural": scored["structural"][0].value,
        "seconds": scored["seconds"],
    }
