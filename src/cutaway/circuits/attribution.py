"""Estimates of what every edge is worth, from gradients: EAP and its integrated kin.

Every score estimates what the metric loses when the edge alone is ablated:  m(all edges) - m(all but this one).
Each function gives [item, source, port], with spans [item, span, source, port]; F and B are forwards and backwards of
the whole task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.circuits.gradients import Pass, edge_scores, gradient_pass
from cutaway.circuits.masked import columns
from cutaway.circuits.senders import Senders, ablated, chunks, record
from cutaway.circuits.spans import span_labels
from cutaway.circuits.wires import Wires, rows_of
from cutaway.core import InputError, UnknownName

TOKENS = 512  # in one forward and backward
Spans = tuple[str, ...]
POINTS = {"right": 1.0, "left": 0.0, "midpoint": 0.5}
"""Where on each of m equal parts of a line a gradient is taken."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some items of a task, with what their sources write when ablated."""

    wires: Wires
    rows: Tensor
    batch: Any
    other: Senders
    metric: Callable[[Tensor], Tensor]
    ends: Tensor
    labels: Tensor | None
    spans: int

    def run(self, **how: Any) -> Pass:
        return gradient_pass(self.wires, self.batch, self.metric, self.ends, **how)

    def scores(self, seen: Pass, delta: Senders, sources: slice | None = None) -> Tensor:
        return edge_scores(self.wires, seen, delta, sources, self.labels, self.spans)


def parts(wires: Wires, task: Any, ablation: str, tokens: int = TOKENS, spans: Spans = ()) -> Iterator[Part]:
    """The task, at most `tokens` tokens at a time."""
    other, ends, labels = ablated(wires, task, ablation), columns(task), span_labels(task, spans)
    for rows in chunks(len(task), tokens // task.clean.ids.shape[1]):
        batch = rows_of(wires.model, task.clean, rows)
        where = None if labels is None else labels[rows]
        yield Part(wires, rows, batch, other(rows), task.take(rows).metric, ends[rows], where, len(spans))


def eap(wires: Wires, task: Any, ablation: str = "resample", *, tokens: int = TOKENS, spans: Spans = ()) -> Tensor:
    """Edge attribution patching (Syed et al. 2023): the gradient at the clean run.  2F + 1B.

    score(s, p) = (clean_s - ablated_s) . d metric / d (stream of p)
    """
    found = []
    for part in parts(wires, task, ablation, tokens, spans):
        seen = part.run()
        found.append(part.scores(seen, seen.senders - part.other).cpu())
    return torch.cat(found)


def eap_ig(
    wires: Wires,
    task: Any,
    ablation: str = "resample",
    *,
    steps: int = 5,
    points: str = "right",
    tokens: int = TOKENS,
    spans: Spans = (),
) -> Tensor:
    """EAP with the gradient averaged along a line of inputs (Hanna et al. 2024, "Have faith in faithfulness", eq. 3).
    (1 + m)F + mB, and a forward more where the clean input is no point of the line.

    score(s, p) = (clean_s - ablated_s) . 1/m sum for k = 1 … m of the gradient where the first block reads
                  ablated_input + k/m (clean_input - ablated_input)
    `points`: "right", the paper's, as above; "left", k = 0 … m - 1, which the authors' code takes; "midpoint", k - 1/2.
    Raises UnknownName for other points.
    """
    _positive(steps)
    if points not in POINTS:
        raise UnknownName("choice of points", points, POINTS)
    at = [(k + POINTS[points]) / steps for k in range(steps)]
    found = []
    for part in parts(wires, task, ablation, tokens, spans):
        clean = part.run() if at[-1] == 1 else None
        delta = (record(wires, part.batch) if clean is None else clean.senders) - part.other
        seen = (part.run(start=part.other.start + share * delta.start) for share in at[: len(at) - (clean is not None)])
        total = sum(part.scores(one, delta) for one in (*seen, *([] if clean is None else [clean])))
        assert isinstance(total, Tensor)
        found.append((total / len(at)).cpu())
    return torch.cat(found)


def eap_ig_activations(
    wires: Wires, task: Any, ablation: str = "resample", *, steps: int = 5, tokens: int = TOKENS, spans: Spans = ()
) -> Tensor:
    """EAP with the gradient averaged along a line of the source's own output, the rest of the run clean (Hanna et al.
    2024; the heads of a layer move together, and only their own edges get the gradients).  2F + m(1 + 2L)(F + B).

    score(s, p) = (clean_s - ablated_s) . 1/m sum for k = 1 … m of the gradient where s's layer writes
                  ablated + k/m (clean - ablated)
    """
    _positive(steps)
    found = []
    for part in parts(wires, task, ablation, tokens, spans):
        clean = record(wires, part.batch)
        delta = clean - part.other
        total: Tensor | None = None
        at = 0
        for kind, i in wires.groups():
            layer = wires.layers[i]
            n = {"input": 1, "heads": layer.n_heads, "mlp": layer.n_mlp}[kind]
            for k in range(1, steps + 1):
                share = k / steps
                if kind == "input":
                    seen = part.run(start=part.other.start + share * delta.start)
                elif kind == "heads":
                    u = part.other.u[i] + share * delta.u[i]
                    value = torch.einsum("bphc,hcd->bpd", u, layer.w_out) + layer.constant
                    seen = part.run(replace=("heads", i, value))
                else:
                    seen = part.run(replace=("mlp", i, part.other.mlp[i] + share * delta.mlp[i]))
                one = part.scores(seen, delta, slice(at, at + n))
                total = one if total is None else total + one
            at += n
        assert total is not None
        found.append((total / steps).cpu())
    return torch.cat(found)


def mask_ig(
    wires: Wires, task: Any, ablation: str = "resample", *, steps: int = 5, tokens: int = TOKENS, spans: Spans = ()
) -> Tensor:
    """The gradient in the masks themselves, averaged while all of them go from 0 to 1 together (Miller et al. 2024,
    auto-circuit's `mask_gradient` with integrated samples).  (m + 2)F + (m + 1)B.

    score(s, p) = 1/(m + 1) sum for k = 0 … m of  d metric / d mask[s, p]  with every mask at k/m
    All masks equal, one stream serves every port of a place: no forward with a stream for each port is needed.
    """
    _positive(steps)
    found = []
    for part in parts(wires, task, ablation, tokens, spans):
        streams = part.other.streams(wires)
        total: Tensor | None = None
        for k in range(steps + 1):
            seen = part.run(blend=(k / steps, streams))
            one = part.scores(seen, seen.senders - part.other)
            total = one if total is None else total + one
        assert total is not None
        found.append((total / (steps + 1)).cpu())
    return torch.cat(found)


def _positive(steps: int) -> None:
    if steps < 1:
        raise InputError(f"integrated gradients take at least one step; given {steps}.")
