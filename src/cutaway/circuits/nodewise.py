"""Circuits of whole nodes, in a plain forward: a node that is out writes what it writes when ablated.

Where every node has all its edges in or none, all that reads it sees the same, and no stream for each port is needed:
the masked forward's numbers at about the cost of the model's own.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from cutaway.circuits.graph import Graph
from cutaway.circuits.masked import at_ends, columns, measure
from cutaway.circuits.senders import Senders, ablated, chunks, none_of
from cutaway.circuits.spans import ends_apart, span_labels
from cutaway.circuits.wires import Wires, rows_of
from cutaway.model.taps import Tap, at_site, tapped


def measure_any(wires: Wires, graph: Graph, task: Any, masks: Tensor, ablation: str) -> Tensor:
    """`measure`, masks [m, source, destination] -> [m, n], by the plain forward where the masks are of whole nodes."""
    keep = nodes_of(graph, masks)
    if keep is None or bool(ends_apart(task, graph).any()):
        return measure(wires, graph, task, masks, ablation)
    return measure_nodes(wires, task, keep, ablation, graph=graph)


def nodes_of(graph: Graph, masks: Tensor) -> Tensor | None:
    """[m, node] which nodes are in, or None where some node has some of its edges in and others not."""
    there = masks & graph.exists
    keep = graph.by_node(there)
    return keep if bool((there == graph.of_nodes(keep)).all()) else None


def measure_nodes(
    wires: Wires, task: Any, keep: Tensor, ablation: str, *, graph: Graph | None = None, tokens: int = 4096
) -> Tensor:
    """The metric of each item with the nodes at `keep` [m, node] in and the others ablated: [m, n].

    `graph`: the nodes' own, with its spans; without it a node is a source, at all positions.
    Costs m * n forwards of one row, `tokens` at a time, and one forward an item for what is ablated.
    """
    graph = wires.split if graph is None else graph
    labels, keep = span_labels(task, graph.spans), graph.spread(keep)  # [m, source, span]
    labels = torch.zeros_like(task.clean.mask, dtype=torch.long).cpu() if labels is None else labels
    other_of, ends = ablated(wires, task, ablation), columns(task)
    at_once = max(1, tokens // task.clean.ids.shape[1])
    found = torch.empty(len(keep), len(task), dtype=torch.float64)
    with torch.no_grad():
        for rows in chunks(len(task), at_once):
            other = other_of(rows)
            for some in chunks(len(keep), at_once // len(rows)):
                again, index = rows.repeat(len(some)), torch.arange(len(rows)).repeat(len(some))
                inside = keep[some].repeat_interleave(len(rows), 0)
                where = labels[again][:, None].expand(-1, inside.shape[1], -1)
                inside = inside.gather(-1, where).transpose(1, 2).to(wires.model.device)
                taps = [*_taps(wires, other.take(index), inside), at_ends(wires, ends[again])]
                with tapped(taps):
                    logits = wires.model.run(rows_of(wires.model, task.clean, again)).logits
                assert logits is not None
                values = task.take(again).metric(logits[:, 0]).double().cpu()
                found[some[:, None], rows[None]] = values.reshape(len(some), len(rows))
    return found


def _taps(wires: Wires, other: Senders, inside: Tensor) -> list[Tap]:
    """`inside` [row, position, source]: where sources write what they do."""
    size = len(inside)
    held: dict[tuple[str, int], Tensor] = {}

    def attention(_: Tensor, i: int, heads: Tensor) -> Tensor:
        layer = wires.layers[i]
        u = torch.where(heads[..., None], layer.scaled(held.pop(("z", i))), other.u[i])
        return torch.einsum("bphc,hcd->bpd", u, layer.w_out) + layer.constant

    def mlp(x: Tensor, i: int, kept: Tensor) -> Tensor:
        layer = wires.layers[i]
        v = none_of(x) if layer.neurons is None else layer.neurons.scaled(held.pop(("act", i)))
        return layer.mixed_mlp(kept, (x, v), (other.mlp[i], other.neurons[i]))[0]

    def hold(x: Tensor, key: tuple[str, int]) -> None:
        held[key] = x

    taps = [at_site(wires.start, size, lambda x: torch.where(inside[..., :1], x, other.start))]
    first = 1
    for i, layer in enumerate(wires.layers):
        at = first + layer.n_heads
        taps += [
            at_site(layer.z, size, partial(hold, key=("z", i))),
            at_site(layer.attn_out, size, partial(attention, i=i, heads=inside[..., first:at])),
            at_site(layer.mlp_out, size, partial(mlp, i=i, kept=inside[..., at : at + layer.n_mlp])),
        ]
        if layer.neurons is not None:
            taps.append(at_site(layer.neurons.site, size, partial(hold, key=("act", i))))
        first = at + layer.n_mlp
    return taps
