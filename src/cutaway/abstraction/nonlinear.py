"""An invertible map that is not linear, to see what a map that is free enough finds (Sutter et al. 2025, "The
non-linear representation dilemma": with such maps interchange accuracy reaches 1 on networks that learned nothing).

phi(x): a rotation, x <- x Q, and then additive coupling layers (Dinh et al. 2015, "NICE") on its two halves in turn,
    v <- v + m(u),   m(u) = relu(u A + a) B,
each of which is undone exactly by v <- v - m(u). Features are phi(x); the first k are exchanged; there is no error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cutaway.abstraction.featurizers import Featurizer, orthonormal

LAYERS = 4
Layer = tuple[Tensor, Tensor, Tensor]  # A [..., width of u, hidden], a [..., 1, hidden], B [..., hidden, width of v]


def forward(x: Tensor, rotation: Tensor, layers: Sequence[Layer]) -> Tensor:
    """phi(x), x [..., vector, width]."""
    f = x @ rotation
    for number, layer in enumerate(layers):
        f = _coupled(f, layer, number, 1.0)
    return f


def backward(f: Tensor, rotation: Tensor, layers: Sequence[Layer]) -> Tensor:
    """x of phi(x) = f."""
    for number, layer in reversed(list(enumerate(layers))):
        f = _coupled(f, layer, number, -1.0)
    return f @ rotation.mT


def _coupled(f: Tensor, layer: Layer, number: int, sign: float) -> Tensor:
    u, v = f.tensor_split(2, -1)
    if number % 2:
        u, v = v, u
    a, bias, b = layer
    v = v + sign * (torch.relu(u @ a + bias) @ b)
    return torch.cat((v, u) if number % 2 else (u, v), -1)


@dataclass(frozen=True, eq=False)
class Nonlinear(Featurizer):
    """`rotation` [width, width]; the first k features are exchanged."""

    rotation: Tensor
    layers: tuple[Layer, ...]
    k: int
    kind: ClassVar[str] = "nonlinear"

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return forward(_rows(x), self.rotation.to(x), self._on(x)).reshape(x.shape), torch.zeros_like(x)

    def inverse(self, f: Tensor, error: Tensor) -> Tensor:
        return backward(_rows(f), self.rotation.to(f), self._on(f)).reshape(f.shape) + error

    def swap(self, base: Tensor, source: Tensor) -> Tensor:
        f, g = self.features(base)[0], self.features(source)[0]
        return self.inverse(torch.cat([g[..., : self.k], f[..., self.k :]], -1), torch.zeros_like(base))

    def _on(self, x: Tensor) -> list[Layer]:
        return [(a.to(x), bias.to(x), b.to(x)) for a, bias, b in self.layers]

    @property
    def size(self) -> int:
        return self.k

    def tensors(self) -> dict[str, Tensor]:
        named = {f"{number}.{name}": x for number, one in enumerate(self.layers) for name, x in zip("AaB", one)}
        return {"rotation": self.rotation, "k": torch.tensor(self.k), **named}

    @classmethod
    def read(cls, tensors: dict[str, Tensor]) -> Nonlinear:
        """From what `tensors` gave."""
        depth = sum(name.endswith(".A") for name in tensors)
        layers = tuple((tensors[f"{i}.A"], tensors[f"{i}.a"], tensors[f"{i}.B"]) for i in range(depth))
        return cls(tensors["rotation"], layers, int(tensors["k"]))

    @classmethod
    def random(cls, width: int, k: int, generator: torch.Generator) -> Nonlinear:
        """A random rotation with random couplings, about as large as what they add to."""
        rotation = orthonormal(torch.randn(width, width, generator=generator, dtype=torch.float64)).float()
        return cls(rotation, tuple(_layers(width, width, generator, 1.0)), k)


class NonlinearLearner:
    """Learned: W with Q = qr(W), and the couplings, which start at nothing: a rotation."""

    def __init__(self, width: int, k: int, seeds: Sequence[int]) -> None:
        self.k = k
        drawn = []
        for seed in seeds:
            generator = torch.Generator().manual_seed(1000 + seed)
            start = torch.randn(width, width, generator=generator) / math.sqrt(width)
            drawn.append((start, _layers(width, width, generator, 0.0)))
        self.w = torch.stack([start for start, _ in drawn]).requires_grad_()
        self.layers: list[Layer] = []
        for number in range(LAYERS):
            a, bias, b = (torch.stack([layers[number][i] for _, layers in drawn]).requires_grad_() for i in range(3))
            self.layers.append((a, bias, b))

    def parameters(self) -> list[tuple[Tensor, float]]:
        return [(self.w, 1.0), *((x, 0.3) for layer in self.layers for x in layer)]

    def change(self, base: Tensor, source: Tensor, weight: Tensor | None) -> Tensor:
        rotation = orthonormal(self.w)
        f, g = (forward(x.float(), rotation, self.layers) for x in (base, source))
        moved = torch.cat([g[..., : self.k], f[..., self.k :]], -1)
        new = backward(moved if weight is None else torch.where(weight > 0, moved, f), rotation, self.layers)
        return new.to(base.dtype)

    def penalty(self) -> Tensor | None:
        return None

    def cool(self, done: float) -> None:
        del done

    def frozen(self) -> list[list[Featurizer]]:
        rotation = orthonormal(self.w.detach().double()).float()
        return [
            [Nonlinear(q, tuple((a[i], bias[i], b[i]) for a, bias, b in self._held()), self.k)]
            for i, q in enumerate(rotation)
        ]

    def _held(self) -> list[Layer]:
        return [(a.detach(), bias.detach(), b.detach()) for a, bias, b in self.layers]


def parameters(width: int) -> int:
    """How many numbers the map has."""
    return width * width + sum(x.numel() for one in _layers(width, width, torch.Generator(), 0.0) for x in one)


def _layers(width: int, hidden: int, generator: torch.Generator, scale: float) -> list[Layer]:
    first, second = (width + 1) // 2, width // 2
    found: list[Layer] = []
    for number in range(LAYERS):
        into, out = (first, second) if number % 2 == 0 else (second, first)
        a = torch.randn(into, hidden, generator=generator) / math.sqrt(into)
        b = torch.randn(hidden, out, generator=generator) * (scale * math.sqrt(2 / hidden))
        found.append((a, torch.zeros(1, hidden), b))
    return found


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])
