"""The cells of a sweep: which part of which point each changes, and to what."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName
from cutaway.model.content import Content
from cutaway.model.interventions import Intervention, patch, zero
from cutaway.model.sites import Site

if TYPE_CHECKING:
    from cutaway.model.model import Model

Kind = Literal["denoise", "noise", "zero", "mean", "resample"]
KINDS: tuple[Kind, ...] = ("denoise", "noise", "zero", "mean", "resample")
Change = Callable[[str, dict[str, object]], Intervention]
EACH = ("head", "position", "neuron")


@dataclass(frozen=True)
class Axes:
    """What a sweep goes over: points, and the heads, positions or neurons of each.

    `positions`: label and, for each item, the position that it stands for (None where the item has none).
    """

    addresses: tuple[str, ...]
    each: tuple[str, ...]
    parts: int  # heads or neurons at each point; 1 where they aren't told apart
    part: str  # "head", "kv_head", "neuron" or ""
    positions: tuple[tuple[str, tuple[int | None, ...]], ...]  # () where they aren't told apart

    @property
    def names(self) -> tuple[str, ...]:
        return ("layer", *(("head" if name == "kv_head" else name) for name in self.each))

    @property
    def shape(self) -> tuple[int, ...]:
        sizes = {"head": self.parts, "neuron": self.parts, "position": len(self.positions)}
        return (len(self.addresses), *(sizes[name] for name in self.each))

    def places(self) -> list[tuple[str, dict[str, int]]]:
        """(address, {axis: index}) of every cell, in the order of `shape`."""
        ranges = [range(size) for size in self.shape[1:]]
        return [
            (address, dict(zip(self.each, index))) for address in self.addresses for index in itertools.product(*ranges)
        ]

    def cells(self, change: Change, items: Sequence[int]) -> list[list[Intervention]]:
        """Each cell's interventions on some of the items; [] for one that none of them has.

        `change(address, where)` makes one of them. Items in which a named position lies elsewhere get one each.
        """
        made = []
        for address, index in self.places():
            where: dict[str, object] = {}
            if self.part and self.part.removeprefix("kv_") in index:
                where["head" if self.part != "neuron" else "neuron"] = index[self.part.removeprefix("kv_")]
            if "position" not in index:
                made.append([change(address, where)])
                continue
            at = self.positions[index["position"]][1]
            rows: dict[int, list[int]] = {}
            for row, item in enumerate(items):
                if (position := at[item]) is not None:
                    rows.setdefault(position, []).append(row)
            made.append(
                [
                    change(address, {**where, "positions": position, **({} if len(r) == len(items) else {"rows": r})})
                    for position, r in rows.items()
                ]
            )
        return made

    def present(self, n: int) -> Tensor:
        """Truth values [*shape, item]: whether the item has the cell's position."""
        held = torch.ones(*self.shape, n, dtype=torch.bool)
        if "position" in self.each:
            mine = torch.tensor([[p is not None for p in at] for _, at in self.positions])  # [position, item]
            axis = self.names.index("position")
            held &= mine.reshape([len(self.positions) if i == axis else 1 for i in range(len(self.shape))] + [n])
        return held


def axes_of(
    model: Model, at: str, each: Sequence[str] | str, positions: Sequence[str | int] | None, lengths: Sequence[int],
    named: dict[str, list[int]],
) -> Axes:  # fmt: skip
    """Raises InputError, UnknownName: no such point, an axis that the point has not, positions that no item has."""
    wanted = (each,) if isinstance(each, str) else tuple(each)
    for name in wanted:
        if name not in EACH:
            raise UnknownName("axis to sweep over", str(name), EACH)
    if len(set(wanted)) < len(wanted) or {"head", "neuron"} <= set(wanted):
        raise InputError(f"each={wanted}: an axis once, and heads or neurons, not both.")
    addresses = model.addresses(at)
    sites = [model.site(address) for address in addresses]
    part, parts = _part(at, sites, wanted)
    if "position" not in wanted:
        if positions is not None:
            raise InputError("positions= chooses among the positions of each=('position', …).")
        return Axes(addresses, wanted, parts, part, ())
    if not {"position", "query"} & set(sites[0].axes):
        raise InputError(f"{at} has no positions to sweep over; its axes are {', '.join(sites[0].axes)}.")
    chosen: Sequence[str | int] = range(max(lengths)) if positions is None else positions
    return Axes(addresses, wanted, parts, part, tuple(_position(p, lengths, named) for p in chosen))


def _part(at: str, sites: Sequence[Site], each: Sequence[str]) -> tuple[str, int]:
    wanted = next((name for name in each if name in ("head", "neuron")), None)
    if wanted is None:
        return "", 1
    for name in ("kv_head", "head") if wanted == "head" else ("neuron",):
        if name in sites[0].axes:
            break
    else:
        raise InputError(f"{at} has no {wanted}s to sweep over; its axes are {', '.join(sites[0].axes)}.")
    return name, 0  # counted on the tensors, see `counted`


def _position(
    position: str | int, lengths: Sequence[int], named: dict[str, list[int]]
) -> tuple[str, tuple[int | None, ...]]:
    if isinstance(position, str):
        if position not in named:
            raise UnknownName("position of the task", position, named)
        return position, tuple(named[position])
    found = tuple(position % length if -length <= position < length else None for length in lengths)
    if not any(p is not None for p in found):
        raise InputError(f"no prompt has a position {position}; the longest has {max(lengths)} tokens.")
    return str(position), found


def counted(axes: Axes, shape: Sequence[int], site: Site) -> Axes:
    """The axes with the number of heads or neurons, from the shape of the point's tensor."""
    if not axes.part:
        return axes
    return Axes(axes.addresses, axes.each, int(shape[site.axes.index(axes.part)]), axes.part, axes.positions)


def changer(how: Kind, values: dict[str, Tensor]) -> Change:
    """What a cell does: sets its part to zero, or to what `values` [row, position, …] have there."""
    if how == "zero":
        return lambda address, where: zero(address, **where)
    held = {address: Content.of(value, f"the values at {address}") for address, value in values.items()}
    return lambda address, where: patch(address, held[address], **where)  # type: ignore[arg-type]
