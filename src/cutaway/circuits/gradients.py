"""One forward and one backward, and from it the gradient at every edge.

    d metric / d mask[s, p]  =  sum over positions  (current_s - ablated_s) . J^T W_p^T g_p

g_p is the gradient at a port's queries, keys, values or MLP input; W_p its matrix and J its norm's Jacobian, both known
in closed form. So a backward keeps d_model numbers a token for each of a layer's queries, keys, values and MLP, and
the vectors of width d_model that each head sends and receives exist for a few tokens at a time only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.circuits.masked import at_ends
from cutaway.circuits.senders import Senders, chunks, none_of
from cutaway.circuits.wires import LayerWires, Wires, through_norm
from cutaway.core import InputError
from cutaway.model.parameters import without_gradients
from cutaway.model.taps import Tap, at_site, entering, leaving, tapped

BYTES = 32 * 2**20  # of messages written out at a time, for every source: 68 tokens at GPT-2 small's shape


@dataclass(frozen=True, eq=False)
class Pass:
    """What one forward and backward leave. `read`: the stream at each layer's attention and MLP in turn, then at the
    end, as `Senders.streams`. `gradients`: by ("q" | "k" | "v" | "mlp", layer), shaped as the point; ("final", 0)."""

    senders: Senders
    read: tuple[Tensor, ...]
    gradients: Mapping[tuple[str, int], Tensor]
    metric: Tensor  # [batch]
    ends: Tensor
    held: bool = False  # norms' denominators were constants to it
    patterns: Mapping[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # layer -> pattern, its gradient


def gradient_pass(
    wires: Wires,
    batch: Any,
    metric: Callable[[Tensor], Tensor],
    ends: Tensor,
    *,
    start: Tensor | None = None,
    blend: tuple[float, Sequence[Tensor]] | None = None,
    replace: tuple[str, int, Tensor] | None = None,
    rules: Sequence[Tap] = (),
    held: bool = False,
    patterns: bool = False,
) -> Pass:
    """The gradient of `metric(logits [batch, vocab])`, summed over rows, at every port.

    start [batch, position, d]: enters the first block in place of the embeddings. blend (alpha, streams): every port
    reads alpha times its stream plus 1 - alpha times the given one, which is every edge's mask at alpha. replace
    ("heads" | "mlp", layer, value): what that sublayer adds to the stream, set to a value. `rules`: taps that change
    the backward (not the forward); `held`: they hold the norms' denominators. `patterns`: also the gradients at
    attention patterns [batch, head, query, key].
    One forward and one backward; keeps about 6 d_model floats a token and layer beyond what autograd saves.
    """
    size = len(ends)
    leaves: dict[Any, Tensor] = {}
    read: dict[int, Tensor] = {}
    u: dict[int, Tensor] = {}
    mlp: dict[int, Tensor] = {}
    neurons: dict[int, Tensor] = {}
    first: list[Tensor] = []

    def leaf(key: Any) -> Callable[[Tensor], Tensor]:
        def visit(x: Tensor) -> Tensor:
            x = x if x.requires_grad else x.detach().requires_grad_()
            leaves[key] = x.view_as(x)
            return leaves[key]

        return visit

    def reading(places: Sequence[int]) -> Callable[[Tensor], Tensor | None]:
        def visit(raw: Tensor) -> Tensor | None:
            x = raw.reshape(size, -1, raw.shape[-1])
            if blend is not None:
                alpha, streams = blend
                x = alpha * x + (1 - alpha) * streams[places[0]]
            read.update(dict.fromkeys(places, x.detach()))
            return None if blend is None else x.reshape(raw.shape)

        return visit

    def enter(x: Tensor) -> Tensor | None:
        first.append(x.detach() if start is None else start)
        return start

    def written(where: str, layer: int, into: dict[int, Tensor]) -> Callable[[Tensor], Tensor | None]:
        def visit(x: Tensor) -> Tensor | None:
            new = replace[2] if replace is not None and replace[:2] == (where, layer) else None
            kept = (x if new is None else new).detach()
            into[layer] = kept.clone() if wires.layers[layer].mlp_out.copies else kept
            return new

        return visit

    taps = [*rules, at_site(wires.start, size, enter)]
    for i, layer in enumerate(wires.layers):
        for module, places in _readers(layer, i):
            taps.append(entering(module, reading(places)))
        for module in {id(p.site.module): p.site.module for p in layer.projections.values()}.values():
            taps.append(leaving(module, leaf(module)))
        taps += [
            at_site(layer.mlp_in, size, leaf(("mlp", i))),
            at_site(layer.z, size, lambda z, i=i, layer=layer: u.update({i: layer.scaled(z.detach())})),  # type: ignore[misc]
            at_site(layer.attn_out, size, written("heads", i, {})),
            at_site(layer.mlp_out, size, written("mlp", i, mlp)),
        ]
        if layer.neurons is not None:
            fired = lambda x, i=i, scaled=layer.neurons.scaled: neurons.update({i: scaled(x.detach())})  # noqa: E731
            taps.append(at_site(layer.neurons.site, size, fired))
    taps += [
        entering(wires.final_module, reading([2 * len(wires.layers)])),
        leaving(wires.final_module, leaf(("final", 0))),
        at_ends(wires, ends),
    ]
    with without_gradients(wires.model.hf), tapped(taps):
        names = [f"attn_probs.{i}" for i in range(len(wires.layers))] if patterns else []
        run = wires.model.run(batch, read=names, keep_graph=True)
        assert run.logits is not None
        values = metric(run.logits[:, 0])
        if not values.requires_grad:
            raise InputError("the metric has no gradient; use logit_difference, probability or another that has one.")
        leaves.update({("pattern", i): run[name] for i, name in enumerate(names)})
        keys = list(leaves)
        found = torch.autograd.grad(values.sum(), [leaves[key] for key in keys], allow_unused=True)
    raw = {key: torch.zeros_like(leaves[key]) if g is None else g for key, g in zip(keys, found)}
    gradients = {("final", 0): raw[("final", 0)].reshape(size, -1, wires.d_model)}
    for i, layer in enumerate(wires.layers):
        gradients["mlp", i] = raw[("mlp", i)]
        for kind, projection in layer.projections.items():
            site = projection.site
            gradients[kind, i] = site.take(raw[site.module], size)
    count = len(wires.layers)
    apart = tuple(neurons[i] if i in neurons else none_of(mlp[i]) for i in range(count))
    senders = Senders(first[0], tuple(u[i] for i in range(count)), tuple(mlp[i] for i in range(count)), apart)
    attended = {i: (run[name].detach(), raw[("pattern", i)]) for i, name in enumerate(names)}
    streams = tuple(read[i] for i in range(2 * count + 1))
    return Pass(senders, streams, gradients, values.detach(), ends, held, attended)


def _readers(layer: LayerWires, i: int) -> list[tuple[nn.Module, list[int]]]:
    """The modules that the stream enters, with the places that they read for: attention's 2 i, the MLP's 2 i + 1."""
    attention = layer.attn_norm.module if layer.attn_norm is not None else layer.attention
    mlp = layer.mlp_norm.module if layer.mlp_norm is not None else layer.mlp_in.module
    return [(attention, [2 * i, 2 * i + 1])] if attention is mlp else [(attention, [2 * i]), (mlp, [2 * i + 1])]


def edge_scores(
    wires: Wires, seen: Pass, delta: Senders, sources: slice | None = None, labels: Tensor | None = None, spans: int = 0
) -> Tensor:
    """delta_s . (gradient at port p): [row, source, port] in float32 or wider; zero where no edge exists.

    `sources`: these alone (the rest stay zero). `labels` [row, position], the number of each position's span: [row,
    span, source, port]. Costs sources * ports * d_model multiply-adds a token.
    """
    if labels is not None:
        inside = [(labels == span).to(delta.start.device) for span in range(spans)]
        parts = [edge_scores(wires, seen, delta.where(here), sources) for here in inside]
        return torch.stack(parts, 1)
    graph = wires.split
    size, width = len(delta.start), delta.start.shape[1]
    found = delta.start.new_zeros(size, len(graph.sources), len(graph.ports))
    chosen = range(len(graph.sources))[slice(None) if sources is None else sources]
    held = width * len(graph.sources) * wires.d_model * delta.start.element_size()
    for rows in chunks(size, max(1, BYTES // held)):
        messages = delta.take(rows).messages(wires)[:, chosen.start : chosen.stop]  # [row, source, position, d]
        at = 0
        for port_gradient in port_gradients(wires, seen, rows):
            n = port_gradient.shape[1]
            early = min(len(chosen), max(0, int((graph.writes < graph.reads[at]).sum()) - chosen.start))
            if early:
                some = messages[:, :early]
                if port_gradient.shape[2] == 1:  # the logits: one position a row
                    index = seen.ends[rows].to(some.device)
                    some = some[torch.arange(len(rows), device=some.device), :, index][:, :, None]
                dot = some.flatten(2) @ port_gradient.flatten(2).transpose(1, 2)
                found[rows, chosen.start : chosen.start + early, at : at + n] = dot
            at += n
    return found * graph.exists.to(found.device)


def port_gradients(wires: Wires, seen: Pass, rows: Tensor) -> Iterator[Tensor]:
    """The gradient at the streams of the ports, in their order: queries, keys and values of a layer [row, n, position,
    d], its MLP [row, 1, position, d], …; the logits [row, 1, 1, d] at their one position."""
    for i, layer in enumerate(wires.layers):
        for kind, projection in layer.projections.items():
            normal = torch.einsum("bphc,hcd->bhpd", seen.gradients[kind, i][rows], projection.weight)
            yield through_norm(layer.attn_norm, seen.read[2 * i][rows], normal, seen.held)
        yield through_norm(
            layer.mlp_norm, seen.read[2 * i + 1][rows], seen.gradients["mlp", i][rows][:, None], seen.held
        )
    pick = (rows, seen.ends[rows])
    x, gradient = seen.read[-1][pick][:, None], seen.gradients["final", 0][pick][:, None, None]
    yield through_norm(wires.final_norm, x, gradient, seen.held)
