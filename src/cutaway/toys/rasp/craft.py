"""Craft: a residual stream whose directions have names (the middle layer of Lindner et al. 2023).

A variable lives in a subspace of its own, orthogonal to all others: one direction for each value if categorical, one
direction if numerical. One more direction, BOS, is 1 at the first position and 0 elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from cutaway.toys.rasp.language import Value

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Subspace:
    """Where one variable lives: coordinates `start` … `start + size` of the named basis."""

    name: str
    values: tuple[Value, ...]
    numerical: bool
    start: int

    @property
    def size(self) -> int:
        return 1 if self.numerical else len(self.values)

    @property
    def columns(self) -> slice:
        return slice(self.start, self.start + self.size)

    def encode(self, value: Value) -> Array:
        """[size]: the number itself, or a one at the value's direction; zeros for None."""
        if self.numerical:
            return np.array([0.0 if value is None else float(Fraction(value))])
        out = np.zeros(self.size)
        if value is not None:
            out[self.values.index(value)] = 1.0
        return out

    def decode(self, coordinates: Array) -> list[Value]:
        """The nearest values to coordinates [n, size]; None is the zero vector."""
        if self.numerical:
            numbers = np.array([float(Fraction(value)) for value in self.values])
            return [self.values[i] for i in np.abs(coordinates - numbers).argmin(-1)]
        if not self.values:
            return [None] * len(coordinates)
        best = coordinates.argmax(-1)
        held = np.take_along_axis(coordinates, best[:, None], -1)[:, 0] > 0.5
        return [self.values[i] if there else None for i, there in zip(best, held, strict=True)]

    def labels(self) -> list[str]:
        """A name for each direction."""
        return [self.name] if self.numerical else [f"{self.name}={value}" for value in self.values]


BOS = "bos"


@dataclass(frozen=True)
class Residual:
    """The residual stream as a vector space with a named basis: BOS first, then the variables in order."""

    subspaces: dict[str, Subspace]
    width: int
    at_bos: dict[str, Array] = field(default_factory=dict)  # what a variable's subspace holds at the BOS position

    @classmethod
    def of(cls, variables: Iterable[tuple[str, tuple[Value, ...], bool]], at_bos: dict[str, Value]) -> Residual:
        """Room for (name, values, numerical) each. `at_bos`: the values that are not zero at BOS."""
        spaces: dict[str, Subspace] = {}
        start = 1
        for name, values, numerical in variables:
            spaces[name] = Subspace(name, values, numerical, start)
            start += spaces[name].size
        return cls(spaces, start, {name: spaces[name].encode(value) for name, value in at_bos.items()})

    def labels(self) -> list[str]:
        return [BOS, *(label for space in self.subspaces.values() for label in space.labels())]

    def reader(self, name: str, matrix: Array) -> Array:
        """[n, width]: `matrix` [n, size] applied to a variable, and zero at BOS whatever the variable holds there."""
        rows = np.zeros((len(matrix), self.width))
        rows[:, self.subspaces[name].columns] = matrix
        if name in self.at_bos:
            rows[:, 0] = -(matrix @ self.at_bos[name])  # cancels what it holds there
        return rows

    def bos_reader(self, weight: float) -> Array:
        """[1, width]: weight at BOS, 0 elsewhere."""
        row = np.zeros((1, self.width))
        row[0, 0] = weight
        return row

    def writer(self, name: str, matrix: Array) -> Array:
        """[width, n]: columns of `matrix` [size, n] written into a variable's subspace."""
        out = np.zeros((self.width, matrix.shape[1]))
        out[self.subspaces[name].columns] = matrix
        return out

    def basis(self, name: str) -> Array:
        """[size, width]: the variable's directions, orthonormal."""
        return np.eye(self.width)[self.subspaces[name].columns]
