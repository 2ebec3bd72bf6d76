"""Information flow routes (Ferrando and Voita 2024): from one forward, without a counterfactual or a metric.

How much of a sum y = sum of x_j each term is:  importance(x_j) = p_j / sum of p_i,  p_j = max(0, |y|_1 - |y - x_j|_1).

The routes at a threshold t are grown from the logits at the answer's position downwards: into every place reached, the
terms of importance >= t are followed. So an edge is in the routes at every t up to

    reach(s -> p) = max over positions of  min(reach of p there, importance of s in the stream that p reads there)

and that is its score: no threshold has to be chosen. A head that is reached at one position is reached, by its values,
at the positions whose terms A[t, j] W_O v_j are important in what it writes at t. The authors follow values alone;
queries are reached here where their head is, keys where its values are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cutaway.circuits.masked import columns
from cutaway.circuits.senders import chunks, of_run
from cutaway.circuits.spans import span_labels
from cutaway.circuits.wires import LayerWires, Wires, rows_of

TOKENS = 512  # a forward


def information_flow(wires: Wires, task: Any, *, tokens: int = TOKENS, spans: tuple[str, ...] = ()) -> Tensor:
    """Every edge's reach, between 0 and 1: [item, (span,) source, port].  1F, and sources * 2 layers * d_model
    additions a token."""
    ends, labels = columns(task), span_labels(task, spans)
    found = []
    for rows in chunks(len(task), max(1, tokens // task.clean.ids.shape[1])):
        where = None if labels is None else labels[rows]
        found.append(_routes(wires, rows_of(wires.model, task.clean, rows), ends[rows], where, len(spans)))
    return torch.cat(found)


def importance(terms: Tensor, total: Tensor) -> Tensor:
    """terms [..., n, d] of a sum total [..., d] -> [..., n], which add up to 1 (or are all 0)."""
    size = total.abs().sum(-1, keepdim=True)
    p = (size - (total[..., None, :] - terms).abs().sum(-1)).clamp(min=0)
    return p / p.sum(-1, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)


def _routes(wires: Wires, batch: Any, ends: Tensor, labels: Tensor | None, spans: int) -> Tensor:
    layers, graph = wires.layers, wires.split
    names = ["resid_pre.0"]
    for i in range(len(layers)):
        names += [f"z.{i}", f"mlp_out_post.{i}", f"attn_probs.{i}", f"value.{i}"]
        names += [] if layers[i].neurons is None else [f"mlp_act.{i}"]
    run = wires.model.run(batch, read=names, logits=False)
    count = range(len(layers))
    wrote = of_run(wires, run)
    streams, messages = wrote.streams(wires), wrote.messages(wires).transpose(1, 2)  # [row, position, source, d]
    rows, width = batch.ids.shape
    reach = messages.new_zeros(rows, width, len(graph.sources))  # of what a source writes at a position
    score = messages.new_zeros(rows, max(spans, 1), len(graph.sources), len(graph.ports))
    inside = [None] if labels is None else [(labels == k).to(reach.device) for k in range(spans)]

    def into(port: int, here: Tensor, share: Tensor) -> None:
        """A port reached at [row, position]: `share` [row, position, n] of the sources that write before it."""
        nonlocal reach
        flow = torch.minimum(here[..., None], share)
        n = share.shape[-1]
        for k, part in enumerate(inside):
            kept = flow if part is None else flow * part[..., None]
            score[:, k, :n, port] = kept.amax(1)
        reach[..., :n] = torch.maximum(reach[..., :n], flow)

    def shares(place: int, port: int) -> Tensor:
        early = int((graph.writes < graph.reads[port]).sum())
        return torch.cat(
            [importance(messages[:, t : t + 1, :early], streams[place][:, t : t + 1]) for t in range(width)], 1
        )

    at_end = torch.zeros(rows, width, dtype=reach.dtype, device=reach.device)
    at_end[torch.arange(rows), ends] = 1
    port = len(graph.ports) - 1
    into(port, at_end, shares(2 * len(layers), port))
    for i in reversed(count):
        layer = layers[i]
        heads, kv = layer.n_heads, layer.projections["k"].weight.shape[0]
        first = graph.ports.index(f"a{i}.h0<q>")
        mlp = first + heads + 2 * kv
        first_source = graph.sources.index(f"a{i}.h0")
        wrote_by_mlp = reach[..., first_source + heads :][..., : layer.n_mlp]
        into(mlp, wrote_by_mlp.amax(-1), shares(2 * i + 1, mlp))
        share = shares(2 * i, first)
        to_values = _to_values(layer, reach[..., first_source : first_source + heads], run, i)  # [row, position, head]
        for h in range(heads):
            into(first + h, reach[..., first_source + h], share)
        shared = to_values.reshape(rows, width, kv, -1).amax(-1)
        for h in range(kv):
            into(first + heads + h, shared[..., h], share)
            into(first + heads + kv + h, shared[..., h], share)
    return (score if labels is not None else score[:, 0]).cpu()


def _to_values(layer: LayerWires, reach: Tensor, run: Any, i: int) -> Tensor:
    """Where a layer's heads, reached at [row, position, head], are reached by their values: the same shape."""
    pattern, value = run[f"attn_probs.{i}"], run[f"value.{i}"]  # [row, head, t, j], [row, j, kv, c]
    heads = layer.n_heads
    value = value.repeat_interleave(heads // value.shape[2], dim=2)
    found = torch.zeros_like(reach)
    for h in range(heads):
        written = value[:, :, h] @ layer.w_out[h].to(
            value.dtype
        )  # [row, j, d]; a norm after attention scales all alike
        for t in range(pattern.shape[2]):
            terms = pattern[:, h, t, :, None] * written
            flow = torch.minimum(reach[:, t, h, None], importance(terms, terms.sum(1)))
            found[:, :, h] = torch.maximum(found[:, :, h], flow)
    return found
