"""The edges there are: from what writes to the residual stream to what reads it later.

    sources        input (what enters the first block: token and position embeddings), a3.h5 (a head), m2 (an MLP);
                   where some of its neurons are sources of their own: m2.n17, and m2 is the rest of it
    ports          a3.h5<q>, a3.h5<k>, a3.h5<v>, m2, logits: each reads a stream of its own. Where key and value heads
                   are shared (GQA) theirs are a3.kv1<k> and a3.kv1<v>
    destinations   the ports themselves (split), or a head's three ports as one: a3.h5, or a3.kv1 for the query heads
                   that share a key head, with it

An edge exists where the source writes before the destination reads. In a block whose attention and MLP run side by side
(GPT-NeoX, GPT-J, Falcon) none leads from its heads to its MLP.

With spans (named positions, and "rest" for the others) a destination is what is read at the positions of one span:
a3.h5<q>@end, m2@S2. What a source writes at a position is read at that position, so an edge has one span; `logits` is
read at the end alone.

    nodes          a source with all its edges; with spans with all those of one span: a3.h5@end
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName

INPUT, LOGITS, END = "input", "logits", "end"
_LAYER = re.compile(r"^[am](\d+)")


@dataclass(frozen=True, eq=False)
class Graph:
    """Names and order of a model's sources, ports and destinations. Equal graphs have equal names.

    `writes` [S], `reads` [P]: times; an edge needs writes < reads. `of_port` [P]: the destination of each port; with
    spans [P, span].
    """

    sources: tuple[str, ...]
    ports: tuple[str, ...]
    destinations: tuple[str, ...]
    writes: Tensor
    reads: Tensor
    of_port: Tensor
    split: bool
    spans: tuple[str, ...] = ()

    @cached_property
    def exists(self) -> Tensor:
        """[source, destination] of booleans."""
        when = torch.zeros(len(self.destinations), dtype=torch.long)
        when[self.of_port] = self.reads[:, None] if self.spans else self.reads
        return self.writes[:, None] < when[None]

    @property
    def n_edges(self) -> int:
        return int(self.exists.sum())

    def ported(self, mask: Tensor) -> Tensor:
        """[…, source, destination] -> […, source, port]: what each port takes of each source. With spans
        […, span, source, port]."""
        found = mask[..., self.of_port.to(mask.device)]
        return found.movedim(-1, -3) if self.spans else found

    def gathered(self, scores: Tensor) -> Tensor:
        """[…, source, port] -> [..., source, destination]: the scores of a destination's ports added up. With spans
        from […, span, source, port]."""
        if not self.spans:
            found = scores.new_zeros(*scores.shape[:-1], len(self.destinations))
            return found.index_add_(-1, self.of_port.to(scores.device), scores)
        found = scores.new_zeros(*scores.shape[:-3], *scores.shape[-2:-1], len(self.destinations))
        for span in range(len(self.spans)):
            found.index_add_(-1, self.of_port[:, span].to(scores.device), scores[..., span, :, :])
        return found

    def read_by(self, destination: int) -> tuple[list[int], int | None]:
        """(the ports of a destination, its span; None: all positions)."""
        hits = (self.of_port == destination).nonzero()
        several = not self.spans or self.destinations[destination] == LOGITS
        return sorted(set(hits[:, 0].tolist())), None if several else int(hits[0, 1])

    @property
    def span_of(self) -> Tensor:
        """[destination] the number of its span, 0 without spans. The logits are read in the span "end", in the last
        where none has that name (the rest, or the last column)."""
        found = torch.zeros(len(self.destinations), dtype=torch.long)
        if self.spans:
            found[self.of_port] = torch.arange(len(self.spans))
            found[-1] = self.spans.index(END) if END in self.spans else len(self.spans) - 1
        return found

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Names, by source and then span; those that nothing reads (the last MLP but at the end) are none."""
        each = self._node_places.tolist()
        return tuple(self.sources[s] + (f"@{self.spans[k]}" if self.spans else "") for s, k in each)

    @cached_property
    def node_of(self) -> Tensor:
        """[source, destination] the number of the node that an edge belongs to; -1 where no edge exists."""
        number = torch.full((len(self.sources), max(1, len(self.spans))), -1)
        number[tuple(self._node_places.T)] = torch.arange(len(self.nodes))
        return torch.where(self.exists, number[:, self.span_of], -1)

    @cached_property
    def _node_places(self) -> Tensor:
        """[node, 2] source and span."""
        read = torch.zeros(len(self.sources), max(1, len(self.spans)), dtype=torch.bool)
        for span in range(read.shape[1]):
            read[:, span] = self.exists[:, self.span_of == span].any(1)
        return read.nonzero()

    @property
    def source_of(self) -> Tensor:
        """[node] the source of each node."""
        return self._node_places[:, 0]

    def of_nodes(self, keep: Tensor) -> Tensor:
        """keep [..., node] -> [..., source, destination]: the edges of these nodes."""
        return keep[..., self.node_of.clamp(min=0)] & self.exists

    def by_node(self, values: Tensor) -> Tensor:
        """[..., source, destination] -> [..., node]: the largest value among a node's edges (of booleans: any)."""
        flat = values[..., self.exists]
        x = flat.to(torch.uint8) if flat.dtype == torch.bool else flat
        index = self.node_of[self.exists].expand(x.shape)
        found = x.new_zeros(*x.shape[:-1], len(self.nodes)).scatter_reduce(-1, index, x, "amax", include_self=False)
        return found.to(flat.dtype)

    def spread(self, keep: Tensor) -> Tensor:
        """keep [..., node] -> [..., source, span]; True where there is no such node."""
        found = keep.new_ones(*keep.shape[:-1], len(self.sources), max(1, len(self.spans)))
        found[..., self._node_places[:, 0], self._node_places[:, 1]] = keep
        return found

    def source(self, name: str) -> int:
        if name not in self.sources:
            raise UnknownName("source", name, self.sources)
        return self.sources.index(name)

    def destination(self, name: str) -> int:
        if name not in self.destinations:
            raise UnknownName("destination", name, self.destinations)
        return self.destinations.index(name)

    def edge(self, source: str, destination: str) -> tuple[int, int]:
        """The indices of an edge. Raises UnknownName; InputError where the source runs too late."""
        s, d = self.source(source), self.destination(destination)
        if not self.exists[s, d]:
            raise InputError(f"no edge {source}->{destination}: {source} writes after {destination} has read.")
        return s, d

    def mask(self, edges: Iterable[tuple[str, str]]) -> Tensor:
        """[source, destination] of booleans, True at these edges."""
        found = torch.zeros_like(self.exists)
        for source, destination in edges:
            found[self.edge(source, destination)] = True
        return found

    def pairs(self, mask: Tensor) -> list[tuple[str, str]]:
        """The edges of a mask, by source and then destination."""
        return [(self.sources[s], self.destinations[d]) for s, d in mask.nonzero().tolist()]

    def on_paths(self, mask: Tensor) -> Tensor:
        """The edges of a mask that lie on some path of it from the input to the logits."""
        owners = self._owners  # [D, S]: destination d feeds source s
        forward = torch.zeros(len(self.sources), dtype=torch.bool)
        forward[0] = True
        backward = torch.zeros(len(self.destinations), dtype=torch.bool)
        backward[-1] = True
        while True:
            reached = (mask & forward[:, None]).any(0)
            wanted = (mask & backward[None]).any(1)
            after = forward | (owners & reached[:, None]).any(0), backward | (owners & wanted[None]).any(1)
            if bool((after[0] == forward).all() and (after[1] == backward).all()):
                return mask & forward[:, None] & backward[None]
            forward, backward = after

    @cached_property
    def _owners(self) -> Tensor:
        """[destination, source] True where the destination is (part of) what the source computes from."""
        found = torch.zeros(len(self.destinations), len(self.sources), dtype=torch.bool)
        shared = self.shared
        for d, name in enumerate(self.destinations):
            stem = _stem(name)
            feeds = shared.get(stem, (stem,))
            for s, source in enumerate(self.sources):
                found[d, s] = source in feeds or source.partition(".n")[0] in feeds
        return found

    @property
    def neurons(self) -> tuple[str, ...]:
        """The sources that are neurons: m2.n17."""
        return tuple(name for name in self.sources if ".n" in name)

    @cached_property
    def feeds(self) -> list[list[int]]:
        """For each source the destinations that it computes from; none for the input."""
        return [self._owners[:, s].nonzero()[:, 0].tolist() for s in range(len(self.sources))]

    @cached_property
    def shared(self) -> dict[str, tuple[str, ...]]:
        """a3.kv1 -> the heads that use this key and value head."""
        found: dict[str, tuple[str, ...]] = {}
        stems = dict.fromkeys(_stem(name) for name in (*self.ports, *self.destinations) if ".kv" in name)
        for stem in stems:
            layer, _, number = stem.partition(".kv")
            heads = [name for name in self.sources if name.startswith(f"{layer}.h")]
            groups = len({name for name in self.ports if name.startswith(f"{layer}.kv") and name.endswith("<k>")})
            each = len(heads) // groups
            found[stem] = tuple(heads[int(number) * each : (int(number) + 1) * each])
        return found

    def at(self, spans: Sequence[str]) -> Graph:
        """The same graph with each destination but the logits taken apart by these spans."""
        if self.spans:
            raise InputError(f"the graph is taken apart by {', '.join(self.spans)} already.")
        if len(set(spans)) != len(spans) or not spans:
            raise InputError(f"spans are different names, at least one; given {list(spans)}.")
        names = [f"{name}@{span}" for name in self.destinations[:-1] for span in spans]
        of_port = self.of_port[:, None] * len(spans) + torch.arange(len(spans))
        of_port[-1] = len(names)
        return replace(self, destinations=(*names, LOGITS), of_port=of_port, spans=tuple(spans))

    @property
    def layers(self) -> list[int | None]:
        """The layer of each source; None for the input."""
        return [None if (m := _LAYER.match(name)) is None else int(m.group(1)) for name in self.sources]


def _stem(destination: str) -> str:
    """a3.h5<q>@end -> a3.h5"""
    return destination.partition("@")[0].partition("<")[0]


def graph_of(
    heads: Sequence[tuple[int, int]],
    parallel: Sequence[bool],
    split: bool = True,
    neurons: Sequence[Sequence[int]] | None = None,
) -> Graph:
    """The graph of a model with (heads, key-value heads) in each layer; `parallel`: whether its MLP runs beside;
    `neurons`: those of each layer that are sources of their own."""
    sources, writes = [INPUT], [0]
    ports: list[str] = []
    reads: list[int] = []
    owner: list[str] = []  # each port's destination
    for layer, ((n, kv), beside) in enumerate(zip(heads, parallel)):
        at, mlp = 4 * layer + 1, 4 * layer + (1 if beside else 3)
        apart = [f"m{layer}.n{i}" for i in (neurons[layer] if neurons else ())]
        sources += [f"a{layer}.h{h}" for h in range(n)] + [f"m{layer}", *apart]
        writes += [at + 1] * n + [mlp + 1] * (1 + len(apart))
        key = "h" if kv == n else "kv"
        each = n // kv
        for h in range(n):
            ports.append(f"a{layer}.h{h}<q>")
            owner.append(f"a{layer}.{key}{h // each}")
        for kind in "kv":
            ports += [f"a{layer}.{key}{h}<{kind}>" for h in range(kv)]
            owner += [f"a{layer}.{key}{h}" for h in range(kv)]
        ports.append(f"m{layer}")
        owner.append(f"m{layer}")
        reads += [at] * (n + 2 * kv) + [mlp]
    ports.append(LOGITS)
    owner.append(LOGITS)
    reads.append(4 * len(heads) + 1)
    names = tuple(ports) if split else tuple(dict.fromkeys(owner))
    place = {name: i for i, name in enumerate(names)}
    of_port = [place[name] for name in (ports if split else owner)]
    return Graph(
        tuple(sources), tuple(ports), names, torch.tensor(writes), torch.tensor(reads), torch.tensor(of_port), split
    )
