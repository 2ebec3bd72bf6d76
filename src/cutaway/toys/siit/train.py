"""Strict interchange intervention training (Gupta et al. 2024, InterpBench; Geiger et al. 2022 for IIT).

    loss = CE(plain, program(base)) + CE(node exchanged, program with the component exchanged)
         + 0.4 CE(node off the circuit exchanged, program(base))

with one pair of inputs (base, source) a row, one circuit node and one other node drawn a step, exchanged at all
positions. The result behaves as the program does, for the program's reasons, and with nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cutaway.core import InputError
from cutaway.toys.rasp import CompiledProgram
from cutaway.toys.siit.lessons import Lesson, draw, lessons
from cutaway.toys.siit.network import Network, fresh
from cutaway.toys.siit.score import score


@dataclass(frozen=True)
class Settings:
    """Of one training. `steps` at most: it ends when every score on `n` pairs is 1 twice running."""

    steps: int = 6000
    batch: int = 128
    lr: float = 5e-3
    iit: float = 1.0
    behaviour: float = 1.0
    strict: float = 0.4
    d_model: int = 64
    heads: int = 4
    n: int = 200  # pairs a node when scores are looked at
    every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "d_model", "heads", "n", "every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is at least 1; given {getattr(self, name)}.")
        if not self.lr > 0 or min(self.iit, self.behaviour, self.strict) < 0:
            raise InputError("lr is positive, and no loss weight is negative.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network and how many steps it took."""

    network: Network
    steps: int
    settings: Settings


def train(
    compiled: CompiledProgram,
    settings: Settings | None = None,
    *,
    label: str = "",
    on: Callable[[str], None] | None = None,
) -> Trained:
    """Train a network to be the program. A step costs two forwards of `batch` and 3 `batch` rows, and one backward:
    5 to 60 ms on one core. `on` gets a line of progress now and then, which begins with `label`."""
    s = settings or Settings()
    network, known = fresh(compiled, d_model=s.d_model, heads=s.heads, seed=s.seed), lessons(compiled)
    generator = torch.Generator().manual_seed(s.seed)
    weights = [parameter for parameter in network.model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=s.lr, weight_decay=0.0)
    warm = max(1, s.steps // 50)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda t: min(1.0, (t + 1) / warm, 1.02 - t / s.steps))
    network.model.train()
    perfect = step = 0
    for step in range(1, s.steps + 1):
        lesson, base, source = draw(known, s.batch, generator)
        loss = _loss(network, lesson, base, source, s, generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()
        if step % s.every == 0 or step == s.steps:
            found = score(network, known, n=s.n, seed=s.seed + step)
            perfect = perfect + 1 if found.perfect else 0
            if on is not None:
                on(f"{label or compiled.name}: step {step:,}, loss {loss.item():.4f}, {found.line()}")
            if perfect == 2:
                break
    network.model.eval().requires_grad_(False)
    return Trained(network, step, s)


def _loss(
    network: Network, lesson: Lesson, base: Tensor, source: Tensor, s: Settings, generator: torch.Generator
) -> Tensor:
    """The three losses on one draw of a circuit node and another node."""
    expected = lesson.output[base]
    node = _pick(network.circuit, generator)
    other = _pick(network.others, generator) if network.others else None
    theirs = network.outputs(lesson.ids[source]) if s.iit or s.strict else {}

    def change(name: str, x: Tensor) -> Tensor:
        plain, exchanged, strict = x.chunk(3)
        return torch.cat(
            [plain, theirs[name] if name == node and s.iit else exchanged,
             theirs[name] if name == other and s.strict else strict]
        )  # fmt: skip

    logits = network.forward(lesson.ids[base].repeat(3, 1), change)[:, 1:]
    plain, exchanged, strict = logits.chunk(3)
    loss = s.behaviour * _entropy(plain, expected)
    if s.iit:
        target, defined = lesson.exchanged(node, base, source)
        if defined.any():
            loss = loss + s.iit * _entropy(exchanged[defined], target[defined])
    if s.strict and other is not None:
        loss = loss + s.strict * _entropy(strict, expected)
    return loss


def _entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1))


def _pick(names: tuple[str, ...], generator: torch.Generator) -> str:
    return names[int(torch.randint(len(names), (1,), generator=generator))]
