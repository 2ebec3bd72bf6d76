"""The edges of a compiled program's residual graph, and which of them are there.

An edge goes from what writes to the residual stream (token embedding, position embedding, heads, MLPs) to what reads it
later (queries, keys and values of heads, MLPs, the unembedding). Two meanings of "true":

    structural   what the source writes meets what the destination reads; constants (BOS, biases) do not count
    causal       some resample of the edge's message changes the output: the message of another input of the same length
                 in place of this one's, all else as the model then makes it

A structural edge can be without effect, as when a selector takes everything. Only a structural edge can be causal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.core.drawing import Drawn
from cutaway.toys.rasp.plan import POSITIONS, TOKENS

INPUT = "input"  # both embeddings as one source
KINDS = ("exists", "structural", "causal")


@dataclass(frozen=True, eq=False)
class Edges(Drawn):
    """Edges as matrices [source, destination] of booleans.

    Names are those of circuits: sources `tokens`, `positions`, `a0.h1`, `m0`; destinations `a1.h0<q>`, `a1.h0<k>`,
    `a1.h0<v>`, `m1`, `logits`. Only components that compute something are listed. `exists`: the source runs before the
    destination. `tried`: pairs of inputs on which each edge was resampled until one changed the output; `proven`: the
    verdict on `causal` is certain: a change was found, every pair was tried, or the message is the same for all inputs.
    """

    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    exists: Tensor
    structural: Tensor
    causal: Tensor
    tried: Tensor
    proven: Tensor

    def pairs(self, kind: str = "causal") -> frozenset[tuple[str, str]]:
        """The edges of a kind (exists, structural, causal) as (source, destination). Raises InputError."""
        if kind not in KINDS:
            raise InputError(f"edges are {', '.join(KINDS)}; given {kind!r}.")
        matrix: Tensor = getattr(self, kind)
        return frozenset((self.sources[s], self.destinations[d]) for s, d in matrix.nonzero().tolist())

    def count(self, kind: str) -> int:
        return len(self.pairs(kind))

    def merged(self) -> Edges:
        """The same with both embeddings as the one source `input`, as graphs that start at resid_pre.0 have it. An edge
        from it is true if either is; for `causal` this says that resampling one of the two embeddings can matter."""
        rows = [self.sources.index(name) for name in (TOKENS, POSITIONS) if name in self.sources]
        others = [s for s in range(len(self.sources)) if s not in rows]

        def join(matrix: Tensor, how: Any) -> Tensor:
            return torch.cat([how(matrix[rows], 0)[None], matrix[others]])

        def any_of(x: Tensor, dim: int) -> Tensor:
            return x.any(dim)

        proven = torch.cat([(self.causal[rows].any(0) | self.proven[rows].all(0))[None], self.proven[others]])
        return Edges(
            (INPUT, *(self.sources[s] for s in others)),
            self.destinations,
            join(self.exists, any_of),
            join(self.structural, any_of),
            join(self.causal, any_of),
            join(self.tried, lambda x, dim: x.sum(dim)),
            proven,
        )

    def __str__(self) -> str:
        structural, causal = self.count("structural"), self.count("causal")
        lines = [
            f"{self.count('exists')} edges: {structural} structural, {causal} of them causal",
            f"{'from':10} {'to':10} causal",
        ]
        for s, d in self.structural.nonzero().tolist():
            verdict = "yes" if self.causal[s, d] else "no"
            if not self.proven[s, d]:
                verdict = f"not found in {int(self.tried[s, d]):,} resamples"
            lines.append(f"{self.sources[s]:10} {self.destinations[d]:10} {verdict}")
        return "\n".join(lines)

    __repr__ = __str__

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.rasp-edges/1",
            "sources": list(self.sources),
            "destinations": list(self.destinations),
            "edges": [
                {
                    "source": self.sources[s],
                    "destination": self.destinations[d],
                    "structural": bool(self.structural[s, d]),
                    "causal": bool(self.causal[s, d]),
                    "proven": bool(self.proven[s, d]),
                    "tried": int(self.tried[s, d]),
                }
                for s, d in self.exists.nonzero().tolist()
            ],
        }
