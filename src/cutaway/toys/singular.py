"""Losses whose learning coefficient is known exactly, as a toy of the `cutaway toy` verb: what the estimators of
`development/` are examined on. Each row is a value beside another way to get it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from cutaway.core import InputError, UnknownName
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.toys.registry import Asked

_ITEMS = {
    "deep-linear": "deep linear networks: half the Jacobian's rank at a generic point, Aoyagi's value at the balanced",
    "normal-crossing": "prod w_i^(2 k_i): lambda = min 1 / (2 k_i), its multiplicity the ties",
    "polygons": "superposition in two dimensions: regular polygons with closed-form loss",
}
_OPTIONS = {
    "dims": "widths of the deep linear network, 5-3-5 by default",
    "rank": "of its product, 1 by default",
    "k": "exponents of the normal crossing, 1-1 by default (at most three)",
    "features": "of the polygons, 6 by default",
}


@dataclass(frozen=True)
class Row:
    """One exact value, what it was held against, and whether they agree."""

    toy: str
    what: str
    value: float
    beside: str
    holds: bool


@dataclass(frozen=True, repr=False)
class Truths(Drawn):
    """Exact values, each beside its check."""

    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        return all(row.holds for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        return {"schema": "cutaway.singular/1", "passed": self.passed, "rows": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        lines = [("", "exact", "held against", "")]
        lines += [(f"{r.toy}: {r.what}", f"{r.value:.6g}", r.beside, "" if r.holds else "FAILS") for r in self.rows]
        return "\n".join([*columns(lines, right=(1,)), "estimates beside these: cutaway exam development"])

    __repr__ = __str__


def items() -> Mapping[str, str]:
    return _ITEMS


def options() -> Mapping[str, str]:
    return _OPTIONS


def run(asked: Asked) -> Truths:
    """The toys named, all three if none. Raises InputError, UnknownName."""
    if asked.given is not None or asked.out is not None:
        raise InputError("these are losses, not models: they take no --input and write nothing.")
    for name in asked.options:
        if name not in _OPTIONS:
            raise UnknownName("option", name, _OPTIONS)
    makers: dict[str, Callable[[Mapping[str, str]], list[Row]]] = {
        "deep-linear": _deep_linear, "normal-crossing": _crossing, "polygons": _polygons,
    }  # fmt: skip
    for name in asked.items:
        if name not in makers:
            raise UnknownName("toy", name, makers)
    return Truths(tuple(row for name in asked.items or makers for row in makers[name](asked.options)))


def _numbers(options: Mapping[str, str], name: str, default: str) -> tuple[int, ...]:
    given = options.get(name, default)
    try:
        return tuple(int(part) for part in given.split("-"))
    except ValueError as error:
        raise InputError(f"{name} takes whole numbers, several as in 5-3-5; {given!r} was given.") from error


def _deep_linear(options: Mapping[str, str]) -> list[Row]:
    from cutaway.toys.deep_linear import aoyagi, deep_linear, jacobian_rank, zero_map_llc

    dims, (rank, *_) = _numbers(options, "dims", "5-3-5"), _numbers(options, "rank", "1")
    name = f"deep linear {'-'.join(map(str, dims))} rank {rank}"
    made = []
    generic, balanced = deep_linear(dims, rank, "generic"), deep_linear(dims, rank, "balanced")
    at_generic, (at_balanced, m) = jacobian_rank(generic) / 2, aoyagi(dims, rank)
    ranks = [int(torch.linalg.matrix_rank(module.product())) for module in (generic, balanced)]
    made.append(Row(name, "lambda at a generic point", at_generic, f"the product there has rank {ranks[0]}",
                    ranks[0] == rank))  # fmt: skip
    made.append(Row(name, f"lambda at the balanced point, multiplicity {m}", at_balanced,
                    f"at most the generic point's; half the Jacobian's rank there is {jacobian_rank(balanced) / 2:g}",
                    jacobian_rank(balanced) / 2 <= at_balanced <= at_generic and ranks[1] == rank))  # fmt: skip
    small = [d - rank for d in dims]
    if len(dims) == 3 and 1 <= small[1] <= min(2, small[0]):
        regular = at_balanced - aoyagi(small, 0)[0]
        near = regular + zero_map_llc(small[0], small[1], small[2], 1e10, 1.0)
        made.append(Row(name, "the same from quadrature of its singular block", near,
                        f"n beta 1e10: within (m - 1) / log(n beta) + .01 of {at_balanced:g}",
                        abs(near - at_balanced) <= (m - 1) / math.log(1e10) + 0.01))  # fmt: skip
    return made


def _crossing(options: Mapping[str, str]) -> list[Row]:
    from cutaway.toys.normal_crossing import NormalCrossing, crossing_llc

    k = _numbers(options, "k", "1-1")
    exact, m = NormalCrossing(k).truth
    name = "normal crossing " + " ".join(f"w{i + 1}^{2 * one}" for i, one in enumerate(k))
    found = [crossing_llc(k, t, 1.0) for t in (1e2, 1e4, 1e6)]
    shown = ", ".join(f"{value:.4f}" for value in found)
    holds = found == sorted(found) and found[-1] < exact + 1e-3
    beside = f"quadrature at n beta 1e2, 1e4, 1e6 nears it from below: {shown}"
    return [Row(name, f"lambda, multiplicity {m}", exact, beside, holds)]


def _polygons(options: Mapping[str, str]) -> list[Row]:
    from cutaway.toys.polygons import polygon_loss, regular_polygon

    (features, *_) = _numbers(options, "features", "6")
    made = []
    for k in range(2, features + 1):
        polygon = regular_polygon(k, features)
        module = polygon.place(features)
        polygon_loss(module.W, module.b).backward()  # type: ignore[no-untyped-call]
        assert module.W.grad is not None
        steepest = float(module.W.grad[:, :k].abs().max())
        made.append(Row(f"{k}-gon of {features} features", "loss", polygon.loss,
                        f"critical: the gradient of its corners is {steepest:.0e}", steepest < 1e-4))  # fmt: skip
    return made
