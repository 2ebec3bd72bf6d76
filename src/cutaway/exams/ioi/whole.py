"""Indirect objects, whole: the heads that do them in a model, what each does, and how far to believe it.

After Wang et al., "Interpretability in the Wild" (2022): find, name by behaviour, and hold to faithfulness,
completeness and minimality; beside random circuits, the simplest ranking, and a model that learned nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cutaway.circuits import (
    Circuit,
    Minimality,
    Wires,
    faithfulness,
    heads_circuit,
    jaccard,
    minimality,
    opened,
)
from cutaway.circuits.completeness import halves
from cutaway.circuits.faithfulness import Ablations, of_values
from cutaway.circuits.score import HELD_TO, held_to
from cutaway.core import Comparison, Estimate, Evidence, InputError, Interval, NotDone
from cutaway.evidence import bootstrap, proportion, rerandomise
from cutaway.exams.ioi.behaviours import Behaviours, behaviours, joint, ports, through
from cutaway.exams.ioi.classes import ALPHA, Named, movers, name_classes
from cutaway.exams.ioi.published import beside_published, has_its_shape
from cutaway.exams.ioi.result import Criterion, IOICase
from cutaway.exams.ioi.search import BAND, Trials, resampled, single_effects, smallest
from cutaway.model import Model
from cutaway.tasks import TaskWarning
from cutaway.tasks import task as make

ABLATIONS = ("resample", "mean")
Say = Callable[[str], None]


def ioi_case(
    model: Model,
    *,
    n: int = 128,
    draws: int = 100,
    resamples: int = 10,
    quick: bool = False,
    force: bool = False,
    seed: int = 0,
    say: Say | None = None,
) -> IOICase:
    """The circuit of indirect objects in a model, in heads; half of the `n` items to find it on, half to judge it on.

    Other names stand in the counterfactual (ABC), from which both ablations take their values: resample those of the
    item, mean those of its template. `quick`: fewer items, draws and resamples. `force`: also where the model does not
    do the task. Costs, in forwards of half the items: about 2 (heads^2 / 2 + draws), 6 a head, and 30 a head found.
    Raises InputError for a model that does not do the task (the figures are said), and where nothing can be found.
    """
    tell = say or (lambda _: None)
    n, draws, resamples = (min(n, 64), min(draws, 40), min(resamples, 4)) if quick else (n, draws, resamples)
    task = make("ioi", model, n=n, seed=seed, counterfactual="abc")
    tell(f"Whether {model.name} does it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TaskWarning)  # it is said by the error, or in the result
        competence = make("ioi", model, n=n, seed=seed).check(model)
    if competence.does == "no" and not force:
        raise InputError(
            f"{competence.verdict} A circuit of it would be of nothing: none is named (--force names one all the same)."
        )
    wires = opened(model)
    found_on, judged_on = _cut(task, seed)
    trials, judged = (Trials(wires, wires.split, items, ABLATIONS) for items in (found_on, judged_on))
    tell(f"Taking heads out, of {len(trials.heads)}")
    heads = smallest(trials)
    single = single_effects(trials)
    circuit = _circuit(wires, found_on, judged_on, heads, single, seed)
    tell(f"{len(heads)} heads are left; what every head does")
    measured, named = _named(model, wires, judged_on, judged, heads, seed)
    tell(f"Faithfulness beside {draws} random circuits")
    evidence, criteria, parts = _faithful(wires, circuit, judged, heads, single, draws, seed)
    flipped = _cut(make("ioi", model, n=n, seed=seed, counterfactual="flip"), seed)[1]
    kinds = [
        faithfulness(wires, circuit, judged_on, "zero", seed=seed),
        faithfulness(wires, circuit, flipped, seed=seed),
    ]
    parts["faithfulness"] = Ablations((*parts["faithfulness"], kinds[0]))
    knocked: dict[str, Any] = {"groups": named.inside, "choose_on": found_on, "seed": seed}
    parts.update(held_to(wires, circuit, judged_on, quick=quick, say=tell, **knocked))
    tell("Minimality under the other ablation")
    other = minimality(
        wires, circuit, judged_on, ablation=ABLATIONS[1], draws=4 if quick else 12, null_parts=0, **knocked
    )
    parts["minimality_mean"] = other
    needed = _needed((parts["minimality"], other))
    criteria.append(
        Criterion("heads shown to be needed (minimality)", len(needed), f"all {len(heads)}", len(needed) == len(heads))
    )
    tell(f"The same search on {resamples} resamples of the items")
    evidence.append(_stability(trials, heads, resamples, seed))
    evidence.append(_learned(wires, circuit, heads, judged, found_on, seed))
    evidence.append(_classes_beside(model, named, heads, judged_on, seed, quick))
    if has_its_shape(model.facts):
        evidence.append(beside_published(heads, len(trials.heads)))
    evidence += [item for part in HELD_TO for item in getattr(parts.get(part), "evidence", ())]
    whole = replace(circuit, parts=parts, evidence=tuple(evidence))
    return IOICase(model.name, competence, whole, heads, named, measured, tuple(criteria), kinds[1])


def _cut(task: Any, seed: int) -> tuple[Any, Any]:
    return halves(task, torch.Generator().manual_seed(seed))


def _circuit(
    wires: Wires, found_on: Any, judged_on: Any, heads: tuple[str, ...], single: dict[str, float], seed: int
) -> Circuit:
    graph = wires.split
    scores = torch.zeros(graph.exists.shape, dtype=torch.float64)
    for head, effect in single.items():
        scores[graph.source(head)] = effect
    choices = {
        "model": wires.model.name,
        "fingerprint": wires.model.fingerprint,
        "task": found_on.name,
        "data": found_on.fingerprint,
        "items": found_on.summary(),
        "n": len(found_on),
        "judged_on": len(judged_on),
        "halved": found_on is not judged_on,
        "metric": found_on.metric.name,
        "unit": found_on.metric.unit,
        "ablation": ABLATIONS[0],
        "ablations searched under": list(ABLATIONS),
        "band": BAND,
        "split": True,
        "positions": "all",
        "method": "backward search over heads",
        "steps": None,
        "seed": seed,
    }
    return heads_circuit(graph, heads, choices, scores)


def _named(
    model: Model, wires: Wires, task: Any, trials: Trials, heads: tuple[str, ...], seed: int
) -> tuple[Behaviours, Named]:
    b = behaviours(model, wires, task, seed=seed)
    move, _ = movers(b)
    graph = wires.split
    b.effects["through queries of name movers"] = through(wires, graph, task, b.heads, ports(graph, move, "q"))
    b.effects["alone"], b.effects["joint"] = joint(trials, move)
    inhibit = name_classes(b, heads).inside["S-inhibition"]
    b.effects["through values of S-inhibition"] = through(wires, graph, task, b.heads, ports(graph, inhibit, "v"))
    return b, name_classes(b, heads)


def _faithful(
    wires: Wires, circuit: Circuit, trials: Trials, heads: tuple[str, ...], single: dict[str, float], draws: int,
    seed: int,
) -> tuple[list[Evidence], list[Criterion], dict[str, Any]]:  # fmt: skip
    every, chosen = frozenset(trials.heads), frozenset(heads)
    generator = torch.Generator().manual_seed(seed)
    random = []
    for _ in range(draws):
        order = torch.randperm(len(trials.heads), generator=generator)[: len(heads)].tolist()
        random.append(frozenset(trials.heads[i] for i in order))
    simplest = frozenset(sorted(trials.heads, key=lambda h: -single[h])[: len(heads)])
    c, e, m, *_ = values = trials.run([chosen, frozenset(), every, simplest])
    beside = (1 - trials.faithfulness(random)).abs()  # [draw, ablation]
    share = len(heads) / len(trials.heads)
    criteria = [Criterion("share of heads", share, "<= 0.30", share <= 0.30)]
    evidence, found = [], []
    for i, kind in enumerate(ABLATIONS):
        one = of_values(kind, c[i], e[i], m[i], seed)
        found.append(one)
        f = one.estimate.value
        better = int((beside[:, i] > abs(1 - f)).sum())
        criteria.append(Criterion(f"faithfulness, {kind} ablation", f, "0.85 to 1.15", 0.85 <= f <= 1.15, one.estimate))
        criteria.append(
            Criterion(f"share of random circuits it beats, {kind}", better / draws, ">= 0.95", better >= 0.95 * draws)
        )
        away = np.abs(1 - one.per_item[one.per_item.isfinite()].numpy())
        base = of_values(kind, values[3][i], e[i], m[i], seed)
        low, high = torch.quantile(beside[:, i], torch.tensor([0.025, 0.975], dtype=beside.dtype)).tolist()
        span = Interval(low=low, high=high, method=f"middle 95% of {draws} circuits")
        name = f"{draws} random sets of {len(heads)} heads"
        null = Estimate(name=name, value=float(beside[:, i].mean()), interval=span, n=draws)
        evidence.append(
            Evidence(
                claim=f"{len(heads)} of {len(every)} heads do what all do, the others ablated ({kind})",
                effect=Estimate(name="|1 - faithfulness|", value=abs(1 - f), interval=_away(one.estimate), n=len(away)),
                better="lower",
                nulls=(Comparison(estimate=null),),
                baselines=(
                    Comparison(
                        estimate=Estimate(
                            name="as many heads of the largest single effects", value=abs(1 - base.estimate.value),
                            interval=_away(base.estimate), n=len(away),
                        )
                    ),
                ),
                seeds=(seed,),
                how=f"f = (m(C) - m(no head)) / (m(all) - m(no head)) = {one.estimate}; input and MLPs always in, "
                f"{kind} ablation from other names; on items it was not found on. Nearer to 1 than {better} of {draws} "
                "random sets.",
                settings={"ablation": kind, "heads": list(heads), "simplest": sorted(simplest)},
            )
        )  # fmt: skip
    return evidence, criteria, {"faithfulness": Ablations(tuple(found))}


def _needed(each: Sequence[Minimality]) -> tuple[str, ...]:
    """The heads that the search could not leave out: needed under one of the ablations that it kept them for, p after
    Holm over heads and Bonferroni over ablations."""
    p = {part.name: 1.0 for part in each[0].parts}
    for one in each:
        for part in one.parts:
            p[part.name] = min(p[part.name], part.p_holm * len(each))
    return tuple(name for name, value in p.items() if value <= ALPHA)


def _away(estimate: Estimate) -> Interval | None:
    """The interval of |1 - f| from that of f."""
    if estimate.interval is None:
        return None
    a, b = estimate.interval.low, estimate.interval.high
    low = 0.0 if a <= 1 <= b else min(abs(1 - a), abs(1 - b))
    return Interval(low=low, high=max(abs(1 - a), abs(1 - b)), method=estimate.interval.method)


def _stability(trials: Trials, heads: tuple[str, ...], resamples: int, seed: int) -> Evidence:
    found = resampled(trials, resamples=resamples, seed=seed)
    sets = [torch.tensor([h in one for h in trials.heads]) for one in found]
    pairs = torch.tensor([jaccard(a, b) for i, a in enumerate(sets) for b in sets[:i]])
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randperm(len(trials.heads), generator=generator)[: int(s.sum())] for s in sets for _ in range(10)]
    masks = [torch.zeros(len(trials.heads), dtype=torch.bool).index_fill(0, index, True) for index in drawn]
    beside = torch.tensor([jaccard(masks[i], masks[i + 1]) for i in range(0, len(masks) - 1, 2)])
    frequency = {h: sum(h in one for one in found) / resamples for h in trials.heads}

    def spread(name: str, x: torch.Tensor) -> Estimate:
        low, high = torch.quantile(x, torch.tensor([0.025, 0.975], dtype=x.dtype)).tolist()
        return Estimate(
            name=name,
            value=float(x.mean()),
            n=len(x),
            interval=Interval(low=low, high=high, method="middle 95% of pairs"),
        )

    return Evidence(
        claim="The heads are those of the task, not of these items",
        effect=spread("Jaccard of heads found on resampled items", pairs),
        nulls=(Comparison(estimate=spread("random sets of the same sizes", beside)),),
        seeds=(seed,),
        how=f"The search repeated on {resamples} resamples of {len(trials.task)} items; n counts pairs of them.",
        settings={"resamples": resamples, "frequency": {h: f for h, f in frequency.items() if f > 0}},
    )


def _learned(
    wires: Wires, circuit: Circuit, heads: tuple[str, ...], trials: Trials, found_on: Any, seed: int
) -> Evidence:
    """What as many heads recover in the re-randomised model, chosen there by their single effects."""
    c, e = trials.run([frozenset(heads), frozenset()])[:, 0]
    unit = str(circuit.choices["unit"])
    effect = bootstrap(
        (c - e).tolist(), name="metric recovered, m(C) - m(no head)", over="items", unit=f" {unit}", seed=seed
    )
    null = opened(rerandomise(wires.model, seed=seed))
    there = Trials(null, null.split, found_on, ABLATIONS[:1])
    single = single_effects(there)
    chosen = frozenset(sorted(there.heads, key=lambda h: -single[h])[: len(heads)])
    other = Trials(null, null.split, trials.task, ABLATIONS[:1])
    c, e = other.run([chosen, frozenset()])[:, 0]
    beside = bootstrap((c - e).tolist(), name="as many heads of the re-randomised model", over="items", unit=f" {unit}",
                       seed=seed)  # fmt: skip
    return Evidence(
        claim="What the heads recover was learned",
        effect=effect,
        nulls=(Comparison(estimate=beside),),
        seeds=(seed,),
        how="The re-randomised model (embeddings kept) has nothing to search for; its heads are those of the largest "
        "single effects.",
        settings={"ablation": ABLATIONS[0]},
    )


def _classes_beside(model: Model, named: Named, heads: tuple[str, ...], task: Any, seed: int, quick: bool) -> Evidence:
    """How many heads get a class, beside those of re-randomised models under the same rules."""
    count = sum(bool(named.of(h)) for h in heads)
    got, of = 0, 0
    seeds = (seed + 10,) if quick else (seed + 10, seed + 11)
    for s in seeds:
        twin = rerandomise(model, seed=s)
        wires = opened(twin)
        trials = Trials(wires, wires.split, task, ABLATIONS[:1])
        _, there = _named(twin, wires, task, trials, trials.heads, s)
        got += sum(bool(there.of(h)) for h in trials.heads)
        of += len(trials.heads)
    return Evidence(
        claim=f"The circuit's heads have classes that behaviour names: {count} of {len(heads)}",
        effect=proportion(count, len(heads), name="share of the circuit's heads with a class"),
        nulls=(
            Comparison(
                estimate=proportion(got, of, name="share of the heads of re-randomised models that the rules name")
            ),
        ),
        seeds=(seed,),
        how="The rules are in cutaway.exams.ioi.classes; thresholds on effects are shares of the model's own metric.",
        settings={"inside": {c: list(h) for c, h in named.inside.items()}, "absent": list(named.absent)},
        not_done=(NotDone(what="a second data set", why="one task; another seed of items may be given"),),
    )
