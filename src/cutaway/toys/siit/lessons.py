"""What a program says, as targets: its output on every input, and its output after an exchange between two inputs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from cutaway.toys.rasp import CompiledProgram
from cutaway.toys.rasp.wiring import Wiring, wiring


@dataclass(frozen=True, eq=False)
class Lesson:
    """All inputs of one length, with what every component of the program writes on them."""

    ids: Tensor  # [input, 1 + position]
    messages: dict[str, Tensor]
    output: Tensor  # [input, position], BOS not counted
    wires: Wiring
    margin: float  # least logit difference between best and second where the program has a meaning

    def __len__(self) -> int:
        return len(self.ids)

    def exchanged(self, component: str, base: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """(output [pair, position], where it is defined) when `component` writes on inputs `base` what it writes on
        inputs `source`. Undefined where the exchange leaves the program no meaning: two answers at once."""
        known = {name: message[base] for name, message in self.messages.items()}
        logits = self.wires.exchanged(self.ids[base], known, component, self.messages[component][source])[:, 1:]
        best = logits.topk(2, dim=-1).values
        return logits.argmax(-1), best[..., 0] - best[..., 1] > 0.9 * self.margin


def lessons(compiled: CompiledProgram) -> list[Lesson]:
    """One for each length."""
    wires = wiring(compiled.compiled, compiled.vocabulary)
    found = []
    for _, same in groupby(compiled.program.inputs(), key=len):
        ids = compiled.ids(list(same))
        messages = wires.messages(ids)
        logits = wires.logits(ids, messages)[:, 1:]
        best = logits.topk(2, dim=-1).values
        margin = float((best[..., 0] - best[..., 1]).min())
        found.append(Lesson(ids, messages, logits.argmax(-1), wires, margin))
    return found


def draw(found: list[Lesson], rows: int, generator: torch.Generator) -> tuple[Lesson, Tensor, Tensor]:
    """(a lesson, base rows, source rows): longer inputs more often, since there are more of them."""
    weights = torch.tensor([float(len(lesson)) for lesson in found]).sqrt()
    lesson = found[int(torch.multinomial(weights, 1, generator=generator))]
    base, source = torch.randint(len(lesson), (2, rows), generator=generator)
    return lesson, base, source
