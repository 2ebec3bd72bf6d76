"""`discover`: find a task's circuit on one half of its items, and judge it on the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cutaway.circuits.circuit import By, Circuit
from cutaway.circuits.faithfulness import PLAIN, Ablations, curve, faithfulness, of_values, random_circuits, ratio
from cutaway.circuits.judge import audit, stability
from cutaway.circuits.learned import learned
from cutaway.circuits.masked import measure, opened
from cutaway.circuits.methods import METHODS, CircuitWarning, check_task, score_edges
from cutaway.circuits.neurons import score_neurons
from cutaway.circuits.wires import Wires
from cutaway.core import Comparison, Estimate, Evidence, InputError, Interval, NotDone, refuse_name
from cutaway.evidence import bootstrap, bootstrap_difference
from cutaway.model import Model

SHARES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5)
FAITHFUL = 0.85
Check = Literal["full", "quick", "none"]
Say = Callable[[str], None]


def discover(
    model: Model,
    task: Any,
    method: str = "eap-ig",
    *,
    size: int | None = None,
    ablation: str = "resample",
    split: bool = True,
    steps: int = 5,
    points: str = "right",
    by: By = "absolute",
    check: Check = "full",
    seed: int = 0,
    positions: Sequence[str] | str | None = None,
    neurons: int | Sequence[str] = (),
    say: Say | None = None,
) -> Circuit:
    """The circuit of a task: scores by a method (see METHODS), the top `size` edges, and the evidence.

    Items are cut in two by `seed`: scores and, where it is not given, the size come from one half (the smallest of a
    list whose faithfulness there reaches 0.85), everything that is reported from the other.
    `positions`: edges apart by named positions; `points`: of the line of eap-ig; see `score_edges`.
    `neurons` (m2.n17, …): sources of their own beside the rest of their MLPs; a number: as many as score highest on the
    items to find on (`score_neurons`, 2F + 1B).
    `split`: queries, keys and values are destinations of their own. `by`: edges by |score| or by score.
    `check`: "full": 100 random circuits of the same size, the same method on the re-randomised model, the baseline
    that ranks edges by how far messages move, three ablations, a curve, bootstrap stability and an audit by exact
    patching; "quick": a fifth of the random circuits and of the audit; "none": the scores and the size alone.
    Costs the method (see METHODS), then about 150 masked forwards of half the items in full.
    Raises UnknownName, InputError.
    """
    refuse_name("discover", model=model, task=task)
    tell = say or (lambda _: None)
    if check not in ("full", "quick", "none"):
        raise InputError(f"check is 'full', 'quick' or 'none'; given {check!r}.")
    check_task(task, ablation)  # before the halves, whose items have other numbers
    found_on, judged_on, halved = _halves(task, seed)
    if isinstance(neurons, int) and neurons:
        tell("Scoring neurons")
        neurons = _best(model, found_on, neurons, ablation, seed)
    wires = opened(model, neurons or ())
    how: dict[str, Any] = {"ablation": ablation, "split": split, "steps": steps, "seed": seed}
    how |= {"positions": positions, "points": points}
    tell(f"Scoring edges by {method}")
    scored = score_edges(wires, found_on, method, **how)
    given = size is not None
    if size is None:
        tell("Choosing a size")
        size = _size(wires, scored, found_on, by)
    circuit = scored.top(size, by)
    if circuit.size == circuit.graph.n_edges:
        warnings.warn(
            f"the circuit of {task.name} is the whole graph, {circuit.size:,} edges: it is the model, and faithful "
            "whatever the scores are.",
            CircuitWarning,
            stacklevel=2,
        )
    choices = {**circuit.choices, "by": by, "size_given": given, "judged_on": len(judged_on), "halved": halved}
    circuit = replace(circuit, choices=choices)
    if check == "none":
        return circuit
    full = check == "full"
    parts: dict[str, Any] = {}
    evidence = list(_faithful(wires, circuit, judged_on, found_on, how, 100 if full else 20, by, parts, halved, tell))
    tell("Faithfulness over sizes")
    parts["curve"] = curve(wires, circuit, judged_on)
    if circuit.per_item is not None and method != "random":
        evidence.append(stability(circuit, by=by, resamples=200 if full else 50, seed=seed))
    if METHODS[method].level == "edge" and not METHODS[method].exact:
        tell("Ablating a sample of edges for real")
        audited = audit(
            wires, circuit, judged_on.take(range(min(len(judged_on), 16))), sample=60 if full else 12, seed=seed
        )
        parts["audit"] = audited
        evidence += audited.evidence
    return replace(circuit, evidence=tuple(evidence), parts=parts)


def _best(model: Model, task: Any, n: int, ablation: str, seed: int) -> list[str]:
    """The names of the n neurons of largest |score|."""
    if n < 0:
        raise InputError(f"neurons apart are names (m2.n17) or a number from 0; given {n}.")
    kind: Any = "resample" if ablation == "optimal" else ablation
    return [name for name, _ in score_neurons(model, task, ablation=kind, check=0, seed=seed).top(n)]


def _halves(task: Any, seed: int) -> tuple[Any, Any, bool]:
    """(items to find on, items to judge on, whether they differ)."""
    n = len(task)
    if n < 8:
        return task, task, False
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return task.take(order[: n // 2].sort().values), task.take(order[n // 2 :].sort().values), True


def _size(wires: Wires, scored: Circuit, task: Any, by: By) -> int:
    """The smallest size whose faithfulness reaches FAITHFUL on these items; half of all where none does."""
    found = curve(wires, scored, task, shares=SHARES)
    values = found.absolute if by == "absolute" else found.signed
    return next((size for size, f in zip(found.sizes, values) if f >= FAITHFUL), found.sizes[-1])


def _faithful(
    wires: Wires, circuit: Circuit, task: Any, found_on: Any, how: dict[str, Any], draws: int, by: By,
    parts: dict[str, Any], halved: bool, tell: Say,
) -> list[Evidence]:  # fmt: skip
    """What the circuit does by itself, beside random circuits, the baseline and the re-randomised model."""
    graph, ablation, seed = circuit.graph, str(how["ablation"]), int(how["seed"])
    nodes = circuit.level == "node"
    size = circuit.count
    tell(f"{draws} random circuits of the same size")
    simple = replace(score_edges(wires, found_on, "change", **{**how, "points": "right"}), level=circuit.level).top(
        size
    )
    fixed = [circuit.members, torch.zeros_like(circuit.members), graph.exists, simple.members]
    # Edges drawn evenly are seldom on a path: circuits made of paths are the null that can carry something.
    evenly = max(10, draws // 5)
    masks = [torch.stack(fixed), random_circuits(graph, circuit, draws, seed)]
    masks.append(random_circuits(graph, circuit, evenly, seed, "edges"))
    values = measure(wires, graph, task, torch.cat(masks), ablation)
    c, e, m, baseline = values[:4]
    main = of_values(ablation, c, e, m, seed)
    tell("The other ablations, and the same method on the re-randomised model")
    others = [faithfulness(wires, circuit, task, kind, seed=seed) for kind in PLAIN if kind != ablation]
    parts["faithfulness"] = Ablations((main, *others))
    beside = torch.as_tensor(ratio(values[4:].numpy(), e[None].numpy(), m[None].numpy()))
    gap = np.stack([c.numpy(), e.numpy(), m.numpy()]), np.stack([baseline.numpy(), e.numpy(), m.numpy()])
    simplest = bootstrap(
        baseline.tolist(), e.tolist(), m.tolist(), statistic=ratio,
        name=f"{circuit.level}s whose messages move most", over="items", seed=seed,
    )  # fmt: skip
    what_of = "nodes" if nodes else "paths"
    random = _drawn(f"{draws} random circuits of this size, of {what_of}", beside[:draws])
    loose = _drawn(f"{evenly} random circuits of this size, of edges", beside[draws:])
    settings = {key: circuit.choices[key] for key in ("method", "ablation", "split", "positions", "data", "size_given")}
    same = () if halved else (NotDone(what="other items than it was found on", why="the task has fewer than 8"),)
    better = int((beside[:draws] < main.estimate.value).sum())
    found = [
        Evidence(
            claim=f"{circuit.count:,} of {circuit.whole:,} {circuit.level}s do what the model does on {task.name}",
            effect=main.estimate,
            nulls=(Comparison(estimate=random),)
            if nodes
            else (Comparison(estimate=random), Comparison(estimate=loose)),
            baselines=(
                Comparison(
                    estimate=simplest,
                    difference=bootstrap_difference(*gap, paired=True, statistic=ratio, over="items", seed=seed),
                ),
            ),
            seeds=(seed,),
            how=f"(m(C) - m(all ablated)) / (m(N) - m(all ablated)), {ablation} ablation; ratio of means, bootstrap "
            f"over items. More faithful than {better} of {draws} random circuits of {what_of}.",
            settings=settings,
            not_done=same,
        )
    ]
    found.append(learned(wires, circuit, task, found_on, seed=seed))
    return found


def _drawn(name: str, values: Tensor) -> Estimate:
    low, high = torch.quantile(values, torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    span = Interval(low=low, high=high, method=f"middle 95% of {len(values)} circuits")
    return Estimate(name=name, value=float(values.mean()), interval=span, n=len(values))
