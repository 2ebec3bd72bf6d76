"""A forward whose batch holds lanes: rows of the base prompts, each changed by one cell's interventions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.model.hooks import Forward, Op
from cutaway.model.sweeps.cells import Cell, column_axis

if TYPE_CHECKING:
    from cutaway.model.model import Model
    from cutaway.model.selection import Layout
    from cutaway.model.sites import Site


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of one cell, as lanes [start, stop) of a batch."""

    cell: Cell
    rows: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        return self.start + len(self.rows)


@dataclass(frozen=True, eq=False)
class LaneOp(Op):
    """One cell's intervention, for the lanes of that cell."""

    part: Part


class Lanes(Forward):
    """Applies each cell's interventions to its own lanes alone.

    An intervention speaks of the whole base batch (rows, all positions). So its point is put together from the base
    run's values and the lanes' own at the columns that are computed (`columns`), changed, and the lanes' taken back.
    """

    def __init__(self, model: Model, parts: list[Part], base: Mapping[str, Tensor], layout: Layout) -> None:
        self.columns = torch.zeros(0, dtype=torch.long)  # those computed now: [column], or [lane, column]
        self.keys = 0  # how many columns keys have now
        self._base, self._of = base, layout
        ops: list[Op] = [LaneOp(op.number, op.intervention, op.site, part) for part in parts for op in part.cell.ops]
        super().__init__(
            layout, reads=[], ops=ops, leaves=[], norms=model.norms, frozen=None, configs=model.contract.configs,
            keep_graph=False, stop=None,
        )  # fmt: skip
        self.batch = parts[-1].stop

    def _apply(self, x: Tensor, ops: list[Op]) -> Tensor:
        x = x.clone()  # interventions of many cells are written into it
        at = 0
        while at < len(ops):
            op = ops[at]
            assert isinstance(op, LaneOp)
            many = next((i for i in range(at, len(ops)) if ops[i].part is not op.part), len(ops))  # type: ignore[attr-defined]
            self._change(x, op.part, ops[at:many])
            at = many
        return x

    def _change(self, x: Tensor, part: Part, ops: list[Op]) -> None:
        site = ops[0].site
        base = self._base[site.address]
        lanes = slice(part.start, part.stop)
        if site.free:
            whole = base.clone()
            whole[list(part.rows)] = x[lanes]
            x[lanes] = self._changed(whole, site, ops)[list(part.rows)]
            return
        axis = column_axis(site)
        rows = torch.tensor(part.rows, device=x.device)[:, None]
        columns = self._columns(x.shape[axis], part)
        whole = base.movedim(axis, 1).clone()
        keys = slice(None) if axis == 1 else slice(self.keys)
        # [row, column, …, key]: keys after the last computed column are not there in x, nor seen by any query.
        mine = x.movedim(axis, 1)
        view = whole[..., keys]
        view[rows, columns] = mine[lanes]
        changed = self._changed(whole.movedim(1, axis), site, ops).movedim(axis, 1)
        mine[lanes] = changed[..., keys][rows, columns]

    def _columns(self, size: int, part: Part) -> Tensor:
        """[1 or lane, column] the columns of the base that x holds."""
        columns = self.columns
        if columns.ndim == 2:
            return columns[part.start : part.stop]
        # Keys as attention uses them come with those of the earlier columns.
        return (columns if size == len(columns) else torch.arange(size, device=columns.device))[None]

    def _changed(self, whole: Tensor, site: Site, ops: list[Op]) -> Tensor:
        """The point of the base batch with the interventions made, as a run would make them."""
        for op in ops:
            intervention = op.intervention
            axes = site.axes if len(site.axes) == whole.ndim else _named(whole)
            place = intervention.select.place(
                f"{intervention.kind} at {site.address}", axes, tuple(whole.shape), self._of, whole.device
            )
            old = place.get(whole)
            new = intervention.change(old, place, site.address).to(whole.dtype)
            if place.keep is not None:
                new = torch.where(place.keep, new, old)
            if place.index is None:
                whole = new
            else:
                whole = whole.clone()
                whole[place.index] = new
        return whole


def _named(x: Tensor) -> tuple[Any, ...]:
    return ("batch", *(f"axis {i}" for i in range(1, x.ndim)))
