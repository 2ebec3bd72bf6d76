"""A compiled program as wires: what each component writes, what each destination reads, and a forward in which the
message of one edge is another's. Float64, in the named basis, without the zeros that fill up layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.toys.rasp.assemble import position_embedding, token_embedding, unembedding
from cutaway.toys.rasp.compiler import Compiled
from cutaway.toys.rasp.craft import Array
from cutaway.toys.rasp.heads import Head
from cutaway.toys.rasp.neurons import Neurons
from cutaway.toys.rasp.plan import LOGITS, Component
from cutaway.toys.rasp.vocabulary import Vocabulary

PORTS = ("q", "k", "v")
END = 10**9  # when the unembedding reads


@dataclass(frozen=True, eq=False)
class Wiring:
    """Components in the order in which they run, and the matrices that they read and write with."""

    components: tuple[Component, ...]
    tokens: Tensor  # [vocab, width]
    positions: Tensor  # [positions, width]
    unembedding: Tensor  # [vocab, width]
    unembedding_bias: Tensor  # [vocab]
    heads: dict[str, tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]  # W_Q, b_Q, W_K, W_V, W_O
    mlps: dict[str, tuple[Tensor, Tensor, Tensor]]  # W_in, b_in, W_out
    causal: bool

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(component.name for component in self.components)

    @property
    def destinations(self) -> tuple[str, ...]:
        found: list[str] = []
        for component in self.components:
            if component.kind == "head":
                found += [f"{component.name}<{port}>" for port in PORTS]
            elif component.kind == "mlp":
                found.append(component.name)
        return (*found, LOGITS)

    def time(self, name: str) -> int:
        """When a source writes, or a destination reads."""
        if name == LOGITS:
            return END
        stem = name.partition("<")[0]
        return next(component.time for component in self.components if component.name == stem)

    def reads(self, destination: str) -> Tensor:
        """[n, width]: the matrix with which a destination reads the residual stream."""
        if destination == LOGITS:
            return self.unembedding
        stem, _, port = destination.partition("<")
        if not port:
            return self.mlps[stem][0]
        query, _, key, value, _ = self.heads[stem]
        return {"q": query, "k": key, "v": value}[port[0]]

    def writes(self, source: str) -> Tensor:
        """[width, n]: columns that span what a source writes, anywhere but at BOS."""
        if source in self.heads:
            _, _, _, value, out = self.heads[source]
            return out @ value
        if source in self.mlps:
            return self.mlps[source][2]
        rows = self.tokens[2:] if source == "tokens" else self.positions[1:]
        return rows.T

    def messages(self, ids: Tensor) -> dict[str, Tensor]:
        """What every source writes on token ids [row, position]: [row, position, width] each."""
        found: dict[str, Tensor] = {}
        self._go_on(ids, found, None, None)
        return found

    def logits(
        self, ids: Tensor, messages: dict[str, Tensor], at: str | None = None, change: Tensor | None = None
    ) -> Tensor:
        """Logits [row, position, vocab] when destination `at` reads `change` [row, position, width] more than it would.
        `messages` of sources that run before it are taken as they are, later ones computed anew."""
        start = END if at is None else self.time(at)
        known = {name: x for name, x in messages.items() if self.time(name) < start}
        return self._go_on(ids, known, at, change)

    def exchanged(self, ids: Tensor, messages: dict[str, Tensor], source: str, message: Tensor) -> Tensor:
        """Logits when `source` writes `message` [row, position, width] instead of its own, for all that read it."""
        at = self.time(source)
        known = {name: x for name, x in messages.items() if self.time(name) <= at}
        return self._go_on(ids, {**known, source: message}, None, None)

    def _go_on(self, ids: Tensor, known: dict[str, Tensor], at: str | None, change: Tensor | None) -> Tensor:
        """Compute every component that is not in `known` (which is filled), then the logits."""
        if "tokens" not in known:
            known["tokens"] = self.tokens[ids]
            known["positions"] = self.positions[: ids.shape[1]].expand(len(ids), -1, -1)

        def read(destination: str) -> Tensor:
            x = sum((m for n, m in known.items() if self.time(n) < self.time(destination)), torch.zeros(()))
            x = x + change if destination == at and change is not None else x
            return x @ self.reads(destination).T

        for component in self.components:
            name = component.name
            if name in known:
                continue
            if component.kind == "head":
                _, bias, _, _, out = self.heads[name]
                scores = (read(f"{name}<q>") + bias) @ read(f"{name}<k>").transpose(1, 2)
                if self.causal:
                    scores = scores.masked_fill(torch.ones(scores.shape[1:]).triu(1).bool(), -torch.inf)
                known[name] = scores.softmax(-1) @ read(f"{name}<v>") @ out.T
            else:
                _, bias, out = self.mlps[name]
                known[name] = (read(name) + bias).relu() @ out.T
        return read(LOGITS) + self.unembedding_bias


def wiring(compiled: Compiled, vocabulary: Vocabulary) -> Wiring:
    """The wires of a compiled program."""

    def tensor(x: Array) -> Tensor:
        return torch.tensor(x, dtype=torch.float64)

    def head(one: Head) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return tensor(one.query), tensor(one.query_bias), tensor(one.key), tensor(one.value), tensor(one.out)

    def mlp(one: Neurons) -> tuple[Tensor, Tensor, Tensor]:
        return tensor(one.into), tensor(one.bias), tensor(one.out)

    matrix, bias = unembedding(compiled, vocabulary)
    return Wiring(
        tuple(compiled.plan.components),
        tensor(token_embedding(compiled, vocabulary)),
        tensor(position_embedding(compiled)),
        tensor(matrix),
        tensor(bias),
        {component.name: head(one) for component, one in compiled.heads.items()},
        {component.name: mlp(one) for component, one in compiled.mlps.items()},
        compiled.causal,
    )
