"""The part of a point that an intervention touches: heads, neurons, positions, keys, batch rows, a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName
from cutaway.model import positions as at
from cutaway.model.content import Content
from cutaway.model.positions import Layout, PerRow, Picked, Positions, TokenText, When, picked, positions_of

__all__ = ["Layout", "Picked", "Place", "Positions", "Selection", "picked", "select"]


@dataclass(frozen=True)
class Selection:
    """Which entries of a point. None is all of an axis.

    `positions` count each row's own tokens (negative from its end), whatever the padding; at attention points they are
    queries, and `keys` are the positions attended to. `head` is a query head, and at `k`, `k_rot` and `value` a
    key/value head, as `kv_head` says outright. `mask` is a truth value for each [batch, position], or for each entry
    of the point. All that is named must hold together: a selection is the product of its axes, less what the mask
    leaves out.
    """

    head: Picked = None
    kv_head: Picked = None
    neuron: Picked = None
    positions: Positions | None = None
    keys: Positions | None = None
    rows: Picked = None
    mask: Content | None = None

    def __str__(self) -> str:
        parts = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None or field.name == "mask":
                continue
            if isinstance(value, tuple):
                many = "[" + ",".join(map(str, value[:4])) + ("…]" if len(value) > 4 else "]")
                parts.append(f"{field.name}={value[0] if len(value) == 1 else many}")
            else:
                parts.append(f"{field.name}={value}")
        if self.mask is not None:
            parts.append("mask")
        return " ".join(parts)

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name in ("positions", "keys"):
                out[field.name] = at.to_json(value)
            else:
                out[field.name] = value.to_json() if isinstance(value, Content) else list(value)
        return out

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Selection:
        known = {field.name for field in fields(cls)}
        if extra := set(value) - known:
            raise InputError(f"a selection has no {', '.join(sorted(extra))}; it has: {', '.join(sorted(known))}.")
        parts: dict[str, Any] = {}
        for name, given in value.items():
            if name == "mask":
                parts[name] = Content.from_json(given)
            else:
                parts[name] = at.from_json(given, name) if name in ("positions", "keys") else picked(given, name)
        return cls(**parts)

    @property
    def wants_text(self) -> bool:
        """Whether a position is given by the text of a token, to be looked up in the prompt."""
        return isinstance(self.positions, TokenText) or isinstance(self.keys, TokenText)

    def look_up(self, strings: Sequence[Sequence[str]], what: str) -> Selection:
        """The same with positions for texts. `strings`: the tokens of each row. Raises InputError where one is not."""
        found: dict[str, Any] = {
            name: at.look_up(value, strings, what)
            for name in ("positions", "keys")
            if isinstance(value := getattr(self, name), TokenText)
        }
        return replace(self, **found)

    def bounded_rows(self, batch: int, what: str) -> list[int]:
        """The batch rows selected. Raises InputError for one that is not there."""
        return list(range(batch)) if self.rows is None else _bounded(self.rows, batch, what, "row")

    # ---- resolved against a tensor

    def place(
        self,
        what: str,
        axes: tuple[str, ...],
        shape: tuple[int, ...],
        layout: Layout,
        device: Any,
        when: When = "both",
    ) -> Place:
        """Resolve against one tensor of a run. Raises InputError where the point has no such axis or index.

        While generating, positions that this forward does not reach are left out; a place can then be empty.
        """
        wanted: dict[int, Tensor] = {}
        masks: list[Tensor] = []
        every = tuple(self.bounded_rows(shape[0], what))
        if self.rows is not None:
            wanted[0] = torch.tensor(every)
        for name, axis_names, values in (
            ("head", ("head", "kv_head"), self.head),
            ("kv_head", ("kv_head",), self.kv_head),
            ("neuron", ("neuron",), self.neuron),
        ):
            if values is not None:
                axis = _axis(what, axes, axis_names, name)
                wanted[axis] = torch.tensor(_bounded(values, shape[axis], what, axes[axis]))
        empty = False
        for name, axis_names, positions in (
            ("positions", ("position", "query"), self.positions),
            ("keys", ("key",), self.keys),
        ):
            limit = when if name == "positions" else "both"
            if positions is None and (limit == "both" or layout.prompt is None):
                continue
            axis = _axis(what, axes, axis_names, name)
            columns = _columns(what, positions, every, layout, shape[axis], limit)
            if not any(columns):
                empty = True
                if layout.prompt is None:
                    raise InputError(f"{what}: {name}={positions} is empty in every row; it would touch nothing.")
            elif len({len(row) for row in columns}) > 1:
                masks.append(_ragged(columns, every, axis, shape))
            elif all(row == columns[0] for row in columns):
                if len(columns[0]) < shape[axis] or positions is not None:
                    wanted[axis] = torch.tensor(columns[0])
            else:
                wanted.setdefault(0, torch.tensor(every))
                wanted[axis] = torch.tensor(columns)
        index = _grid(wanted, shape, device) if wanted else None
        if self.mask is not None:
            masks.append(_full_mask(what, self.mask.tensor, shape))
        keep = None
        if masks and not empty:
            whole = reduce(torch.logical_and, (mask.to(device) for mask in masks)).expand(shape)
            keep = whole if index is None else whole[index]
            if not keep.any():
                empty = True
                if layout.prompt is None:
                    raise InputError(f"{what}: the mask selects no entry, so the intervention would touch nothing.")
        return Place(what, axes, shape, index, keep, layout, every, empty)


@dataclass(frozen=True, eq=False)
class Place:
    """A selection resolved against a tensor of `shape`: `index` picks a sub-tensor in the same order of axes."""

    what: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    index: tuple[Tensor, ...] | None
    keep: Tensor | None
    layout: Layout
    rows: tuple[int, ...]  # of the batch, that are selected
    empty: bool = False  # nothing of the selection is in this forward

    def get(self, x: Tensor) -> Tensor:
        return x if self.index is None else x[self.index]

    def fit(self, value: Tensor, like: Tensor, name: str) -> Tensor:
        """`value` aligned with the selected part `like`: a tensor of the whole point (size 1 stands for all of an
        axis) is selected from; anything else must broadcast to the selected part."""
        value = value.to(like.device, like.dtype)
        whole = self.shape
        if value.ndim == len(whole) and all(size in (1, full) for size, full in zip(value.shape, whole)):
            return self.get(value.expand(whole))
        try:
            return value.expand(like.shape)
        except RuntimeError as error:
            named = ", ".join(f"{axis} {size}" for axis, size in zip(self.axes, like.shape))
            raise InputError(
                f"{self.what}: {name} of shape {list(value.shape)} does not fit the selected part [{named}]."
            ) from error

    def keys(self, positions: Positions | None, device: Any) -> Tensor:
        """Truth values that the selected part's keys are among `positions`: the selected part of [batch, …, key]."""
        axis = _axis(self.what, self.axes, ("key",), "key")
        if positions is None:
            return self.get(torch.ones((), dtype=torch.bool, device=device).expand(self.shape))
        columns = _columns(self.what, positions, range(self.shape[0]), self.layout, self.shape[axis], "both")
        return self.get(_ragged(columns, range(self.shape[0]), axis, self.shape).to(device).expand(self.shape))


def select(where: dict[str, Any]) -> Selection:
    """A Selection from the keywords that the makers of interventions take; `names` maps names to positions."""
    where = dict(where)
    mask = where.pop("mask", None)
    names: Mapping[str, Any] | None = where.pop("names", None)
    known = ("head", "kv_head", "neuron", "positions", "keys", "rows")
    for name in where:
        if name not in known:
            raise UnknownName("selection", name, [*known, "mask", "names"])
    parts = {
        name: positions_of(value, name, names) if name in ("positions", "keys") else picked(value, name)
        for name, value in where.items()
    }
    if "head" in where and "kv_head" in where and where["head"] is not None and where["kv_head"] is not None:
        raise InputError("give head= or kv_head=, not both: no point has both axes.")
    return Selection(**parts, mask=None if mask is None else Content.of(mask, "mask"))  # type: ignore[arg-type]


def _axis(what: str, axes: tuple[str, ...], names: tuple[str, ...], given: str) -> int:
    for name in names:
        if name in axes:
            return axes.index(name)
    raise InputError(f"{what} has no {names[0]} axis to select {given}= on; its axes are {', '.join(axes)}.")


def _bounded(values: tuple[int, ...], size: int, what: str, axis: str) -> list[int]:
    for value in values:
        if not -size <= value < size:
            raise InputError(f"{what}: no {axis} {value}; there are {size} (0 … {size - 1}).")
    return [value % size for value in values]


def _columns(
    what: str, positions: Positions | None, rows: Any, layout: Layout, size: int, when: When
) -> list[list[int]]:
    """[row][…] -> columns of an axis of `size`. Keys (all of them, cached ones too) count from the first column."""
    if layout.prompt is None:
        assert positions is not None
        if not isinstance(positions, (PerRow, at.Span)) and not layout.padded:
            return [[layout.column(0, p, what) for p in positions]] * len(rows)  # type: ignore[union-attr]
        return [[layout.starts[r] + p for p in layout.all_own(r, positions, what)] for r in rows]
    first = layout.past if size == layout.width else 0
    found = []
    for row in rows:
        own = range(layout.lengths[row]) if positions is None else layout.all_own(row, positions, what)
        if when != "both":
            own = [p for p in own if (p < layout.prompt[row]) == (when == "prompt")]
        shifted = (layout.starts[row] + p - first for p in own)
        found.append([column for column in shifted if 0 <= column < size])
    return found


def _ragged(columns: list[list[int]], rows: Any, axis: int, shape: tuple[int, ...]) -> Tensor:
    """Truth values [batch, 1, …, size, …, 1] of columns that differ in number from row to row."""
    marked = torch.zeros(shape[0], shape[axis], dtype=torch.bool)
    for row, here in zip(rows, columns):
        marked[row, here] = True
    return marked.reshape([shape[i] if i in (0, axis) else 1 for i in range(len(shape))])


def _full_mask(what: str, mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    full = mask.bool()
    if mask.ndim < len(shape) and mask.ndim <= 2:
        full = full if mask.ndim == 2 else full[None]
        full = full.reshape(*full.shape, *([1] * (len(shape) - 2)))
    try:
        return full.expand(shape)
    except RuntimeError as error:
        raise InputError(f"{what}: a mask of shape {list(mask.shape)} does not fit {list(shape)}.") from error


def _grid(wanted: dict[int, Tensor], shape: tuple[int, ...], device: Any) -> tuple[Tensor, ...]:
    """Open-mesh indices for the leading axes, up to the last one selected on. Columns may differ by row."""
    last = max(wanted)
    index = []
    for axis in range(last + 1):
        values = wanted.get(axis)
        if values is None:
            values = torch.arange(shape[axis])
        dims = [1] * (last + 1)
        dims[axis] = values.shape[-1]
        if values.ndim == 2:
            dims[0] = values.shape[0]
        index.append(values.reshape(dims).to(device))
    return tuple(index)
