"""Featurizers: a vector as (features, error), and back. What an interchange exchanges is some of the features.

features(x) = (f, e),  inverse(f, e) = x,  swap(base, source) = inverse(f_base with its chosen features from
f_source, e_base)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cutaway.core import InputError


@dataclass(frozen=True, eq=False)
class Featurizer:
    """Vectors [..., width]. `chosen` [k] are the features that stand for the variable; None: all of them."""

    kind: ClassVar[str] = ""

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [..., width] -> features [..., n], error [..., width]."""
        raise NotImplementedError

    def inverse(self, f: Tensor, error: Tensor) -> Tensor:
        """Features and error -> x."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """How many features are exchanged."""
        raise NotImplementedError

    def swap(self, base: Tensor, source: Tensor) -> Tensor:
        """base with the chosen features of source; both [..., width]."""
        _, error = self.features(base)
        return self.inverse(self.features(source)[0], error)

    def rows(self, width: int) -> Tensor | None:
        """[k, width] orthonormal directions that `swap` exchanges; None where it is not linear."""
        return None

    def tensors(self) -> dict[str, Tensor]:
        return {}


@dataclass(frozen=True, eq=False)
class Whole(Featurizer):
    """The vector itself: f = x, no error."""

    width: int
    kind: ClassVar[str] = "whole"

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, torch.zeros_like(x)

    def inverse(self, f: Tensor, error: Tensor) -> Tensor:
        return f + error

    @property
    def size(self) -> int:
        return self.width

    def rows(self, width: int) -> Tensor:
        return torch.eye(width)


@dataclass(frozen=True, eq=False)
class Subspace(Featurizer):
    """Orthonormal directions, the rows of B [k, width]: f = x B^T, e = x - f B. `origin`: how they were found."""

    basis: Tensor
    origin: str = "given"
    kind: ClassVar[str] = "subspace"

    @classmethod
    def spanning(cls, directions: Tensor, origin: str = "given") -> Subspace:
        """From directions [k, width] that are linearly independent."""
        return cls(orthonormal(directions.double().T).T.float().contiguous(), origin)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f = x @ self.basis.T.to(x)
        return f, x - f @ self.basis.to(x)

    def inverse(self, f: Tensor, error: Tensor) -> Tensor:
        x: Tensor = f @ self.basis.to(f) + error
        return x

    @property
    def size(self) -> int:
        return len(self.basis)

    def rows(self, width: int) -> Tensor:
        return self.basis

    def tensors(self) -> dict[str, Tensor]:
        return {"basis": self.basis}


@dataclass(frozen=True, eq=False)
class Coordinates(Featurizer):
    """Some coordinates: f = x[chosen], e = x with these set to zero."""

    chosen: tuple[int, ...]
    width: int
    kind: ClassVar[str] = "coordinates"

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        at = torch.tensor(self.chosen, device=x.device, dtype=torch.long)
        return x[..., at], x.index_fill(-1, at, 0.0)

    def inverse(self, f: Tensor, error: Tensor) -> Tensor:
        return error.index_copy(-1, torch.tensor(self.chosen, device=f.device, dtype=torch.long), f)

    @property
    def size(self) -> int:
        return len(self.chosen)

    def rows(self, width: int) -> Tensor:
        return torch.eye(width)[list(self.chosen)]

    def tensors(self) -> dict[str, Tensor]:
        return {"chosen": torch.tensor(self.chosen, dtype=torch.long)}


@dataclass(frozen=True, eq=False)
class DictionaryFeatures(Featurizer):
    """A dictionary's features f = encode(x), e = x - decode(f); those in `chosen` are exchanged."""

    chosen: tuple[int, ...]
    dictionary: Any
    kind: ClassVar[str] = "dictionary"

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f: Tensor = self.dictionary.encode(x)
        return f, x - self.dictionary.decode(f)

    def inverse(self, f: Tensor, error: Tensor) -> Tensor:
        decoded: Tensor = self.dictionary.decode(f)
        return decoded + error

    @property
    def size(self) -> int:
        return len(self.chosen)

    def swap(self, base: Tensor, source: Tensor) -> Tensor:
        f, error = self.features(base)
        g = self.dictionary.encode(source)
        at = torch.tensor(self.chosen, device=f.device, dtype=torch.long)
        return self.inverse(f.index_copy(-1, at, g.index_select(-1, at)), error)

    def tensors(self) -> dict[str, Tensor]:
        return {"chosen": torch.tensor(self.chosen, dtype=torch.long)}


def orthonormal(w: Tensor) -> Tensor:
    """[…, width, k] -> orthonormal columns that span the same: Q of a QR. Differentiable."""
    q: Tensor = torch.linalg.qr(w)[0]
    return q


def principal(x: Tensor, k: int) -> Tensor:
    """[k, width]: the first k principal components of x [n, width]. Raises InputError for too many."""
    flat = x.reshape(-1, x.shape[-1]).double()
    if k > min(flat.shape):
        raise InputError(f"{k} principal components of {flat.shape[0]} vectors of width {flat.shape[1]}: too many.")
    components: Tensor = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:k]
    return components.float().contiguous()


def random_subspace(width: int, k: int, generator: torch.Generator) -> Tensor:
    """[k, width]: orthonormal rows that span an evenly distributed random subspace."""
    return orthonormal(torch.randn(width, k, generator=generator, dtype=torch.float64)).T.float().contiguous()
