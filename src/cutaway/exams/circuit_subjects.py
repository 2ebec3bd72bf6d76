"""Subjects of the exam of circuits: compiled programs, whose edges are known, and networks trained to be programs,
whose nodes are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

KINDS = ("causal", "structural")


class Subject:
    """A compiled program as a model with a task, and its true edges in the model's graph."""

    def __init__(self, compiled: Any, pairs: int, seed: int) -> None:
        from cutaway.circuits import opened

        self.name = compiled.name
        self.model = compiled.load()
        self.wires = opened(self.model)
        self.graph = self.wires.graph()
        self.task = pairs_of(compiled, self.model, pairs, seed)
        edges = compiled.truth.edges.merged()
        self.exists = self.graph.mask(edges.pairs("exists"))
        self.truth = {kind: self.graph.mask(edges.pairs(kind)) for kind in KINDS}


class Trained:
    """A network trained to be a program. `nodes` [source]: which heads and MLPs stand for a component of the program;
    `truth`: the edges between them that the program has, by which kind."""

    def __init__(self, name: str, pairs: int, seed: int) -> None:
        from cutaway.circuits import opened
        from cutaway.model import load
        from cutaway.toys.siit.shipped import shipped

        compiled, network = shipped(name)
        self.name = name
        self.model = load(network.model, tokenizer=compiled.tokenizer)
        self.model.name = f"{name}, trained"
        self.wires = opened(self.model)
        self.graph = self.wires.graph()
        self.task = pairs_of(compiled, self.model, pairs, seed)
        self.exists = self.graph.exists
        self.nodes = torch.tensor([source in network.circuit for source in self.graph.sources])
        edges = compiled.truth.edges.merged()
        self.truth = {kind: self.graph.mask(edges.pairs(kind)) for kind in KINDS}


def margin(logits: Tensor, target: Any) -> Tensor:
    """logit(right output) - the largest other logit."""
    right = logits.gather(-1, target.answers[:, None])[:, 0]
    return right - logits.scatter(-1, target.answers[:, None], -torch.inf).max(-1).values


def pairs_of(compiled: Any, model: Any, pairs: int, seed: int) -> Any:
    """Items of a program: an input, another of the same length, and the position whose output is read. The right output
    is the model's own, which is the program's."""
    from cutaway.model.tokens import Batch
    from cutaway.tasks import Item, Task
    from cutaway.tasks.metrics import Target, bind

    inputs = list(compiled.program.inputs())
    by_length: dict[int, list[int]] = {}
    for i, given in enumerate(inputs):
        by_length.setdefault(len(given), []).append(i)
    several = {length: rows for length, rows in by_length.items() if len(rows) > 1}
    generator = torch.Generator().manual_seed(seed)

    def draw(most: int) -> int:
        return int(torch.randint(most, (1,), generator=generator))

    lengths = sorted(several)
    width = 1 + max(lengths)
    clean, other, ends, mask = [], [], [], []
    while len(clean) < pairs:
        # Longer inputs have more to change: lengths are drawn by their share of all positions.
        length = lengths[int(torch.multinomial(torch.tensor([float(x) for x in lengths]), 1, generator=generator))]
        same = several[length]
        a, b = same[draw(len(same))], same[draw(len(same))]
        if a == b:
            continue
        rows = compiled.ids([inputs[a], inputs[b]]).tolist()
        clean.append(rows[0] + [0] * (width - len(rows[0])))
        other.append(rows[1] + [0] * (width - len(rows[1])))
        mask.append([True] * len(rows[0]) + [False] * (width - len(rows[0])))
        ends.append(1 + draw(length))
    kept = torch.tensor(mask)
    batch, end = Batch(torch.tensor(clean), kept), torch.tensor(ends)
    found = [model.run(Batch(batch.ids[r : r + 256], kept[r : r + 256])).logits for r in range(0, pairs, 256)]
    answers = torch.cat(found)[torch.arange(pairs), end].argmax(-1)
    items = tuple(
        Item(" ".join(map(str, a)), " ".join(map(str, b)), str(int(t))) for a, b, t in zip(clean, other, answers)
    )
    return Task(
        name=compiled.name,
        clean=batch,
        counterfactual=Batch(torch.tensor(other), kept),
        answers=answers,
        wrong=None,
        positions={"end": end},
        template=torch.zeros(pairs, dtype=torch.long),
        items=items,
        metric=bind(margin, Target(answers), "margin"),
        seed=seed,
    )
