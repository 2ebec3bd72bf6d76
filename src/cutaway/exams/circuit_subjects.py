"""Subjects of the exam of circuits: compiled programs, whose edges are known, and networks trained to be programs,
whose nodes are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from cutaway.model import Model
    from cutaway.tasks import Task


class Truth(NamedTuple):
    """What is known of a subject. `level`: of edges, both [source, destination]; of nodes, both [source]. `among`: what
    there is to rank, `true`: what a ranking should have first."""

    level: Literal["edge", "node"]
    among: Tensor
    true: Tensor


class Subject:
    """A model with a task, and what is known of its graph. `about`: what kind of subject it is."""

    name: str
    about: ClassVar[str]
    truths: Mapping[str, Truth]
    exists: Tensor  # the edges that can carry something

    def __init__(self, model: Model, task: Task) -> None:
        from cutaway.circuits import opened

        self.model, self.task = model, task
        self.wires = opened(model)
        self.graph = self.wires.graph()

    def items(self, most: int) -> Task:
        """At most so many items, those whose counterfactual has another output first: an item whose output stays shows
        little of what its edges carry."""
        logits = self.model.run(self.task.counterfactual).logits
        assert logits is not None
        after = logits[torch.arange(len(self.task)), self.task.positions["end"]].argmax(-1)
        return self.task.take((after == self.task.answers).int().argsort(stable=True)[:most])


class Program(Subject):
    """A compiled program, whose edges are known: those by which an output can reach another component (structural), and
    those whose resampling changes an output (causal). A node is true where a causal edge leaves it."""

    about = "program"

    def __init__(self, name: str, pairs: int, seed: int) -> None:
        from cutaway.toys.rasp import compile_program, program

        compiled = compile_program(program(name))
        model = compiled.load()
        super().__init__(model, pairs_of(compiled, model, pairs, seed))
        self.name = name
        edges = compiled.truth.edges.merged()
        self.exists = self.graph.mask(edges.pairs("exists"))
        self.causal = self.graph.mask(edges.pairs("causal"))
        self.truths = {
            "causal edges": Truth("edge", self.exists, self.causal),
            "structural edges": Truth("edge", self.exists, self.graph.mask(edges.pairs("structural"))),
            "nodes with a causal edge": Truth("node", _but_input(self.exists.any(1)), self.causal.any(1)),
        }


class Trained(Subject):
    """A network trained to be a program. Its true nodes are the heads and MLPs that stand for a component of the
    program, its true edges those between them that the program has; it may have learned others."""

    about = "network"

    def __init__(self, name: str, pairs: int, seed: int) -> None:
        from cutaway.model import load
        from cutaway.toys.siit.shipped import shipped

        compiled, network = shipped(name)
        model = load(network.model, tokenizer=compiled.tokenizer)
        model.name = f"{name}, trained"
        super().__init__(model, pairs_of(compiled, model, pairs, seed))
        self.name = model.name
        self.exists = self.graph.exists
        nodes = torch.tensor([source in network.circuit for source in self.graph.sources])
        program = self.graph.mask(compiled.truth.edges.merged().pairs("structural"))
        self.truths = {
            "nodes of the circuit": Truth("node", _but_input(self.exists.any(1)), nodes),
            "edges of the program": Truth("edge", self.exists, program),
        }


def _but_input(nodes: Tensor) -> Tensor:
    """Without the input, which is in every circuit."""
    return nodes & (torch.arange(len(nodes)) > 0)


def margin(logits: Tensor, target: Any) -> Tensor:
    """logit(right output) - the largest other logit."""
    right = logits.gather(-1, target.answers[:, None])[:, 0]
    return right - logits.scatter(-1, target.answers[:, None], -torch.inf).max(-1).values


def pairs_of(compiled: Any, model: Model, pairs: int, seed: int) -> Task:
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
