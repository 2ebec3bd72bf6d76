"""The plan of a model: which head or MLP computes each variable, and in which layer.

A variable is computed as early as it can be: by the first attention (aggregates, widths) or MLP (maps) after all of its
parents. Heads of one layer stand side by side, maps of one layer share its MLP.
"""

from __future__ import annotations

from dataclasses import dataclass

from cutaway.toys.rasp.language import Aggregate, Indices, InverseWidth, SOp, Tokens, ordered

TOKENS, POSITIONS, LOGITS = "tokens", "positions", "logits"  # the two embeddings, and the unembedding


@dataclass(frozen=True)
class Component:
    """What computes variables: an embedding, head `head` of layer `layer`, or the MLP of a layer."""

    kind: str  # "tokens", "positions", "head", "mlp"
    layer: int = -1
    head: int = -1

    @property
    def name(self) -> str:
        """`a0.h1` and `m0`, as circuits are written; `tokens` and `positions` for the embeddings."""
        if self.kind == "head":
            return f"a{self.layer}.h{self.head}"
        return f"m{self.layer}" if self.kind == "mlp" else self.kind

    @property
    def time(self) -> int:
        """Sublayers in the order in which they run: attention of layer l at 2l, its MLP at 2l + 1."""
        return -1 if self.layer < 0 else 2 * self.layer + (self.kind == "mlp")


@dataclass(frozen=True)
class Plan:
    """Where each variable is computed, and the size of the model that takes."""

    at: dict[SOp, Component]
    n_layers: int
    n_heads: int

    @property
    def components(self) -> list[Component]:
        """Every component that computes something, in the order in which they run; both embeddings always."""
        fixed = [Component(TOKENS), Component(POSITIONS)]
        later = sorted({c for c in self.at.values() if c.layer >= 0}, key=lambda c: (c.time, c.head))
        return fixed + later

    def computed_by(self, component: Component) -> list[SOp]:
        return [sop for sop, at in self.at.items() if at == component]


def plan_of(output: SOp) -> Plan:
    """The plan with every variable as early as possible."""
    at: dict[SOp, Component] = {}
    heads: dict[int, int] = {}
    for sop in ordered(output):
        if isinstance(sop, Tokens | Indices):
            at[sop] = Component(TOKENS if isinstance(sop, Tokens) else POSITIONS)
            continue
        ready = max(at[parent].time for parent in sop.parents)
        if isinstance(sop, Aggregate | InverseWidth):
            layer = (ready + 2) // 2  # the first even time after `ready` is 2 * layer
            at[sop] = Component("head", layer, heads.get(layer, 0))
            heads[layer] = heads.get(layer, 0) + 1
        else:
            at[sop] = Component("mlp", (ready + 1) // 2)
    layers = max((component.layer for component in at.values()), default=-1) + 1
    return Plan(at, max(layers, 1), max(heads.values(), default=1))
