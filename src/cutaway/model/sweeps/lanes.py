"""A forward whose batch holds lanes: rows of the base prompts, each changed by one cell's interventions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cutaway.model.apply import Op, apply
from cutaway.model.hooks import Forward
from cutaway.model.sweeps.cells import Cell, column_axis

if TYPE_CHECKING:
    from cutaway.model.model import Model
    from cutaway.model.positions import Layout
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
        self._base = base
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
        """Make one cell's interventions in its lanes of x."""
        site = ops[0].site
        seen = {
            op.source.address: self._whole(op.source, self.seen[op.source.address], part)
            for op in ops
            if op.source is not None
        }
        whole = apply(self._whole(site, x, part), ops, self.layout, self.touches, seen)
        rows, columns, keys = self._held(site, x, part)
        axis = column_axis(site)
        lanes = x[part.start : part.stop]
        if site.free:
            lanes.copy_(whole[rows[:, 0]])
        else:
            lanes.movedim(axis, 1).copy_(whole.movedim(axis, 1)[..., keys][rows, columns])

    def _whole(self, site: Site, x: Tensor, part: Part) -> Tensor:
        """The point of the base batch as this cell has it: the lanes' own values where they are computed."""
        whole = self._base[site.address].clone()
        rows, columns, keys = self._held(site, x, part)
        lanes = x[part.start : part.stop]
        if site.free:
            whole[rows[:, 0]] = lanes
        else:
            axis = column_axis(site)
            whole.movedim(axis, 1)[..., keys][rows, columns] = lanes.movedim(axis, 1)
        return whole

    def _held(self, site: Site, x: Tensor, part: Part) -> tuple[Tensor, Tensor, slice]:
        """Which part of the base's point x holds: rows [lane, 1], columns [1 or lane, column], and keys."""
        rows = torch.tensor(part.rows, device=x.device)[:, None]
        axis = column_axis(site)
        size, columns = x.shape[axis] if x.ndim > axis else 0, self.columns
        if columns.ndim == 2:
            columns = columns[part.start : part.stop]
        else:  # keys as attention uses them come with those of the earlier columns
            columns = (columns if size == len(columns) else torch.arange(size, device=columns.device))[None]
        # Keys after the last computed column are not in x, nor seen by any query.
        return rows, columns, slice(self.keys) if site.axes[-1] == "key" else slice(None)
