"""The exam of `circuits/`: every method on compiled programs, whose structural and causal edges are known, and on
networks trained to be programs, whose nodes are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.core import Estimate, InputError, read_json, write_json
from cutaway.exams.circuit_laws import Held, held, laws
from cutaway.exams.circuit_subjects import Program, Subject, Trained, Truth, margin

QUICK = ("length", "hist", "double_hist", "frac_prevs", "sort", "shift")
QUICK_TRAINED = ("hist", "shift")
QUICK_LEFT_OUT = ("acdc-metric", "eap-ig-activations", "edge-pruning")  # slow, and like one that is in
PAIRS, QUICK_PAIRS = 512, 256
SCORED = 64  # items that methods score on
FEW = 16  # items for those that search or train: a forward an edge and threshold, or hundreds of them
FEWER, LARGE = 8, 400  # as many items for those on graphs of more edges than this
SLOW = ("acdc", "acdc-metric", "subnetwork-probing", "edge-pruning")
DRAWS = 100  # random rankings
TIED = 1e-7  # scores below this share of the largest count as equal
SHOWN = ("exact", "acdc", "eap-ig", "eap")  # on the line of a subject
PART = "cutaway.exam-circuits-part/1"
FIGURES = ("AUROC", "precision at the true size")

__all__ = ["Program", "Subject", "Trained", "circuits_exam", "margin"]

Found = Mapping[str, tuple[Estimate, Estimate]]
"""What is known -> (AUROC, precision at the true size) of one method on one subject; no entry where nothing or
everything is true."""
Say = Callable[[str], None]


def circuits_exam(
    *, quick: bool = False, seed: int = 0, say: Say | None = None, keep: Path | None = None
) -> list[dict[str, Any]]:
    """Laws of the masked forward and of exact patching, which pass or fail; then each method's AUROC over the full
    ranking and its precision at the true size, which are reported, beside random rankings.

    Items: 512 pairs of inputs of one length and a position, drawn by the seed. For the laws the metric is whether the
    output is right, so that an edge scores where ablating it changes an output, as in the truth; methods are scored by
    the margin, logit(right output) - the best other logit, which has a gradient, on 64 of the items (those that search
    or train: 16, of graphs of more than 400 edges 8), whose counterfactual has another output wherever there are so
    many. Scores below 1e-7 of the largest are ties. A node's score is the largest |score| of its edges, but for methods
    of nodes, which have no edges to rank.
    `say` gets a line a subject. `keep`: a folder for what each subject gave; those that are there are not examined
    again. `quick`: 6 programs, 2 trained networks, 256 pairs and all but three methods.
    """
    from cutaway.circuits import METHODS
    from cutaway.toys.rasp import program_names
    from cutaway.toys.siit.shipped import names as trained_names

    tell = say or (lambda _: None)
    pairs = QUICK_PAIRS if quick else PAIRS
    methods = [name for name in METHODS if not (quick and name in QUICK_LEFT_OUT)]
    programs = QUICK if quick else program_names()
    networks = QUICK_TRAINED if quick else trained_names()
    checked: list[Held] = []
    scored: dict[str, dict[str, dict[str, tuple[Found, float]]]] = {"program": {}, "network": {}}
    everything = [*((Program, n) for n in programs), *((Trained, n) for n in networks)]
    for i, (make, name) in enumerate(everything):
        place = None if keep is None else keep / f"{make.about}-{name}-{pairs}-{seed}.json"
        begun = time.process_time()
        if place is not None and place.is_file():
            law, found = _read(place)
        else:
            subject = make(name, pairs, seed)
            law = held(subject) if isinstance(subject, Program) else None
            found = {method: _score(subject, method, seed) for method in methods}
            if place is not None:
                _write(place, law, found)
        checked += [] if law is None else [law]
        scored[make.about][name] = found
        tell(_line(f"{i + 1} of {len(everything)}: {make.about} {name}", law, found, time.process_time() - begun))
    rows = laws(checked)
    for method in methods:
        for about, of in scored.items():
            rows += _means(method, METHODS[method].cost, [one[method] for one in of.values()], f"{about}s", seed)
    for name, each in scored["program"].items():
        for method, (found, seconds) in each.items():
            rows += _one(name, method, found, seconds)
    return rows


def _line(which: str, law: Held | None, scored: Mapping[str, tuple[Found, float]], seconds: float) -> str:
    first = next(iter(next(iter(scored.values()))[0]))
    areas = {method: found[first][0].value for method, (found, _) in scored.items() if first in found}
    known = ", ".join(f"{method} {areas[method]:.2f}" for method in SHOWN if method in areas)
    laws_ = "" if law is None else f" laws {'hold' if law.ok else 'FAIL'};"
    return f"  {which}:{laws_} AUROC of {first}: {known}; {seconds:.0f} s"


def _write(place: Path, law: Held | None, found: Mapping[str, tuple[Found, float]]) -> None:
    """What one subject gave, so that an exam that is ended goes on where it was."""
    methods = {
        method: {
            "seconds": seconds,
            "found": {k: [e.model_dump(mode="json") for e in pair] for k, pair in each.items()},
        }
        for method, (each, seconds) in found.items()
    }
    write_json(place, {"schema": PART, "laws": None if law is None else asdict(law), "methods": methods})


def _read(place: Path) -> tuple[Held | None, dict[str, tuple[Found, float]]]:
    value = read_json(place)
    if value.get("schema") != PART:
        raise InputError(f"{place} is no part of an exam; name another file to write to.")

    def estimates(pair: list[Any]) -> tuple[Estimate, Estimate]:
        area, precision = (Estimate.model_validate(one) for one in pair)
        return area, precision

    found = {
        method: ({k: estimates(pair) for k, pair in each["found"].items()}, float(each["seconds"]))
        for method, each in value["methods"].items()
    }
    return None if value["laws"] is None else Held(**value["laws"]), found


def _score(subject: Subject, method: str, seed: int) -> tuple[Found, float]:
    """(AUROC and precision against each truth that the method ranks, CPU seconds)."""
    from cutaway.circuits import METHODS, against_truth

    ranked = {n: t for n, t in subject.truths.items() if t.level == "node" or METHODS[method].level == "edge"}
    ranked = {n: t for n, t in ranked.items() if 0 < int(t.true[t.among].sum()) < int(t.among.sum())}
    if method == "random":
        return {name: _by_chance(truth, seed) for name, truth in ranked.items()}, 0.0
    size, seconds = _sizes(subject, method, seed)
    nodes = torch.where(subject.exists, size, 0.0).amax(1)
    by_level = {"edge": size, "node": nodes}
    found = {n: against_truth(by_level[t.level], t.among, t.true) for n, t in ranked.items()}
    return found, seconds


def _sizes(subject: Subject, method: str, seed: int) -> tuple[Tensor, float]:
    """(by how much each edge moves the metric, in either direction, a mean over items; CPU seconds)."""
    from cutaway.circuits import METHODS, exact
    from cutaway.circuits.methods import Settings

    few = FEW if subject.graph.n_edges <= LARGE else FEWER
    task = subject.items(few if method in SLOW else SCORED)
    begun = time.process_time()
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
    return size, time.process_time() - begun


def _by_chance(truth: Truth, seed: int) -> tuple[Estimate, Estimate]:
    """(AUROC, precision) of random rankings: the mean of DRAWS, and the middle 95 % of them."""
    from cutaway.circuits import against_truth
    from cutaway.core import Interval

    generator = torch.Generator().manual_seed(seed)
    drawn = [
        against_truth(torch.rand(truth.among.shape, generator=generator), truth.among, truth.true) for _ in range(DRAWS)
    ]
    found = []
    for estimates in zip(*drawn):
        values = torch.tensor([one.value for one in estimates], dtype=torch.float64)
        low, high = torch.quantile(values, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        span = Interval(low=low, high=high, method=f"middle 95% of {DRAWS} rankings")
        found.append(estimates[0].model_copy(update={"value": float(values.mean()), "interval": span}))
    return found[0], found[1]


def _means(
    method: str, cost: str, scored: Sequence[tuple[Found, float]], over: str, seed: int
) -> list[dict[str, Any]]:  # fmt: skip
    """A method's means over subjects in which something is true and something not, with intervals over them."""
    from cutaway.evidence import bootstrap

    rows = []
    for what in dict.fromkeys(kind for found, _ in scored for kind in found):
        for which, figure in enumerate(FIGURES):
            known = [found[what][which].value for found, _ in scored if what in found]
            mean = bootstrap(known, name=figure, over=over, seed=seed)
            rows.append(
                {
                    "name": f"{method}: {figure}, {what}, mean of {len(known)} {over}",
                    "truth": None,
                    "estimate": mean.value,
                    "interval": None if mean.interval is None else [mean.interval.low, mean.interval.high],
                    "n": len(known),
                    "tolerance": None,
                    "passed": None,
                    "cost": cost,
                    "seconds": round(sum(seconds for _, seconds in scored), 2),
                    "table": [f"{figure}, mean of {over} [95 %]", method, what],
                    "spread": True,
                }
            )
    return rows


def _one(name: str, method: str, found: Found, seconds: float) -> list[dict[str, Any]]:
    """A method on one program: its causal edges; the structural ones where no edge or every edge is causal; of a method
    of nodes its nodes. No row where there is nothing to tell apart."""
    if not found:
        return []
    kind = next(iter(found))
    area, precision = found[kind]
    return [
        {
            "name": f"{name}, {method}: AUROC, {kind}",
            "truth": None,
            "estimate": area.value,
            "interval": None if area.interval is None else [area.interval.low, area.interval.high],
            "n": area.n,
            "tolerance": None,
            "passed": None,
            "precision": precision.value,
            "seconds": round(seconds, 3),
            "table": [f"AUROC, {kind}, of each program", method, name],
        }
    ]
