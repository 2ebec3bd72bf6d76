"""What is trained at a place: several independent copies ("cells") at once, each with a leading axis of its own.

`change(base, source, weight)` takes [cell, vector, width] and gives what an interchange makes of it while training;
`frozen()` is the featurizer that each cell ends as.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from cutaway.abstraction.featurizers import (
    Coordinates,
    DictionaryFeatures,
    Featurizer,
    Subspace,
    orthonormal,
)


class Learner(Protocol):
    """`parameters` are groups for the optimiser, each with a factor for the learning rate."""

    def parameters(self) -> list[tuple[Tensor, float]]: ...

    def change(self, base: Tensor, source: Tensor, weight: Tensor | None) -> Tensor: ...

    def penalty(self) -> Tensor | None:
        """[cell], or None."""
        ...

    def cool(self, done: float) -> None:
        """Told the share of the training that is done."""
        ...

    def frozen(self) -> list[list[Featurizer]]:
        """[cell][variable]."""
        ...


def _start(width: int, k: int, seeds: Sequence[int]) -> Tensor:
    """[cell, width, k] Gaussian columns of about unit length."""
    drawn = [torch.randn(width, k, generator=torch.Generator().manual_seed(1000 + seed)) for seed in seeds]
    return torch.stack(drawn) / math.sqrt(width)


class Rotation:
    """DAS with `sum(sizes)` dimensions; several variables at one place have orthogonal subspaces of it.

    One variable: h_b + (h_s - h_b) W (W^T W)^-1 W^T. The projector onto the span of W [width, k] is all that an
    interchange needs, so W is never orthogonalised: the Gram matrix is k x k, and the cost 2 vectors x width x k.
    Several: the blocks of an orthonormal basis Q = qr(W), each with its own source.
    """

    def __init__(self, width: int, sizes: Sequence[int], seeds: Sequence[int]) -> None:
        self.sizes = tuple(sizes)
        self.w = _start(width, sum(sizes), seeds).requires_grad_()

    def parameters(self) -> list[tuple[Tensor, float]]:
        return [(self.w, 1.0)]

    def change(self, base: Tensor, source: Tensor, weight: Tensor | None) -> Tensor:
        """source: [cell, vector, width], or [variable, cell, vector, width] with weight [variable, cell, vector, 1]."""
        w = self.w
        if len(self.sizes) == 1:
            delta = source - base.float() if weight is None else (source - base.float()) * weight
            inverse = torch.linalg.inv_ex(w.mT @ w)[0]
            moved: Tensor = (delta @ w) @ (inverse @ w.mT)
            return base + moved.to(base.dtype)
        moved = torch.zeros_like(base, dtype=w.dtype)
        for number, q in enumerate(torch.split(orthonormal(w), list(self.sizes), -1)):
            delta = source[number] - base.float()
            delta = delta if weight is None else delta * weight[number]
            moved = moved + (delta @ q) @ q.mT
        return base + moved.to(base.dtype)

    def penalty(self) -> Tensor | None:
        return None

    def cool(self, done: float) -> None:
        del done

    def frozen(self) -> list[list[Featurizer]]:
        q = orthonormal(self.w.detach().double()).mT.float()  # [cell, k, width]
        return [[Subspace(rows.contiguous(), "das") for rows in torch.split(cell, list(self.sizes))] for cell in q]


class Boundless:
    """Boundless DAS (Wu et al. 2023): an orthonormal Q [width, m] and a boundary b in (0, 1).

    Dimension i takes part by  sigma(i / T) sigma((b m - i) / T),  T from 50 to 0.1 in equal ratios; the boundary costs
    b in the loss. At the end the dimensions i < b m are exchanged.
    """

    hot, cold = 50.0, 0.1

    def __init__(self, width: int, most: int, seeds: Sequence[int]) -> None:
        self.most, self.temperature = most, self.hot
        self.w = _start(width, most, seeds).requires_grad_()
        self.boundary = torch.full((len(seeds),), 0.5, requires_grad=True)

    def parameters(self) -> list[tuple[Tensor, float]]:
        return [(self.w, 1.0), (self.boundary, 10.0)]

    @property
    def _bounded(self) -> Tensor:
        return self.boundary.clamp(1e-3, 1.0)

    def change(self, base: Tensor, source: Tensor, weight: Tensor | None) -> Tensor:
        i, t = torch.arange(self.most, device=base.device), self.temperature
        mask = torch.sigmoid(i / t) * torch.sigmoid((self._bounded[:, None] * self.most - i) / t)  # [cell, m]
        # Dimensions that hardly take part need not be orthogonal to anything: columns are orthogonalised in order.
        used = int((mask > 1e-6).sum(1).max())
        q = orthonormal(self.w[..., :used])
        delta = source - base.float() if weight is None else (source - base.float()) * weight
        return base + (((delta @ q) * mask[:, None, :used]) @ q.mT).to(base.dtype)

    def penalty(self) -> Tensor | None:
        return self._bounded

    def cool(self, done: float) -> None:
        self.temperature = self.hot * (self.cold / self.hot) ** done

    def frozen(self) -> list[list[Featurizer]]:
        found: list[list[Featurizer]] = []
        for w, b in zip(self.w.detach(), self._bounded.tolist()):
            k = max(1, min(self.most, math.ceil(b * self.most)))
            found.append([Subspace(orthonormal(w.double()).T[:k].float().contiguous(), "boundless")])
        return found


class Mask:
    """Differential binary masking: feature j is exchanged by sigma(m_j / T), T from 1 to 0.01; sum of the mask in the
    loss, times `sparsity`; at the end m_j > 0 decides. With a dictionary the features are its own, else coordinates."""

    hot, cold = 1.0, 0.01

    def __init__(self, width: int, cells: int, dictionary: Any = None, sparsity: float = 1e-3) -> None:
        self.dictionary, self.width, self.temperature, self.sparsity = dictionary, width, self.hot, sparsity
        # Just above the middle, so that a feature that nothing speaks against is not lost to rounding at once.
        self.m = torch.full((cells, width), 0.1).requires_grad_()

    def parameters(self) -> list[tuple[Tensor, float]]:
        return [(self.m, 1.0)]

    def change(self, base: Tensor, source: Tensor, weight: Tensor | None) -> Tensor:
        mask = torch.sigmoid(self.m / self.temperature)[:, None]
        mask = mask if weight is None else mask * weight
        if self.dictionary is None:
            return base + (mask * (source - base.float())).to(base.dtype)
        f, g = self.dictionary.encode(base), self.dictionary.encode(source)
        # decode(f + mask (g - f)) + (x - decode(f))
        moved: Tensor = self.dictionary.decode(f + mask * (g - f)) - self.dictionary.decode(f)
        return base + moved.to(base.dtype)

    def penalty(self) -> Tensor | None:
        return self.sparsity * torch.sigmoid(self.m / self.temperature).sum(1)

    def cool(self, done: float) -> None:
        self.temperature = self.hot * (self.cold / self.hot) ** done

    def frozen(self) -> list[list[Featurizer]]:
        found: list[list[Featurizer]] = []
        for m in self.m.detach():
            chosen = tuple((m > 0).nonzero()[:, 0].tolist())
            found.append(
                [
                    Coordinates(chosen, self.width)
                    if self.dictionary is None
                    else DictionaryFeatures(chosen, self.dictionary)
                ]
            )
        return found


class Fixed:
    """Featurizers that nothing is learned of, exchanged beside those that are."""

    def __init__(self, featurizers: Sequence[Featurizer]) -> None:
        self.featurizers = list(featurizers)  # one a cell

    def parameters(self) -> list[tuple[Tensor, float]]:
        return []

    def change(self, base: Tensor, source: Tensor, weight: Tensor | None) -> Tensor:
        new = torch.stack([f.swap(b.float(), s) for f, b, s in zip(self.featurizers, base, source)]).to(base.dtype)
        return new if weight is None else torch.where(weight > 0, new, base)

    def penalty(self) -> Tensor | None:
        return None

    def cool(self, done: float) -> None:
        del done

    def frozen(self) -> list[list[Featurizer]]:
        return [[featurizer] for featurizer in self.featurizers]
