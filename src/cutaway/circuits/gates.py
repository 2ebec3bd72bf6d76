"""Circuits found by training the masks: subnetwork probing and edge pruning.

Every edge has a gate of the hard concrete distribution (Louizos et al. 2018), drawn anew for each item and step:

    z = min(1, max(0, (zeta - gamma) sigmoid((log u - log(1 - u) + alpha) / beta) + gamma)),   u ~ U(0, 1)
    P(z > 0) = sigmoid(alpha - beta log(-gamma / zeta)),   beta = 2/3, gamma = -0.1, zeta = 1.1

and alpha is trained, all weights of the model fixed, to keep KL(model || circuit) at the answer's position low with few
gates open. The score of an edge is P(z > 0) after training: an order of edges, not what the metric would lose.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cutaway.circuits.attribution import eap_ig
from cutaway.circuits.graph import Graph
from cutaway.circuits.masked import columns, masked_logits
from cutaway.circuits.senders import ablated
from cutaway.circuits.spans import span_labels
from cutaway.circuits.wires import Wires, rows_of
from cutaway.core import InputError
from cutaway.model.parameters import without_gradients

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
SHIFT = BETA * math.log(-GAMMA / ZETA)
START = math.log(10)  # sigmoid of it, stretched, is 0.99: nearly every gate begins open
RATE, FIRST = 1.0, 5.0  # of the Lagrangian: how fast its multipliers climb, and where that of the square begins

Penalty = Callable[[int, Tensor], Tensor]
"""(step, P(z > 0) of the edges) -> what is added to the loss. Called once a step, in order."""


def subnetwork_probing(
    wires: Wires,
    graph: Graph,
    task: Any,
    ablation: str = "resample",
    *,
    steps: int = 120,
    weight: float = 10.0,
    lr: float = 0.1,
    seed: int = 0,
) -> Tensor:
    """Subnetwork probing on edges (Cao et al. 2021; on edges Miller et al. 2024): [1, source, destination].

    loss = KL + weight * mean over edges of P(z > 0).  `steps` forwards and backwards of at most 32 items.
    """
    start = torch.full((graph.n_edges,), START)
    return _trained(wires, graph, task, ablation, start, lambda _, open_: weight * open_.mean(), steps, lr, seed)


def edge_pruning(
    wires: Wires,
    graph: Graph,
    task: Any,
    ablation: str = "resample",
    *,
    target: float = 0.1,
    steps: int = 200,
    lr: float = 0.1,
    seed: int = 0,
    warm: bool = True,
) -> Tensor:
    """Edge pruning (Bhaskar et al. 2024): [1, source, destination]. The share of open gates is led to `target` by a
    Lagrangian whose multipliers climb:

        loss = KL + l1 (share - t) + l2 (share - t)^2,   t from the share at the start to `target` over half the steps

    `warm`: gates begin as EAP-IG ranks them, the best `target` of the edges open and the others half open; otherwise
    all open. The authors' masks of nodes are left out. `steps` forwards and backwards of at most 32 items, and EAP-IG.
    Raises InputError for a target that is no share.
    """
    if not 0 < target < 1:
        raise InputError(f"the target of edge pruning is a share of the edges, between 0 and 1; given {target:g}.")
    start = torch.full((graph.n_edges,), START)
    if warm:
        scores = graph.gathered(eap_ig(wires, task, ablation, spans=graph.spans)).double().mean(0)[graph.exists].abs()
        rank = scores.argsort().argsort().double() / max(1, graph.n_edges - 1)  # 1: the best
        start = torch.where(rank >= 1 - target, START, SHIFT + (rank - 0.5)).float()
    first = float(torch.sigmoid(start - SHIFT).mean())
    multipliers = [0.0, FIRST]

    def penalty(step: int, open_: Tensor) -> Tensor:
        over = open_.mean() - (first + (target - first) * min(1.0, 2 * step / steps))
        loss = multipliers[0] * over + multipliers[1] * over.square()
        gap = float(over.detach())
        multipliers[0] += RATE * gap  # gradient ascent, for the next step
        multipliers[1] += RATE * gap * gap
        return loss

    return _trained(wires, graph, task, ablation, start, penalty, steps, lr, seed)


def gate(alpha: Tensor, u: Tensor) -> Tensor:
    """z of the hard concrete distribution at uniform draws u."""
    s = torch.sigmoid((u.log() - (1 - u).log() + alpha) / BETA)
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def _trained(
    wires: Wires, graph: Graph, task: Any, ablation: str, start: Tensor, penalty: Penalty, steps: int, lr: float,
    seed: int,
) -> Tensor:  # fmt: skip
    if steps < 1:
        raise InputError(f"masks are trained for at least one step; given {steps}.")
    device = wires.model.device
    dtype = next(wires.model.hf.parameters()).dtype
    generator = torch.Generator().manual_seed(seed)
    n = len(task)
    every = torch.arange(n)
    with torch.no_grad():
        other = ablated(wires, task, ablation)(every)
        logits = wires.model.run(rows_of(wires.model, task.clean, every)).logits
        assert logits is not None
        ends, labels = columns(task), span_labels(task, graph.spans)
        reference = logits[every.to(device), ends.to(device)].log_softmax(-1)
    alpha = start.clone().to(device).requires_grad_()
    optimiser = torch.optim.Adam([alpha], lr=lr)
    exists = graph.exists.to(device)
    drawn = every[:0]
    with without_gradients(wires.model.hf), torch.enable_grad():
        for step in range(steps):
            if len(drawn) < min(32, n):
                drawn = torch.randperm(n, generator=generator)
            rows, drawn = drawn[:32], drawn[32:]
            u = torch.rand(len(rows), graph.n_edges, generator=generator).clamp(1e-6, 1 - 1e-6).to(device)
            mask = torch.zeros(len(rows), *exists.shape, dtype=dtype, device=device)
            mask[:, exists] = gate(alpha, u).to(dtype)
            found = masked_logits(
                wires, rows_of(wires.model, task.clean, rows), other.take(rows), graph.ported(mask), ends[rows],
                labels=None if labels is None else labels[rows].to(device),
            )  # fmt: skip
            p = reference[rows.to(device)]
            kl = torch.where(p > -torch.inf, p.exp() * (p - found.log_softmax(-1)), 0.0).sum(-1).mean()
            loss = kl + penalty(step, torch.sigmoid(alpha - SHIFT))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    scores = torch.zeros(exists.shape, dtype=torch.float64)
    scores[graph.exists] = torch.sigmoid(alpha.detach().double().cpu() - SHIFT)
    return scores[None]
