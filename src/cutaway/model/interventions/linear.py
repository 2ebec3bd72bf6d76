"""Interventions that are linear in what is there: add a vector, scale, project directions out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cutaway.core.numbers import finite
from cutaway.model.content import Content
from cutaway.model.interventions.base import Intervention
from cutaway.model.interventions.values import fit, orthonormal, spanning
from cutaway.model.selection import Place, select


@dataclass(frozen=True)
class Add(Intervention):
    vector: Content
    kind: ClassVar[str] = "add"

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        return x + fit(self.vector, address, place, x, "the vector")


@dataclass(frozen=True)
class Scale(Intervention):
    factor: float
    kind: ClassVar[str] = "scale"

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        return x * self.factor


@dataclass(frozen=True)
class ProjectOut(Intervention):
    directions: Content  # [k, width]
    kind: ClassVar[str] = "project_out"

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        basis = orthonormal(self.directions, x, place)  # [k, width]
        return x - (x @ basis.T) @ basis


def add(at: str, vector: Any, **where: Any) -> Add:
    """Add a vector: x -> x + v; v is anything that broadcasts to the selected part, or a tensor of the whole point."""
    return Add(str(at), Content.of(vector, "vector"), select=select(where))


def scale(at: str, factor: float, **where: Any) -> Scale:
    """Multiply by a number: x -> c x."""
    most = torch.finfo(torch.float32).max
    return Scale(str(at), finite(factor, "factor", -most, most), select=select(where))


def project_out(at: str, directions: Any, **where: Any) -> ProjectOut:
    """Remove the span of `directions` ([width] or [k, width]) from the last axis: x - x V^T V, V's rows orthonormal."""
    return ProjectOut(str(at), spanning(directions, "directions"), select=select(where))
