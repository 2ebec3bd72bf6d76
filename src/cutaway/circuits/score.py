"""`score`: everything a circuit is held to, for one just found or one read from a file.

The file holds what its scores depend on (task, items and their hash, metric, ablation, positions, seed), so that it can
be scored again from disk: `cutaway circuit FILE.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cutaway.circuits.circuit import Circuit
from cutaway.circuits.completeness import completeness, halves
from cutaway.circuits.faithfulness import PLAIN, Ablations, curve, faithfulness, random_circuits, ratio
from cutaway.circuits.frequencies import frequencies
from cutaway.circuits.hypotheses import circuit_tests
from cutaway.circuits.judge import audit
from cutaway.circuits.learned import learned
from cutaway.circuits.masked import opened_for
from cutaway.circuits.methods import METHODS
from cutaway.circuits.minimality import minimality
from cutaway.circuits.nodewise import measure_any
from cutaway.circuits.units import emptied, units
from cutaway.circuits.wires import Wires
from cutaway.core import Comparison, Estimate, Evidence, InputError, Interval, NotDone
from cutaway.model import Model

Say = Callable[[str], None]
HELD_TO = ("minimality", "completeness", "tests")


def score(
    model: Model | Wires,
    circuit: Circuit,
    task: Any,
    *,
    found_on: Any = None,
    quick: bool = False,
    seed: int = 0,
    say: Say | None = None,
) -> Circuit:
    """The circuit with its parts and evidence: faithfulness of each item under every plain ablation, beside random
    circuits and the re-randomised model; the curve; completeness; minimality; the five tests; frequencies, where items
    have scores; an audit, where scores are estimates.

    `task`: items that the circuit was not found on; `found_on`: those it was, for its method on the null model.
    `quick`: a fifth of the draws. Costs some 1,000 masked forwards of the items for a circuit of 30 edges (quick: 300).
    Raises InputError for an empty circuit and for one of another model.
    """
    tell = say or (lambda _: None)
    wires = opened_for(model, circuit.graph)
    units(circuit)
    draws = 40 if quick else 100
    ablation = str(circuit.choices["ablation"])
    kinds = list(dict.fromkeys([ablation, *PLAIN]))
    parts: dict[str, Any] = {}
    tell("Faithfulness, beside random circuits")
    parts["faithfulness"] = Ablations(tuple(faithfulness(wires, circuit, task, kind, seed=seed) for kind in kinds))
    evidence = [_faithful(wires, circuit, task, parts["faithfulness"][0].estimate, draws, ablation, seed)]
    evidence.append(learned(wires, circuit, task, found_on or task, seed=seed))
    ranked = bool((circuit.scores != 0).any()) and "always_in" not in circuit.choices
    if ranked:
        tell("Faithfulness over sizes")
        parts["curve"] = curve(wires, circuit, task)
    apart = found_on if circuit.choices.get("halved") else None
    parts.update(held_to(wires, circuit, task, choose_on=apart, quick=quick, seed=seed, say=tell))
    evidence += [item for name in HELD_TO for item in getattr(parts.get(name), "evidence", ())]
    if circuit.per_item is not None:
        parts["frequencies"] = frequencies(circuit, by=circuit.choices.get("by", "absolute"), seed=seed)
        evidence += parts["frequencies"].evidence
    method = METHODS.get(str(circuit.choices.get("method")))
    if ranked and circuit.level == "edge" and (method is None or not method.exact):
        tell("Ablating a sample of edges for real")
        few = task.take(range(min(len(task), 16)))
        parts["audit"] = audit(wires, circuit, few, sample=20 if quick else 60, seed=seed)
        evidence += parts["audit"].evidence
    return replace(circuit, parts=parts, evidence=tuple(evidence))


def held_to(
    wires: Wires,
    circuit: Circuit,
    task: Any,
    *,
    choose_on: Any = None,
    quick: bool = False,
    groups: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    say: Say | None = None,
) -> dict[str, Any]:
    """{"minimality", "completeness", "tests"}: what Wang et al. (2022) and Shi et al. (2024) hold a circuit to.

    `choose_on`: items on which the knockouts K are chosen, so that all of `task` judges. `groups`: parts that
    minimality also knocks out together. A circuit of all parts has no tests.
    """
    tell = say or (lambda _: None)
    few, most = (4, 20) if quick else (12, 60)
    tell("Minimality")
    how: dict[str, Any] = {"choose_on": choose_on, "seed": seed}
    found: dict[str, Any] = {
        "minimality": minimality(wires, circuit, task, groups=groups, draws=few, null_parts=most // 3, most=most, **how)
    }
    tell("Completeness")
    draws, greedy, null = (10, 1, 5) if quick else (40, 3, 10)
    found["completeness"] = completeness(wires, circuit, task, draws=draws, greedy=greedy, null_draws=null, **how)
    if units(circuit).outside:
        tell("Five tests")
        found["tests"] = circuit_tests(wires, circuit, task, draws=60 if quick else 100, most=most, seed=seed)
    return found


def remade(model: Model, circuit: Circuit, task: Any = None) -> tuple[Any, Any]:
    """(items it was found on, items to judge it on), made again from what the circuit's file says of them.

    `task`: the whole task, for one read from a file of pairs. Raises InputError where the items are not those of the
    file (their hash differs), or where the file says too little.
    """
    from cutaway.tasks import task as make

    c = circuit.choices
    items = c.get("items")
    if not isinstance(items, dict) or c.get("data") is None:
        raise InputError("the circuit's file does not say which items it was found on.")
    if task is None:
        n = int(c["n"]) + (int(c["judged_on"]) if c.get("halved") else 0)
        kind = items.get("counterfactual") or None
        try:
            task = make(items["name"], model, n=n, seed=items["seed"], counterfactual=kind, metric=items["metric"])
        except InputError as error:
            raise InputError(f"the items of {items.get('name')} could not be made again: {error}") from None
    if c.get("halved", False):
        found_on, judged_on = halves(task, torch.Generator().manual_seed(int(c["seed"])))
    else:
        found_on = judged_on = task
    if found_on.fingerprint != c["data"]:
        raise InputError(
            f"the items of {items.get('name')} are not those that the circuit was found on: their hash is "
            f"{found_on.fingerprint}, the file's {c['data']}. For a task from a file of pairs give it: --pairs FILE."
        )
    if c.get("fingerprint") not in (None, model.fingerprint):
        raise InputError(
            f"the circuit was found in another model than {model.name}: fingerprint {c['fingerprint']} in the file, "
            f"{model.fingerprint} of the model."
        )
    return found_on, judged_on


def _faithful(wires: Wires, circuit: Circuit, task: Any, f: Estimate, draws: int, ablation: str, seed: int) -> Evidence:
    graph = circuit.graph
    masks = torch.cat([random_circuits(graph, circuit, draws, seed), emptied(circuit)[None], graph.exists[None]])
    values = measure_any(wires, graph, task, masks, ablation).numpy()
    beside = ratio(values[:-2], values[-2:-1], values[-1:])
    low, high = (float(x) for x in np.quantile(beside, [0.025, 0.975]))
    span = Interval(low=low, high=high, method=f"middle 95% of {draws} circuits")
    nearer = int((np.abs(1 - beside) > abs(1 - f.value)).sum())
    what = "nodes" if circuit.level == "node" else "paths"
    null = Estimate(name=f"{draws} random circuits of this size, of {what}", value=float(beside.mean()), interval=span,
                    n=draws)  # fmt: skip
    keys = ("method", "ablation", "split", "positions", "data", "metric")
    return Evidence(
        claim=f"{len(units(circuit).inside)} {'nodes' if circuit.level == 'node' else 'edges'} do what the model does",
        effect=f,
        nulls=(Comparison(estimate=null),),
        seeds=(seed,),
        how=f"(m(C) - m(empty)) / (m(N) - m(empty)), {ablation} ablation. Nearer to 1 than {nearer} of {draws} random "
        "circuits.",
        settings={key: circuit.choices.get(key) for key in keys},
        not_done=() if circuit.choices.get("halved") else (NotDone(what="other items", why="the task was not halved"),),
    )
