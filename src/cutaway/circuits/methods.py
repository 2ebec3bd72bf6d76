"""The methods by name, each a short function from a task to a score for every edge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.circuits.attribution import eap, eap_ig, eap_ig_activations, mask_ig
from cutaway.circuits.circuit import Circuit
from cutaway.circuits.exact import exact
from cutaway.circuits.graph import Graph
from cutaway.circuits.masked import opened
from cutaway.circuits.nodes import activation_patching, attribution_patching
from cutaway.circuits.senders import ABLATIONS, ablated, chunks, record
from cutaway.circuits.wires import Wires, rows_of
from cutaway.core import InputError, UnknownName
from cutaway.model import Model


@dataclass(frozen=True)
class Settings:
    ablation: str
    steps: int
    seed: int


@dataclass(frozen=True)
class Method:
    """`score(wires, graph, task, settings)` -> [item, source, destination]. Costs are of the whole task: forwards F,
    backwards B, m steps, L layers."""

    about: str
    cost: str
    score: Callable[[Wires, Graph, Any, Settings], Tensor]
    level: str = "edge"
    exact: bool = False


def _change(wires: Wires, graph: Graph, task: Any, how: Settings) -> Tensor:
    """How far a source's message moves when it is ablated, whatever reads it: the baseline without the metric."""
    found = []
    other_of = ablated(wires, task, how.ablation)
    width = task.clean.ids.shape[1]
    for rows in chunks(len(task), max(1, 256 // width)):
        batch = rows_of(wires.model, task.clean, rows)
        moved = (record(wires, batch) - other_of(rows)).messages(wires).norm(dim=-1)  # [row, source, position]
        mean = (moved * batch.mask[:, None]).sum(-1) / batch.mask.sum(-1)[:, None]
        found.append(mean[..., None].expand(-1, -1, len(graph.destinations)).cpu())
    return torch.cat(found)


def _random(wires: Wires, graph: Graph, task: Any, how: Settings) -> Tensor:
    drawn = torch.rand(graph.exists.shape, generator=torch.Generator().manual_seed(how.seed), dtype=torch.float64)
    return drawn.expand(len(task), -1, -1)


METHODS: Mapping[str, Method] = {
    "eap": Method(
        "edge attribution patching: the gradient at the clean run", "2F + 1B",
        lambda w, g, t, s: g.gathered(eap(w, t, s.ablation)),
    ),
    "eap-ig": Method(
        "EAP, the gradient averaged along a line of inputs", "(1 + m)F + mB",
        lambda w, g, t, s: g.gathered(eap_ig(w, t, s.ablation, steps=s.steps)),
    ),
    "eap-ig-activations": Method(
        "EAP, the gradient averaged along a line of each layer's output", "2F + m(1 + 2L)(F + B)",
        lambda w, g, t, s: g.gathered(eap_ig_activations(w, t, s.ablation, steps=s.steps)),
    ),
    "mask-ig": Method(
        "the gradient in the edges' masks, averaged from all out to all in", "(m + 2)F + (m + 1)B",
        lambda w, g, t, s: g.gathered(mask_ig(w, t, s.ablation, steps=s.steps)),
    ),
    "exact": Method(
        "every edge ablated by itself", "one F an edge",
        lambda w, g, t, s: exact(w, g, t, s.ablation), exact=True,
    ),
    "attribution-patching": Method(
        "nodes: the gradient at the clean run (AtP)", "2F + 1B",
        lambda w, g, t, s: attribution_patching(w, g, t, s.ablation), level="node",
    ),
    "activation-patching": Method(
        "nodes: every head and MLP ablated by itself", "one F a node",
        lambda w, g, t, s: activation_patching(w, g, t, s.ablation), level="node", exact=True,
    ),
    "change": Method(
        "baseline without the metric: how far a source's message moves", "2F", _change,
    ),
    "random": Method("baseline: random scores", "nothing", _random),
}  # fmt: skip


def score_edges(
    model: Model | Wires,
    task: Any,
    method: str = "eap-ig",
    *,
    ablation: str = "resample",
    split: bool = True,
    steps: int = 5,
    seed: int = 0,
) -> Circuit:
    """Every edge's score, all edges in. `method`: see METHODS, with what each costs.

    Raises UnknownName; InputError: identical clean and counterfactual prompts, a metric that is constant or has no
    gradient, scores that are not finite.
    """
    if method not in METHODS:
        raise UnknownName("circuit method", method, METHODS)
    if ablation not in ABLATIONS:
        raise UnknownName("ablation", ablation, ABLATIONS)
    check_task(task, ablation)
    wires = model if isinstance(model, Wires) else opened(model)
    graph, chosen = wires.graph(split), METHODS[method]
    per_item = chosen.score(wires, graph, task, Settings(ablation, steps, seed))
    scores = per_item.double().mean(0)
    known = torch.where(graph.exists, scores, 0.0)
    if not bool(torch.isfinite(known).all()):
        raise InputError(
            f"{method} on {task.name}: scores that are not finite; the metric or the model gives NaN or inf."
        )
    if not bool(known.any()):
        raise InputError(
            f"{method} on {task.name}: every edge scores zero. The metric is constant, or ablation changes nothing."
        )
    metric = getattr(task, "metric", None)
    summary = getattr(task, "summary", None)
    choices = {
        "model": wires.model.name,
        "fingerprint": wires.model.fingerprint,
        "task": task.name,
        "data": getattr(task, "fingerprint", None),
        "items": summary() if callable(summary) else None,
        "n": len(task),
        "metric": getattr(metric, "name", "custom"),
        "unit": getattr(metric, "unit", ""),
        "ablation": ablation,
        "split": split,
        "positions": "all",
        "method": method,
        "steps": steps if "ig" in method else None,
        "cost": chosen.cost,
        "seed": seed,
    }
    level: Any = chosen.level
    return Circuit(graph, known, graph.exists.clone(), choices, level, per_item)


def check_task(task: Any, ablation: str) -> None:
    """Raises InputError for a task without items, and for items whose counterfactual is the prompt itself."""
    if len(task) == 0:
        raise InputError(f"{task.name} has no items.")
    if ablation != "zero" and task.counterfactual is not None:
        same = ((task.clean.ids == task.counterfactual.ids) | ~task.clean.mask).all(-1)
        if bool(same.any()):
            which = same.nonzero()[:, 0].tolist()
            raise InputError(
                f"{task.name}: {len(which)} of {len(task)} items have a counterfactual that is the clean prompt itself "
                f"(items {', '.join(map(str, which[:5]))}{', …' if len(which) > 5 else ''})."
            )
