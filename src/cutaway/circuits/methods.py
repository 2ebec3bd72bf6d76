"""The methods by name, each a short function from a task to a score for every edge."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.circuits.acdc import acdc
from cutaway.circuits.attribution import POINTS, eap, eap_ig, eap_ig_activations, mask_ig
from cutaway.circuits.circuit import Circuit
from cutaway.circuits.exact import exact
from cutaway.circuits.gates import edge_pruning, subnetwork_probing
from cutaway.circuits.graph import Graph
from cutaway.circuits.masked import opened
from cutaway.circuits.nodes import activation_patching, attribution_patching, hisp
from cutaway.circuits.recomputed import atp_star, eap_qk
from cutaway.circuits.relevance import relp
from cutaway.circuits.routes import information_flow
from cutaway.circuits.senders import ABLATIONS, ablated, chunks, record
from cutaway.circuits.spans import span_labels, spans_of
from cutaway.circuits.wires import Wires, rows_of
from cutaway.core import InputError, UnknownName
from cutaway.model import Model


@dataclass(frozen=True)
class Settings:
    ablation: str
    steps: int
    seed: int
    points: str = "right"


class CircuitWarning(UserWarning):
    """Items or a circuit about which a method can say nothing."""


LOSS = "what the metric is estimated to lose when the edge is ablated"


@dataclass(frozen=True)
class Method:
    """`score(wires, graph, task, settings)` -> [item, source, destination]; [1, …] where single items have no scores.
    Costs are of the whole task: forwards F, backwards B, m steps, L layers, S sources, E edges.

    `means`: what a score is.
    """

    about: str
    cost: str
    score: Callable[[Wires, Graph, Any, Settings], Tensor]
    level: str = "edge"
    exact: bool = False
    means: str = LOSS


def _change(wires: Wires, graph: Graph, task: Any, how: Settings) -> Tensor:
    """How far a source's message moves when it is ablated, whatever reads it: the baseline without the metric."""
    found = []
    other_of, labels = ablated(wires, task, how.ablation), span_labels(task, graph.spans)
    width = task.clean.ids.shape[1]
    for rows in chunks(len(task), max(1, 256 // width)):
        batch = rows_of(wires.model, task.clean, rows)
        moved = (record(wires, batch) - other_of(rows)).messages(wires).norm(dim=-1)  # [row, source, position]
        inside = batch.mask[..., None].to(moved)  # [row, position, span]
        if labels is not None:
            inside = inside * torch.nn.functional.one_hot(labels[rows], len(graph.spans)).to(moved)
        mean = (moved @ inside) / inside.sum(1, keepdim=True).clamp(min=1)  # [row, source, span]
        found.append(mean[..., graph.span_of].cpu())
    return torch.cat(found)


def _random(wires: Wires, graph: Graph, task: Any, how: Settings) -> Tensor:
    drawn = torch.rand(graph.exists.shape, generator=torch.Generator().manual_seed(how.seed), dtype=torch.float64)
    return drawn.expand(len(task), -1, -1)


METHODS: Mapping[str, Method] = {
    "eap": Method(
        "edge attribution patching: the gradient at the clean run", "2F + 1B",
        lambda w, g, t, s: g.gathered(eap(w, t, s.ablation, spans=g.spans)),
    ),
    "eap-ig": Method(
        "EAP, the gradient averaged along a line of inputs", "(1 + m)F + mB",
        lambda w, g, t, s: g.gathered(eap_ig(w, t, s.ablation, steps=s.steps, points=s.points, spans=g.spans)),
    ),
    "eap-ig-activations": Method(
        "EAP, the gradient averaged along a line of each layer's output", "2F + m(1 + 2L)(F + B)",
        lambda w, g, t, s: g.gathered(eap_ig_activations(w, t, s.ablation, steps=s.steps, spans=g.spans)),
    ),
    "mask-ig": Method(
        "the gradient in the edges' masks, averaged from all out to all in", "(m + 2)F + (m + 1)B",
        lambda w, g, t, s: g.gathered(mask_ig(w, t, s.ablation, steps=s.steps, spans=g.spans)),
    ),
    "eap-qk": Method(
        "EAP, attention patterns computed anew for queries and keys", "(2 + S)F + 1B",
        lambda w, g, t, s: g.gathered(eap_qk(w, t, s.ablation, spans=g.spans)),
    ),
    "atp-star": Method(
        "eap-qk, and the mean of absolute scores with each layer's gradient dropped (AtP*)", "(1 + L + S)F + LB",
        lambda w, g, t, s: g.gathered(atp_star(w, t, s.ablation, spans=g.spans)),
        means="what the metric is estimated to change when the edge is ablated, without sign",
    ),
    "relp": Method(
        "EAP with coefficients of relevance propagation for gradients (RelP)", "2F + 1B",
        lambda w, g, t, s: g.gathered(relp(w, t, s.ablation, spans=g.spans)),
    ),
    "information-flow": Method(
        "information flow routes: no counterfactual, no metric", "1F",
        lambda w, g, t, s: g.gathered(information_flow(w, t, spans=g.spans)),
        means="the largest threshold at which the edge is in the routes",
    ),
    "acdc": Method(
        "ACDC at six thresholds, by KL to the model", "at most 6 E partial F",
        lambda w, g, t, s: acdc(w, g, t, s.ablation),
        means="nats of KL to the model that leaving the edge out adds, when its turn comes",
    ),
    "acdc-metric": Method(
        "ACDC at six thresholds, by the metric's distance to the model's", "at most 6 E partial F",
        lambda w, g, t, s: acdc(w, g, t, s.ablation, distance="metric"),
        means="distance of the metric to the model's that leaving the edge out adds, when its turn comes",
    ),
    "subnetwork-probing": Method(
        "gates of edges trained: KL to the model and the number open", "120 (F + B) of 32 items",
        lambda w, g, t, s: subnetwork_probing(w, g, t, s.ablation, seed=s.seed),
        means="probability that the edge's gate is open after training",
    ),
    "edge-pruning": Method(
        "the same with a target share (0.1), begun from EAP-IG", "200 (F + B) of 32 items, and EAP-IG",
        lambda w, g, t, s: edge_pruning(w, g, t, s.ablation, seed=s.seed),
        means="probability that the edge's gate is open after training",
    ),
    "exact": Method(
        "every edge ablated by itself", "one F an edge",
        lambda w, g, t, s: exact(w, g, t, s.ablation), exact=True,
        means="what the metric loses when the edge is ablated",
    ),
    "attribution-patching": Method(
        "nodes: the gradient at the clean run (AtP)", "2F + 1B",
        lambda w, g, t, s: attribution_patching(w, g, t, s.ablation), level="node",
    ),
    "hisp": Method(
        "nodes: the absolute gradient score of heads, normed in each layer (HISP)", "2F + 1B",
        lambda w, g, t, s: hisp(w, g, t, s.ablation), level="node",
        means="importance, as a share of its layer's norm",
    ),
    "activation-patching": Method(
        "nodes: every head and MLP ablated by itself", "one F a node",
        lambda w, g, t, s: activation_patching(w, g, t, s.ablation), level="node", exact=True,
        means="what the metric loses when the node is ablated",
    ),
    "change": Method(
        "baseline without the metric: how far a source's message moves", "2F", _change,
        means="mean norm of the change of the source's message",
    ),
    "random": Method("baseline: random scores", "nothing", _random, means="a random number"),
}  # fmt: skip


def score_edges(
    model: Model | Wires,
    task: Any,
    method: str = "eap-ig",
    *,
    ablation: str = "resample",
    split: bool = True,
    steps: int = 5,
    points: str = "right",
    seed: int = 0,
    positions: Sequence[str] | str | None = None,
    neurons: Sequence[str] = (),
) -> Circuit:
    """Every edge's score, all edges in. `method`: see METHODS, with what each costs.

    `steps`, `points`: of integrated gradients; eap-ig takes the "right" end of each of `steps` parts of the line (the
    paper's), the "left" (its authors' code) or the "midpoint".

    `positions`: edges (or nodes) apart by position: names of the task's positions (the others are the span "rest"),
    "named" for all of them, "each" for every column. `neurons` (m2.n17, …): sources of their own, of a `Model`; `m2` is
    then the rest of its MLP.
    Raises UnknownName; InputError: identical clean and counterfactual prompts, a metric that is constant or has no
    gradient, scores that are not finite.
    """
    if method not in METHODS:
        raise UnknownName("circuit method", method, METHODS)
    if ablation not in ABLATIONS:
        raise UnknownName("ablation", ablation, ABLATIONS)
    check_task(task, ablation)
    wires = model if isinstance(model, Wires) else opened(model, neurons)
    graph, chosen = wires.graph(split), METHODS[method]
    if points not in POINTS:
        raise UnknownName("choice of points", points, POINTS)
    if points != "right" and method != "eap-ig":
        raise InputError(f"the points of the line are chosen for eap-ig; {method} has its own.")
    if positions is not None:
        graph = graph.at(spans_of(task, positions))
    per_item = chosen.score(wires, graph, task, Settings(ablation, steps, seed, points))
    scores = per_item.double().mean(0)
    known = torch.where(graph.exists, scores, 0.0)
    several = len(per_item) == len(task)
    existing = torch.where(graph.exists, per_item.double(), 0.0)
    if not bool(torch.isfinite(known).all()):
        wrong = (~torch.isfinite(existing)).any(-1).any(-1)
        which = f" ({_items(wrong)})" if several else ""
        raise InputError(
            f"{method} on {task.name}: scores that are not finite{which}; the metric or the model gives NaN or inf."
        )
    if not bool(known.any()):
        raise InputError(
            f"{method} on {task.name}: every edge scores zero on all {len(task)} items. The metric is constant, or "
            "ablation changes nothing."
        )
    silent = (existing == 0).all(-1).all(-1)
    if several and bool(silent.any()):
        warnings.warn(
            f"{method} on {task.name}: every edge scores zero on {int(silent.sum())} of {len(task)} items "
            f"({_items(silent)}): their metric is constant, or ablation changes nothing there.",
            CircuitWarning,
            stacklevel=2,
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
        "positions": list(graph.spans) or "all",
        "neurons": list(graph.neurons),
        "method": method,
        "steps": steps if "ig" in method else None,
        "points": points if method == "eap-ig" else None,
        "cost": chosen.cost,
        "score": chosen.means,
        "seed": seed,
    }
    level: Any = chosen.level
    return Circuit(graph, known, graph.exists.clone(), choices, level, per_item if several else None)


def check_task(task: Any, ablation: str) -> None:
    """Raises InputError for a task without items, and for items whose counterfactual is not aligned with the prompt or
    is the prompt itself."""
    if len(task) == 0:
        raise InputError(f"{task.name} has no items.")
    if ablation == "zero" or task.counterfactual is None:
        return
    if task.clean.ids.shape != task.counterfactual.ids.shape:
        raise InputError(
            f"{task.name}: clean prompts are {list(task.clean.ids.shape)} and counterfactuals "
            f"{list(task.counterfactual.ids.shape)}; edges compare them position by position."
        )
    apart = (task.clean.mask != task.counterfactual.mask).any(-1)
    if bool(apart.any()):
        raise InputError(
            f"{task.name}: {int(apart.sum())} of {len(task)} items have a counterfactual of another length than the "
            f"clean prompt ({_items(apart)}); edges compare them position by position."
        )
    same = ((task.clean.ids == task.counterfactual.ids) | ~task.clean.mask).all(-1)
    if bool(same.any()):
        raise InputError(
            f"{task.name}: {int(same.sum())} of {len(task)} items have a counterfactual that is the clean prompt "
            f"itself ({_items(same)})."
        )


def _items(where: Tensor) -> str:
    which = where.nonzero()[:, 0].tolist()
    return f"items {', '.join(map(str, which[:5]))}{', …' if len(which) > 5 else ''}"
