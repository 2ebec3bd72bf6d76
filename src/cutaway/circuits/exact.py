"""Every edge ablated by itself, for real."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from cutaway.circuits.graph import LOGITS, Graph
from cutaway.circuits.masked import BYTES, at_ends, columns
from cutaway.circuits.senders import ablated, chunks, record
from cutaway.circuits.spans import span_labels
from cutaway.circuits.wires import Wires, normed, rows_of
from cutaway.core import InputError
from cutaway.model.taps import Tap, at_site, entering, tapped


def exact(
    wires: Wires,
    graph: Graph,
    task: Any,
    ablation: str = "resample",
    *,
    edges: Tensor | None = None,
    tokens: int = 2048,
    bytes_: int = BYTES,
    progress: Callable[[float], None] | None = None,
) -> Tensor:
    """m(all edges) - m(all but this one), measured: [item, source, destination]; NaN for edges not asked for.

    The destination's own queries, keys, values or MLP input are computed from its stream without the source's change,
    and the model goes on from there; nothing of the masked forward is used.
    `edges` [source, destination]: which; all that exist by default. Costs one row of a forward for each edge and item.
    """
    asked = graph.exists if edges is None else edges & graph.exists
    if not bool(asked.any()):
        raise InputError("no edge was asked for.")
    found = torch.full((len(task), *asked.shape), torch.nan, dtype=torch.float64)
    other_of, ends = ablated(wires, task, ablation), columns(task)
    width = task.clean.ids.shape[1]
    dtype = next(wires.model.hf.parameters()).dtype
    held = width * len(graph.sources) * wires.d_model * dtype.itemsize
    at_once = max(1, tokens // width)
    labels = span_labels(task, graph.spans)
    total, done = int(asked.sum()) * len(task), 0
    with torch.no_grad():
        for rows in chunks(len(task), min(at_once, max(1, bytes_ // held))):
            batch = rows_of(wires.model, task.clean, rows)
            clean = record(wires, batch)
            delta = (clean - other_of(rows)).messages(wires)  # [row, source, position, d]
            streams = clean.streams(wires)
            whole = _metric(wires, task, rows, ends, ())
            for d in asked.any(0).nonzero()[:, 0].tolist():
                span = graph.read_by(d)[1]
                sources = asked[:, d].nonzero()[:, 0]
                for picked in chunks(len(sources), at_once // len(rows)):
                    some = sources[picked]
                    # Row r of the task with source s ablated is row s * len(rows) + r of the batch.
                    change = delta[:, some].transpose(0, 1)
                    if span is not None and labels is not None:
                        change = change * (labels[rows] == span).to(change)[None, :, :, None]
                    taps = port_taps(wires, graph, d, streams, change)
                    values = _metric(wires, task, rows.repeat(len(some)), ends, taps)
                    drop = whole[None] - values.reshape(len(some), len(rows))
                    found[rows[:, None], some[None], d] = drop.T
                    done += drop.numel()
                    if progress is not None:
                        progress(done / total)
    return found


def _metric(wires: Wires, task: Any, rows: Tensor, ends: Tensor, taps: Iterable[Tap]) -> Tensor:
    with tapped([*taps, at_ends(wires, ends[rows])]):
        logits = wires.model.run(rows_of(wires.model, task.clean, rows)).logits
    assert logits is not None
    values: Tensor = task.take(rows).metric(logits[:, 0]).double().cpu()
    return values


def port_taps(wires: Wires, graph: Graph, destination: int, streams: list[Tensor], change: Tensor) -> list[Tap]:
    """Taps that give a destination's ports the stream less `change` [source, row, position, d]."""
    size = change.shape[0] * change.shape[1]
    taps: list[Tap] = []
    for port in graph.read_by(destination)[0]:
        name = graph.ports[port]
        if name == LOGITS:
            x = (streams[-1][None] - change).flatten(0, 1)
            return [entering(wires.final_module, lambda raw, x=x: x.reshape(raw.shape))]  # type: ignore[misc]
        stem, _, kind = name.partition("<")
        layer_name, _, head = stem[1:].partition(".")
        i = int(layer_name)
        layer = wires.layers[i]
        if not kind:
            y = normed(layer.mlp_norm, (streams[2 * i + 1][None] - change).flatten(0, 1))
            taps.append(at_site(layer.mlp_in, size, lambda _, y=y: y))  # type: ignore[misc]
            continue
        projection, h = layer.projections[kind[0]], int(head.lstrip("hkv"))
        y = normed(layer.attn_norm, (streams[2 * i][None] - change).flatten(0, 1)) @ projection.weight[h].T
        y = y if projection.bias is None else y + projection.bias[h]

        def put(x: Tensor, y: Tensor = y, h: int = h) -> Tensor:
            new = x.clone()
            new[:, :, h] = y
            return new

        taps.append(at_site(projection.site, size, put))
    return taps
