"""How far a network is the program: what it answers, and what it answers when nodes are exchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.core import Estimate
from cutaway.evidence import proportion
from cutaway.toys.siit.lessons import Lesson, draw
from cutaway.toys.siit.network import Network

POOLED = {
    "iia": "interchange accuracy, circuit nodes",
    "changed": "interchange accuracy where the answer changes",
    "strict": "answers unchanged, other nodes",
}


@dataclass(frozen=True)
class NodeScore:
    """One node exchanged between pairs of inputs: how often the network then answers as the program does.

    `changed`: the same over the pairs in which the exchange changes the program's answer (circuit nodes only), since
    the others are also right if the node does nothing. A pair counts as right when every position at which the program
    still has a meaning is.
    """

    node: str
    in_circuit: bool
    accuracy: Estimate
    changed: Estimate | None


@dataclass(frozen=True)
class Score:
    """Behaviour (plain inputs right at every position), and every node."""

    behaviour: Estimate
    nodes: tuple[NodeScore, ...]

    @property
    def perfect(self) -> bool:
        return self.behaviour.value == 1 and all(node.accuracy.value == 1 for node in self.nodes)

    def pooled(self, which: str) -> Estimate:
        """Over nodes: `iia` (circuit), `changed` (circuit, answers that change), `strict` (other nodes)."""
        found = [
            node.changed if which == "changed" else node.accuracy
            for node in self.nodes
            if node.in_circuit == (which != "strict")
        ]
        known = [one for one in found if one is not None]
        n = sum(one.n for one in known)
        return _share(sum(round(one.value * one.n) for one in known if one.n), n, POOLED[which])

    def line(self) -> str:
        iia, strict = self.pooled("iia"), self.pooled("strict")
        return f"right {self.behaviour.value:.3f}, IIA {iia.value:.3f}, strict {strict.value:.3f}"

    def to_json(self) -> dict[str, Any]:
        return {
            "behaviour": self.behaviour.model_dump(mode="json"),
            **{which: self.pooled(which).model_dump(mode="json") for which in ("iia", "changed", "strict")},
            "nodes": [
                {
                    "node": node.node,
                    "in_circuit": node.in_circuit,
                    "accuracy": node.accuracy.model_dump(mode="json"),
                    "changed": None if node.changed is None else node.changed.model_dump(mode="json"),
                }
                for node in self.nodes
            ],
        }


@torch.no_grad()
def score(network: Network, known: list[Lesson], *, n: int = 500, seed: int = 0) -> Score:
    """Scores on `n` drawn pairs a node. Costs three forwards of `n` rows a node."""
    generator = torch.Generator().manual_seed(seed)
    right = total = 0
    for lesson in known:
        wanted = lesson.output == network.forward(lesson.ids)[:, 1:].argmax(-1)
        right, total = right + int(wanted.all(-1).sum()), total + len(lesson)
    nodes = [_circuit(network, known, node, n, generator) for node in network.circuit]
    nodes += [_other(network, known, node, n, generator) for node in network.others]
    return Score(_share(right, total, "inputs right at every position"), tuple(nodes))


def _answers(network: Network, lesson: Lesson, node: str, base: Tensor, source: Tensor) -> Tensor:
    """[pair, position]: the network's answers on `base` with the node's output on `source`."""
    theirs = network.outputs(lesson.ids[source])[node]
    logits = network.forward(lesson.ids[base], lambda name, x: theirs if name == node else x)
    return logits[:, 1:].argmax(-1)


def _circuit(network: Network, known: list[Lesson], node: str, n: int, generator: torch.Generator) -> NodeScore:
    right = total = changed_right = changed = 0
    while total < n:
        lesson, base, source = draw(known, min(n - total, 64), generator)
        target, defined = lesson.exchanged(node, base, source)
        equal = ((_answers(network, lesson, node, base, source) == target) | ~defined).all(-1)
        differs = ((target != lesson.output[base]) & defined).any(-1)
        right, total = right + int(equal.sum()), total + len(base)
        changed_right, changed = changed_right + int((equal & differs).sum()), changed + int(differs.sum())
    return NodeScore(node, True, _share(right, total, "IIA"), _share(changed_right, changed, "IIA, answer changes"))


def _other(network: Network, known: list[Lesson], node: str, n: int, generator: torch.Generator) -> NodeScore:
    right = total = 0
    while total < n:
        lesson, base, source = draw(known, min(n - total, 64), generator)
        same = (_answers(network, lesson, node, base, source) == lesson.output[base]).all(-1)
        right, total = right + int(same.sum()), total + len(base)
    return NodeScore(node, False, _share(right, total, "unchanged"), None)


def _share(right: int, n: int, name: str) -> Estimate:
    return proportion(right, n, name=name) if n else Estimate(name=name, value=float("nan"), n=0)
