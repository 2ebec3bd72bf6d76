"""One forward in which any subset of edges carries what its source now writes and the others what it writes when
ablated.

    stream of port p  =  sum over sources s before p of  ablated_s + mask[s, p] (current_s - ablated_s)  +  constants

`current_s` is computed from such streams itself, so a changed message goes on. The model runs in place: only what each
port reads is replaced. Masks need not be 0 or 1, and the result is differentiable in them. Where each row of the batch
has a mask of its own, many circuits share a forward. With spans, each position has the mask of its span.

Source of the form: Conmy et al. 2023 (ACDC); as one sum a destination, Miller et al. 2024 (auto-circuit).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from cutaway.circuits.graph import Graph
from cutaway.circuits.senders import Senders, ablated, chunks, none_of, record
from cutaway.circuits.spans import span_labels
from cutaway.circuits.wires import Wires, normed, rows_of, wires_of
from cutaway.core import InputError
from cutaway.model import Model
from cutaway.model.taps import Tap, at_site, entering, hidden, tapped

TOLERANCE = 1e-4
BYTES = 256 * 2**20  # of the messages held in one forward


def opened(model: Model, neurons: Sequence[str] = ()) -> Wires:
    """A model's wires, checked: with every edge in, the masked forward gives the model's own logits, to 1e-4 of their
    largest. `neurons` (m2.n17): sources of their own. Two forwards of one short prompt. Raises InputError where they
    differ, and for a neuron that is not there."""
    wires = wires_of(model, neurons)
    length = min(6, model.facts.max_positions or 6)
    ids = (torch.arange(length, device=model.device) * 7 + 3)[None] % model.facts.vocab_size
    batch = model.batch(ids)
    graph = wires.split
    logits = model.run(batch).logits
    assert logits is not None
    other = record(wires, model.batch(ids.flip(-1)))
    found = masked_logits(wires, batch, other, graph.exists.to(ids.device, logits.dtype), torch.tensor([length - 1]))
    error = float((found - logits[:, -1]).abs().max() / logits[:, -1].abs().max().clamp(min=1e-30))
    if not error <= TOLERANCE:
        raise InputError(
            f"{model.name} is not the sum of its components: with every edge in, the masked forward gives other logits "
            f"(relative difference {error:.2g}, at most {TOLERANCE:g}). It computes in {logits.dtype}; in half "
            "precision load it with dtype=torch.float32."
        )
    return wires


def opened_for(model: Model | Wires, graph: Graph) -> Wires:
    """A model's wires with the neurons of a circuit's graph. Raises InputError where its components are others."""
    wires = model if isinstance(model, Wires) else opened(model, graph.neurons)
    if wires.split.sources != graph.sources:
        raise InputError(
            f"{wires.model.name} has other components than the circuit: {len(wires.split.sources)}, the last "
            f"{wires.split.sources[-1]}; the circuit {len(graph.sources)}, the last {graph.sources[-1]}."
        )
    return wires


def masked_logits(
    wires: Wires,
    batch: Any,
    other: Senders,
    mask: Tensor,
    ends: Tensor,
    *,
    labels: Tensor | None = None,
    known: Senders | None = None,
    first: int = 0,
) -> Tensor:
    """Logits [batch, vocab] at the columns `ends` [batch], with edges at `mask` ([batch,] source, port).

    `other`: what each source writes when ablated. Entries of the mask where no edge exists are ignored.
    `labels` [batch, position]: the span of each position; the mask is then ([batch,] span, source, port).
    `known`, `first`: what every source writes in this run, where its edges into the first `first` layers are all in;
    those layers are then not computed again (`first` may be the number of layers: the unembedding alone).
    One forward, and sources * ports * d_model multiply-adds a token; holds sources * d_model floats a token.
    """
    work = _Masked(wires, other, mask * wires.split.exists.to(mask), labels)
    size = len(other.start)
    taps = [at_site(wires.start, size, work.start)]
    for i, layer in enumerate(wires.layers):
        for kind, projection in layer.projections.items():
            taps.append(
                at_site(projection.site, size, lambda _, i=i, kind=kind: work.project(i, kind))  # type: ignore[misc]
            )
        taps += [
            at_site(layer.z, size, lambda z, i=i: work.heads(i, z)),  # type: ignore[misc]
            at_site(layer.mlp_in, size, lambda _, i=i: work.mlp(i)),  # type: ignore[misc]
            at_site(layer.mlp_out, size, lambda x, i=i: work.mlp_wrote(i, x)),  # type: ignore[misc]
        ]
        if layer.neurons is not None:
            taps.append(at_site(layer.neurons.site, size, lambda x, i=i: work.fired(i, x)))  # type: ignore[misc]
    taps += [entering(wires.final_module, lambda _: work.final()), at_ends(wires, ends)]
    with skipped(wires, first), tapped(taps):
        if known is not None and first:
            work.go_on(known, first)
        differentiable = torch.is_grad_enabled() and (mask.requires_grad or other.start.requires_grad)
        logits = wires.model.run(batch, keep_graph=differentiable).logits
    assert logits is not None
    return logits[:, 0]


@contextmanager
def skipped(wires: Wires, first: int) -> Iterator[None]:
    """The forward inside leaves out the blocks before layer `first`: each gives what it is called with. Nothing of them
    is read, since every port that is computed gets its stream set."""
    architecture = wires.model.architecture
    assert architecture is not None
    blocks = [architecture.block(layer) for layer in range(first)]
    for layer, block in enumerate(blocks):
        block.__dict__["forward"] = _same(wires.gives(layer))
    try:
        yield
    finally:
        for block in blocks:
            del block.__dict__["forward"]


def _same(more: int | None) -> Any:
    """A block that gives its input: a tensor alone (None), or with so many Nones after it."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        slot = hidden(args, kwargs)
        x = kwargs[slot] if isinstance(slot, str) else args[slot]
        return x if more is None else (x, *[None] * more)

    return forward


def at_ends(wires: Wires, ends: Tensor) -> Tap:
    """The unembedding computed at the columns `ends` [batch] alone: logits [batch, 1, vocab]."""

    def gather(x: Tensor) -> Tensor:
        x = x.reshape(len(ends), -1, x.shape[-1])
        return x[torch.arange(len(ends), device=x.device), ends.to(x.device)][:, None]

    return entering(wires.unembedding, gather)


class _Masked:
    """The streams of one masked forward, as they grow."""

    def __init__(self, wires: Wires, other: Senders, mask: Tensor, labels: Tensor | None = None) -> None:
        self.wires, self.other, self.mask, self.labels = wires, other, mask, labels
        # current - ablated of the sources so far, [batch, n, position, d]: in pieces that a gradient can go through, or
        # in one buffer, which is faster by as many products as there are pieces.
        self.pieces: list[Tensor] = []
        self.buffer: Tensor | None = None
        if not (torch.is_grad_enabled() and (mask.requires_grad or other.start.requires_grad)):
            shape = (len(other.start), len(wires.split.sources), *other.start.shape[1:])
            self.buffer = other.start.new_empty(shape)
        self.n_written = 0
        self.base = other.start
        self.done = 0  # layers whose sources are known
        self.pending: list[tuple[int, Tensor, Tensor]] = []
        self.neurons: dict[int, Tensor] = {}  # of the layer whose MLP is running
        heads = [layer.n_heads for layer in wires.layers]
        kv = [layer.projections["k"].weight.shape[0] for layer in wires.layers]
        self.first_source = [1 + sum(x.n_heads + x.n_mlp for x in wires.layers[:i]) for i in range(len(heads))]
        self.first_port = [sum(n + 2 * k + 1 for n, k in zip(heads[:i], kv[:i])) for i in range(len(heads) + 1)]
        self.heads_of, self.kv_of = heads, kv

    # ---- writing

    def go_on(self, known: Senders, first: int) -> None:
        """As if the layers before `first` had run, their sources writing what is known."""
        self.done = first
        difference = known - self.other
        self._put(difference.start[:, None])
        for i in range(first):
            layer = self.wires.layers[i]
            self._put(layer.messages(difference.u[i]))
            self._put(layer.mlp_messages(difference.mlp[i], difference.neurons[i]))
            self.base = self.base + torch.einsum("bphc,hcd->bpd", self.other.u[i], layer.w_out) + layer.constant
            self.base = self.base + self.other.mlp[i]

    def start(self, x: Tensor) -> None:
        if not self.done:
            self._put((x - self.other.start)[:, None])

    def heads(self, i: int, z: Tensor) -> None:
        layer = self.wires.layers[i]
        u = layer.scaled(z)
        ablated_sum = torch.einsum("bphc,hcd->bpd", self.other.u[i], layer.w_out) + layer.constant
        self._write(self.first_source[i], layer.messages(u - self.other.u[i]), ablated_sum)

    def mlp_wrote(self, i: int, x: Tensor) -> None:
        layer, first = self.wires.layers[i], self.first_source[i] + self.heads_of[i]
        v = self.neurons.pop(i) - self.other.neurons[i] if layer.neurons is not None else none_of(x)
        self._write(first, layer.mlp_messages(x - self.other.mlp[i], v), self.other.mlp[i])

    def fired(self, i: int, act: Tensor) -> None:
        neurons = self.wires.layers[i].neurons
        assert neurons is not None
        self.neurons[i] = neurons.scaled(act)

    def _write(self, first: int, difference: Tensor, other: Tensor) -> None:
        self.pending.append((first, difference, other))
        if self.wires.parallel and len(self.pending) < 2:
            return  # what runs beside it must not read it
        for _, delta, x in sorted(self.pending, key=lambda item: item[0]):
            self._put(delta)
            self.base = self.base + x
        self.pending = []

    def _put(self, delta: Tensor) -> None:
        """The next sources, in their order."""
        if self.buffer is None:
            self.pieces.append(delta)
        else:
            self.buffer[:, self.n_written : self.n_written + delta.shape[1]] = delta
        self.n_written += delta.shape[1]

    # ---- reading

    def stream(self, first: int, n: int) -> Tensor:
        """What ports first … first + n - 1 read, [batch, n, position, d]."""
        total, source = self.base[:, None], 0
        for delta in self.pieces if self.buffer is None else [self.buffer[:, : self.n_written]]:
            m = self.mask[..., source : source + delta.shape[1], first : first + n].transpose(-1, -2)
            source += delta.shape[1]
            if self.labels is None:
                total = total + (m @ delta.flatten(2)).reshape(len(delta), n, *delta.shape[2:])
                continue
            each = m[self.labels] if m.ndim == 3 else m[torch.arange(len(m), device=m.device)[:, None], self.labels]
            # each [batch, position, port, source]: the mask of the position's span
            total = total + (each @ delta.transpose(1, 2)).transpose(1, 2)
        return total

    def project(self, i: int, kind: str) -> Tensor:
        n, kv = self.heads_of[i], self.kv_of[i]
        skip, many = {"q": (0, n), "k": (n, kv), "v": (n + kv, kv)}[kind]
        layer = self.wires.layers[i]
        return layer.projections[kind](normed(layer.attn_norm, self.stream(self.first_port[i] + skip, many)))

    def mlp(self, i: int) -> Tensor:
        last = self.first_port[i + 1] - 1
        return normed(self.wires.layers[i].mlp_norm, self.stream(last, 1)[:, 0])

    def final(self) -> Tensor:
        return self.stream(self.first_port[-1], 1)[:, 0]


def measure(
    wires: Wires, graph: Graph, task: Any, masks: Tensor, ablation: str, *, bytes_: int = BYTES, tokens: int = 2048
) -> Tensor:
    """The task's metric of each item under each mask: masks [m, source, destination] (or one of them) -> [m, n].

    Costs m * n masked forwards of one row, `tokens` at a time, and one forward an item for what is ablated.
    """
    single = masks.ndim == 2
    masks = graph.ported(masks[None] if single else masks)
    labels = span_labels(task, graph.spans)
    dtype = next(wires.model.hf.parameters()).dtype
    width = task.clean.ids.shape[1]
    each = width * len(graph.sources) * wires.d_model * dtype.itemsize * 2
    at_once = max(1, min(bytes_ // each, tokens // width))
    other_of = ablated(wires, task, ablation)
    ends = columns(task)
    found = torch.empty(len(masks), len(task), dtype=torch.float64)
    with torch.no_grad():
        for rows in chunks(len(task), at_once):
            other = other_of(rows)
            for some in chunks(len(masks), at_once // len(rows)):
                again = rows.repeat(len(some))
                index = torch.arange(len(rows)).repeat(len(some))
                batch = rows_of(wires.model, task.clean, again)
                mask = masks[some].to(wires.model.device, dtype)
                mask = mask[0] if len(some) == 1 else mask.repeat_interleave(len(rows), 0)
                where = None if labels is None else labels[again].to(wires.model.device)
                logits = masked_logits(wires, batch, other.take(index), mask, ends[again], labels=where)
                values = task.take(again).metric(logits).double().cpu()
                found[some[:, None], rows[None]] = values.reshape(len(some), len(rows))
    return found[0] if single else found


def columns(task: Any) -> Tensor:
    """[n] the column of the batch at which each item's answer is read."""
    if "end" not in task.positions:
        raise InputError(f"{task.name} names no position 'end', where its answer is read.")
    starts = torch.tensor(task.clean.layout.starts)
    return starts + torch.as_tensor(task.positions["end"]).cpu()
