"""The part of a point that an intervention touches: heads, neurons, positions, keys, batch rows, a mask."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model.content import Content

Picked = tuple[int, ...] | None


@dataclass(frozen=True)
class Layout:
    """Where the tokens of each row lie in a padded batch: columns start[r] … start[r] + length[r] - 1."""

    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    width: int

    @property
    def padded(self) -> bool:
        return any(length != self.width for length in self.lengths)

    def columns(self, rows: Iterable[int], positions: Iterable[int], what: str) -> list[list[int]]:
        """[row][position] -> column. A position counts a row's own tokens, -1 being its last."""
        positions = tuple(positions)
        return [[self.column(row, position, what) for position in positions] for row in rows]

    def column(self, row: int, position: int, what: str) -> int:
        length = self.lengths[row]
        if not -length <= position < length:
            raise InputError(
                f"{what}: no position {position} in row {row}, which has {length} tokens "
                f"(0 … {length - 1}, or -{length} … -1)."
            )
        return self.starts[row] + (position % length)


def picked(value: Any, what: str) -> Picked:
    """An int, or several in a list, range or tensor, as a sorted-as-given tuple. None selects all."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, slice):
        raise InputError(f"{what} is a slice; give an int, a list of ints or a range.")
    if isinstance(value, (bool, str, float)):
        raise InputError(f"{what} must be an int or several; given {value!r}.")
    items = (value,) if not isinstance(value, Iterable) else tuple(value)
    try:
        found = tuple(int(item) for item in items)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be an int or several; given {value!r}.") from error
    if not found:
        raise InputError(f"{what} is empty: the intervention would touch nothing.")
    if len(set(found)) < len(found):
        raise InputError(f"{what} names an index twice: {list(found)}.")
    return found


@dataclass(frozen=True)
class Selection:
    """Which entries of a point. None is all of an axis.

    `positions` count each row's own tokens (negative from its end), whatever the padding; at attention points they are
    queries, and `keys` are the positions attended to. `head` is a key/value head at `k`, `k_rot` and `value`.
    `mask` is a truth value for each [batch, position], or for each entry of the point.
    """

    head: Picked = None
    neuron: Picked = None
    positions: Picked = None
    keys: Picked = None
    rows: Picked = None
    mask: Content | None = None

    def __str__(self) -> str:
        parts = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and field.name != "mask":
                shown = (
                    str(value[0])
                    if len(value) == 1
                    else "[" + ",".join(map(str, value[:4])) + ("…]" if len(value) > 4 else "]")
                )
                parts.append(f"{field.name}={shown}")
        if self.mask is not None:
            parts.append("mask")
        return " ".join(parts)

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                out[field.name] = value.to_json() if isinstance(value, Content) else list(value)
        return out

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Selection:
        known = {field.name for field in fields(cls)}
        if extra := set(value) - known:
            raise InputError(f"a selection has no {', '.join(sorted(extra))}; it has: {', '.join(sorted(known))}.")
        mask = value.get("mask")
        parts = {k: picked(v, k) for k, v in value.items() if k != "mask"}
        return cls(**parts, mask=None if mask is None else Content.from_json(mask))

    def place(self, what: str, axes: tuple[str, ...], shape: tuple[int, ...], layout: Layout, device: Any) -> Place:
        """Resolve against one tensor of a run. Raises InputError where the point has no such axis or index."""
        wanted: dict[int, Tensor] = {}
        rows = self.rows if self.rows is None else tuple(self._bounded(self.rows, shape[0], what, "row"))
        if rows is not None:
            wanted[0] = torch.tensor(rows)
        for name, axis_names, values in (
            ("head", ("head", "kv_head"), self.head),
            ("neuron", ("neuron",), self.neuron),
        ):
            if values is not None:
                axis = self._axis(what, axes, axis_names, name)
                wanted[axis] = torch.tensor(self._bounded(values, shape[axis], what, axes[axis]))
        for name, axis_names, values in (
            ("positions", ("position", "query"), self.positions),
            ("keys", ("key",), self.keys),
        ):
            if values is not None:
                axis = self._axis(what, axes, axis_names, name)
                every = rows if rows is not None else tuple(range(shape[0]))
                if layout.padded:
                    wanted.setdefault(0, torch.tensor(every))
                    wanted[axis] = torch.tensor(layout.columns(every, values, what))
                else:
                    wanted[axis] = torch.tensor(layout.columns((0,), values, what)[0])
        index = _grid(wanted, shape, device) if wanted else None
        keep = None if self.mask is None else self._keep(what, shape, index, device)
        return Place(what, axes, shape, index, keep)

    def _axis(self, what: str, axes: tuple[str, ...], names: tuple[str, ...], given: str) -> int:
        for name in names:
            if name in axes:
                return axes.index(name)
        raise InputError(f"{what} has no {names[0]} axis to select {given}= on; its axes are {', '.join(axes)}.")

    @staticmethod
    def _bounded(values: tuple[int, ...], size: int, what: str, axis: str) -> list[int]:
        for value in values:
            if not -size <= value < size:
                raise InputError(f"{what}: no {axis} {value}; there are {size} (0 … {size - 1}).")
        return [value % size for value in values]

    def _keep(self, what: str, shape: tuple[int, ...], index: tuple[Tensor, ...] | None, device: Any) -> Tensor:
        assert self.mask is not None
        mask = self.mask.tensor.to(device).bool()
        full = mask
        if mask.ndim < len(shape) and mask.ndim <= 2:
            full = mask if mask.ndim == 2 else mask[None]
            full = full.reshape(*full.shape, *([1] * (len(shape) - 2)))
        try:
            full = full.expand(shape)
        except RuntimeError as error:
            raise InputError(f"{what}: a mask of shape {list(mask.shape)} does not fit {list(shape)}.") from error
        kept = full if index is None else full[index]
        if not kept.any():
            raise InputError(f"{what}: the mask selects no entry, so the intervention would touch nothing.")
        return kept


@dataclass(frozen=True, eq=False)
class Place:
    """A selection resolved against a tensor of `shape`: `index` picks a sub-tensor in the same order of axes."""

    what: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    index: tuple[Tensor, ...] | None
    keep: Tensor | None

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
