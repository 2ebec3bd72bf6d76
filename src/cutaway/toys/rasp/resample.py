"""Structural and causal truth of every edge, from the weights and by resampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby, repeat

import torch
from torch import Tensor

from cutaway.toys.rasp.edges import Edges
from cutaway.toys.rasp.language import Value
from cutaway.toys.rasp.program import Program
from cutaway.toys.rasp.vocabulary import Vocabulary
from cutaway.toys.rasp.wiring import Wiring

SAME = 1e-6  # messages that differ by less are one (attention at coldness 100 leaks 1e-22)
CHUNKS = (64, 512, 2048)  # pairs a forward: few at first, since most causal edges show at once


def true_edges(wires: Wiring, program: Program, vocabulary: Vocabulary, *, most: int = 20_000, seed: int = 0) -> Edges:
    """Every edge with both truths.

    For each structural edge: the messages as the destination reads them, of all inputs of each length. If they never
    differ the edge is not causal. Else pairs (input, other input) are drawn until one changes the decoded output at
    some position, or all are done, or `most` of them. Costs up to `most` rows of forwards for an edge without effect.
    """
    sources, destinations = wires.sources, wires.destinations
    shape = (len(sources), len(destinations))
    exists = torch.tensor([[wires.time(s) < wires.time(d) for d in destinations] for s in sources])
    structural = torch.zeros(shape, dtype=torch.bool)
    for s, source in enumerate(sources):
        for d, destination in enumerate(destinations):
            if exists[s, d]:
                # Column 0 is BOS, a constant.
                meets = wires.reads(destination)[:, 1:] @ wires.writes(source)[1:]
                structural[s, d] = bool((meets.abs() > 1e-9).any())
    causal, proven, tried = structural.clone(), ~structural, torch.zeros(shape, dtype=torch.long)
    lengths = [_Length(wires, vocabulary, list(same)) for _, same in groupby(program.inputs(), key=len)]
    generator = torch.Generator().manual_seed(seed)
    for s, d in structural.nonzero().tolist():
        found, whole, count = _search(wires, lengths, sources[s], destinations[d], most, generator)
        causal[s, d], proven[s, d], tried[s, d] = found, found or whole, count
    return Edges(sources, destinations, exists, structural, causal, tried, proven)


class _Length:
    """All inputs of one length: their ids, every message on them, and what the model says."""

    def __init__(self, wires: Wiring, vocabulary: Vocabulary, inputs: Sequence[Sequence[Value]]) -> None:
        self.ids = torch.tensor([vocabulary.encode(given) for given in inputs])
        self.messages = wires.messages(self.ids)
        self.output = wires.logits(self.ids, self.messages)[:, 1:].argmax(-1)


def _search(
    wires: Wiring, lengths: list[_Length], source: str, destination: str, most: int, generator: torch.Generator
) -> tuple[bool, bool, int]:
    """(a resample changed the output, every pair was tried, how many were)."""
    varying = [one for one in lengths if _varies(one.messages[source] @ wires.reads(destination).T)]
    tried = 0
    for one in reversed(varying):  # most causal edges show in a few pairs of long inputs
        base, other = torch.randint(len(one.ids), (2, CHUNKS[0]), generator=generator)
        tried += len(base)
        if _changes(wires, one, source, destination, base, other):
            return True, False, tried
    candidates = [(one, _different(one.messages[source] @ wires.reads(destination).T)) for one in varying]
    total = sum(len(one.ids) * len(rows) for one, rows in candidates)
    # Each length gets its share of the pairs, longest first: there is the most to change.
    for one, rows in reversed(candidates):
        pairs = len(one.ids) * len(rows)
        share = pairs if total <= most else max(1, most * pairs // total)
        order = torch.randperm(pairs, generator=generator)[:share]
        for some in _chunks(order):
            base, other = some // len(rows), rows[some % len(rows)]
            tried += len(some)
            if _changes(wires, one, source, destination, base, other):
                return True, False, tried
    return False, total <= most, tried


def _chunks(order: Tensor) -> Iterator[Tensor]:
    start = 0
    for size in chain(CHUNKS, repeat(CHUNKS[-1])):
        if start >= len(order):
            return
        yield order[start : start + size]
        start += size


def _varies(read: Tensor) -> bool:
    """Whether messages [input, position, n] differ between inputs."""
    return bool(((read - read[:1]).abs() > SAME).any())


def _different(read: Tensor) -> Tensor:
    """Rows [n] of inputs whose messages [input, position, n] are all the different ones."""
    flat = (read.flatten(1) / SAME).round()
    _, which = torch.unique(flat, dim=0, return_inverse=True)
    first = torch.full((int(which.max()) + 1,), len(flat))
    return first.scatter_reduce(0, which, torch.arange(len(flat)), "amin")


def _changes(wires: Wiring, one: _Length, source: str, destination: str, base: Tensor, other: Tensor) -> bool:
    message = one.messages[source]
    known = {name: x[base] for name, x in one.messages.items()}
    logits = wires.logits(one.ids[base], known, destination, message[other] - message[base])
    return bool((logits[:, 1:].argmax(-1) != one.output[base]).any())
