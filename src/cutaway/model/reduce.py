"""Reads made small as they are taken, so that a long text does not fill memory: some positions, a mean, a projection,
another precision, or a file in place of memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from cutaway.core import InputError, atomic_path
from cutaway.model.positions import Layout, Positions, positions_of

if TYPE_CHECKING:
    from cutaway.model.sites import Site

DTYPES = {
    "float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Reduce:
    """Made by `reduce`. Applied in the order of its fields."""

    positions: Positions | None = None
    single: bool = False  # one position, whose axis goes
    project: Tensor | None = None  # [k, width]
    mean: bool = False
    dtype: torch.dtype | None = None
    to: Path | None = None

    def __call__(self, x: Tensor, site: Site, layout: Layout) -> Tensor:
        """The point's tensor x, in its own axes, made small. Raises InputError where it has not the axis."""
        kept = x
        if self.positions is not None:
            kept = self._picked(kept, site, layout)
        if self.project is not None:
            if self.project.shape[-1] != x.shape[-1]:
                raise InputError(
                    f"reduce at {site.address}: directions are {self.project.shape[-1]} wide, the point's last axis "
                    f"({site.axes[-1]}) {x.shape[-1]}."
                )
            kept = kept @ self.project.to(kept).T  # [..., width] -> [..., k]
        if self.mean:
            kept = self._mean(kept, x, site, layout)
        if self.dtype is not None:
            kept = kept.to(self.dtype)
        # A view would hold on to all of x.
        return kept.clone() if kept.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() else kept

    def _picked(self, x: Tensor, site: Site, layout: Layout) -> Tensor:
        axis, what = _axis(site, x), f"reduce at {site.address}"
        assert self.positions is not None
        rows = [
            [layout.starts[row] + p for p in layout.all_own(row, self.positions, what)]
            for row in range(len(layout.lengths))
        ]
        if len({len(row) for row in rows}) > 1:
            raise InputError(f"{what}: rows have different numbers of positions in {self.positions}.")
        index = torch.tensor(rows, device=x.device)  # [row, k]
        moved = x.movedim(axis, 1)[torch.arange(len(rows), device=x.device)[:, None], index]
        return moved[:, 0] if self.single else moved.movedim(1, axis)

    def _mean(self, kept: Tensor, x: Tensor, site: Site, layout: Layout) -> Tensor:
        """Over the positions picked, or over each row's own tokens."""
        axis = _axis(site, x)
        if self.single:
            raise InputError(f"reduce at {site.address}: one position has no mean; give positions=[…] or none.")
        if self.positions is not None or not layout.padded:
            return kept.mean(axis)
        own = torch.zeros(len(layout.lengths), layout.width, dtype=kept.dtype, device=kept.device)
        for row, (start, length) in enumerate(zip(layout.starts, layout.lengths)):
            own[row, start : start + length] = 1 / length
        moved = kept.movedim(axis, 1)
        return (moved * own.reshape(*own.shape, *([1] * (moved.ndim - 2)))).sum(1)

    def stored(self, address: str, x: Tensor) -> Tensor:
        """x written to its file, and mapped from there: its memory is the file's, paged in as it is looked at."""
        assert self.to is not None
        path = self.to / f"{address}.safetensors"
        with atomic_path(path) as temporary:
            save_file({"values": x.detach().contiguous().cpu()}, temporary)
        with safe_open(path, framework="pt") as file:
            mapped: Tensor = file.get_tensor("values")
        return mapped

    def into(self, part: str) -> Reduce:
        """The same, written to a folder within its own."""
        return self if self.to is None else replace(self, to=self.to / part)


class Kept(dict[str, Tensor]):
    """What a run read; `reduced` are the addresses of which not all was kept."""

    reduced: frozenset[str] = frozenset()


def reduce(
    *,
    position: int | Tensor | None = None,
    positions: Any = None,
    mean: bool = False,
    project: Any = None,
    dtype: str | torch.dtype | None = None,
    to: str | Path | None = None,
) -> Reduce:
    """What is kept of a point as it is read: `model.run(text, read={"resid_post.*": cw.reduce(position=-1)})`.

    `position`: one of each row's own tokens (its axis goes); `positions`: several, as interventions take them; at
    scores and patterns they are queries. `project`: onto directions [k, width] or [width], dot products and not a
    projection's vectors. `mean`: over the positions, padding left out. `dtype`: "bfloat16" halves what is held.
    `to`: a folder; the read lies there as safetensors, `run[address]` maps it.
    In that order. Costs what it says; the whole tensor is let go at once. Raises InputError.
    """
    if position is not None and positions is not None:
        raise InputError("give position= (one, without its axis) or positions= (several).")
    if isinstance(position, (bool, str, list, tuple, slice)):
        raise InputError(f"position= is one number, or one a row; given {position!r}. Several: positions=.")
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise InputError(f"no dtype {dtype!r}; there are: {', '.join(DTYPES)}.")
        dtype = DTYPES[dtype]
    directions = None
    if project is not None:
        directions = torch.as_tensor(project)
        directions = directions[None] if directions.ndim == 1 else directions
        if directions.ndim != 2 or not directions.is_floating_point() or not directions.isfinite().all():
            raise InputError(
                f"project= is directions [k, width] of finite numbers; given {list(torch.as_tensor(project).shape)}."
            )
    if all(x is None for x in (position, positions, project, dtype, to)) and not mean:
        raise InputError("reduce() leaves all as it is: say position=, positions=, mean=, project=, dtype= or to=.")
    where = positions if position is None else position
    folder = None if to is None else Path(to)
    return Reduce(positions_of(where, "positions"), position is not None, directions, mean, dtype, folder)


def wanted(read: Sequence[Any] | Mapping[Any, Any] | str) -> dict[Any, Reduce | None]:
    """What `read=` names, each with how it is made small. Raises InputError."""
    if isinstance(read, Mapping):
        for pattern, how in read.items():
            if how is not None and not isinstance(how, Reduce):
                raise InputError(f"read={{{str(pattern)!r}: how}}: how is cw.reduce(…) or None; given {how!r}.")
        return dict(read)
    if not isinstance(read, Iterable):
        raise InputError(f"read= takes addresses, as read=['resid_post.*']; given {read!r}.")
    return dict.fromkeys([read] if isinstance(read, str) else list(read))


def _axis(site: Site, x: Tensor) -> int:
    """Which axis counts positions: queries at scores and patterns."""
    if site.free and x.ndim == 3:
        return 1
    for name in ("position", "query"):
        if name in site.axes:
            return site.axes.index(name)
    raise InputError(f"reduce at {site.address}: it has no positions; its axes are {', '.join(site.axes)}.")
