"""What other runs had at a point, held by address and by each row's own positions, and how it is laid beside a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model.content import Content
from cutaway.model.positions import Layout
from cutaway.model.selection import Place

if TYPE_CHECKING:
    from cutaway.model.run import Run

# (here, in the source) for each row of the batch; None: the same on both sides
Pairs = Callable[[int], Iterable[tuple[int, int]]] | None
POSITION_AXES = ("position", "query", "key")


@dataclass(frozen=True)
class Recorded:
    """Tensors of a point by address, each [row, position, …] with the row's own tokens from index 0 on.

    `lengths`: how many tokens each row has; None where the values stand for every position. `model`: whose they are.
    """

    values: tuple[tuple[str, Content], ...]
    lengths: tuple[int, ...] | None
    model: str

    @classmethod
    def of(cls, at: str, run: Run) -> Recorded:
        """What `run` read at `at`. Raises InputError where it did not, or where the values are NaN."""
        layout, values = run.layout, []
        for address in run.addresses(at):
            x = run.whole(address)
            if x.isnan().any():
                raise InputError(f"{address} of the run of {run.model.name} holds NaN.")
            axes = run.model.site(address).axes
            values.append((address, Content(_from_start(x, axes, layout) if any(layout.starts) else x)))
        return cls(tuple(values), layout.lengths, run.model.name)

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(address for address, _ in self.values)

    def at(self, address: str) -> Tensor:
        for name, content in self.values:
            if name == address:
                return content.tensor
        raise InputError(
            f"no value for {address} in what {self.model} recorded; there are values for {', '.join(self.addresses)}."
        )

    def fit(
        self,
        address: str,
        place: Place,
        like: Tensor,
        name: str,
        positions: Pairs = None,
        rows: tuple[tuple[int, int], ...] | None = None,
        keys: Pairs = None,
        exact: bool = False,
    ) -> Tensor:
        """The values for the selected part `like`: position by position, each row's own tokens counted.

        `positions`, `rows`, `keys`: (here, in the source) where they are not the same. `exact`: rows must be as long
        as the source's. Raises InputError where the
        source has no such token, or its other axes are not those of the point.
        """
        value = self.at(address).to(like.device, like.dtype)
        whole, axes = place.shape, place.axes
        if value.ndim != len(whole) or any(
            size not in (1, full)
            for size, full, axis in zip(value.shape, whole, axes)
            if axis not in ("batch", *POSITION_AXES)
        ):
            named = ", ".join(f"{axis} {size}" for axis, size in zip(axes, whole))
            raise InputError(
                f"{place.what}: {name} of shape {list(value.shape)}, from {self.model}, does not fit [{named}]; "
                "it is of another model or point."
            )
        spatial = [i for i, axis in enumerate(axes) if axis in POSITION_AXES]
        if self.lengths is None or not spatial:
            return place.fit(value, like, f"{name}, from {self.model},")
        plain = positions is None and rows is None and keys is None and place.layout.prompt is None
        if plain and not place.layout.padded and value.shape[0] in (1, whole[0]):
            same = all(length == place.layout.width for length in self.lengths)
            if same and all(value.shape[i] == whole[i] for i in spatial):
                return place.get(value.expand(whole))
        return self._aligned(value, place, like, name, spatial, positions, rows, keys, exact)

    def _aligned(
        self,
        value: Tensor,
        place: Place,
        like: Tensor,
        name: str,
        spatial: list[int],
        positions: Pairs,
        rows: tuple[tuple[int, int], ...] | None,
        keys: Pairs,
        exact: bool,
    ) -> Tensor:
        whole, device = place.shape, like.device
        from_row = self._rows(place, name, rows)  # [batch], -1 where nothing comes
        value = value[torch.tensor(from_row, device=device).clamp(min=0)]
        valid = torch.ones((), dtype=torch.bool, device=device)
        for axis in spatial:
            is_key = place.axes[axis] == "key"
            column = self._columns(place, name, from_row, axis, keys if is_key else positions).to(device)
            shape, wide = [1] * len(whole), list(value.shape)
            shape[0], shape[axis] = column.shape
            wide[axis] = column.shape[1]
            has = (column >= 0).reshape(shape)
            if not is_key:
                self._refuse_missing(place, name, has, axis, from_row if exact else [])
            valid = valid & has  # keys that the source has not stay as they are, and so does padding
            value = value.gather(axis, column.clamp(min=0).reshape(shape).expand(wide))
        return torch.where(place.get(valid.expand(whole)), place.get(value.expand(whole)), like)

    def _refuse_missing(self, place: Place, name: str, has: Tensor, axis: int, exact: list[int]) -> None:
        """Every token selected must have come from somewhere; rows must be as long as those of the source in `exact`
        (one for each row; empty where they need not be)."""
        layout = place.layout
        first = layout.past if place.shape[axis] == layout.width else 0
        own = torch.zeros(place.shape[0], place.shape[axis], dtype=torch.bool)
        for row, (start, length) in enumerate(zip(layout.starts, layout.lengths)):
            own[row, max(0, start - first) : max(0, start + length - first)] = True
        missing = own.reshape(has.shape).to(has.device) & ~has
        chosen = place.get(missing.expand(place.shape))
        lengths = self.lengths or ()
        unequal = exact and any(exact[r] >= 0 and lengths[exact[r]] != layout.lengths[r] for r in place.rows)
        if unequal or bool((chosen if place.keep is None else chosen & place.keep).any()):
            raise InputError(
                f"{place.what}: {name}, from {self.model}, has not the same tokens as what is selected (its rows have "
                f"{_some(lengths)} tokens, these {_some(layout.lengths)}). Select positions that both have, or map "
                "them: positions={here: there}."
            )

    def _rows(self, place: Place, name: str, rows: tuple[tuple[int, int], ...] | None) -> list[int]:
        """The source's row for each row of the batch, -1 for none."""
        count, batch = len(self.lengths or ()), place.shape[0]
        if rows is not None:
            found = [-1] * batch
            for here, there in rows:
                if not -count <= there < count:
                    raise InputError(f"{place.what}: no row {there} in {name}, which has {count}.")
                found[here % batch] = there % count
            return found
        if count == 1:
            return [0] * batch
        if count == batch:
            return list(range(batch))
        if count == len(place.rows):
            found = [-1] * batch
            for there, here in enumerate(place.rows):
                found[here] = there
            return found
        raise InputError(
            f"{place.what}: {name} has {count} rows, the batch {batch}; select rows, or map them: rows={{here: there}}."
        )

    def _columns(self, place: Place, name: str, from_row: list[int], axis: int, pairs: Pairs) -> Tensor:
        """[batch, columns of this forward] -> the source's position there, -1 for none."""
        assert self.lengths is not None
        layout, size = place.layout, place.shape[axis]
        first = layout.past if size == layout.width else 0
        found = torch.full((place.shape[0], size), -1)
        for row, there in enumerate(from_row):
            if there < 0:
                continue
            length = self.lengths[there]
            if pairs is None:
                own = torch.arange(size) + (first - layout.starts[row])
                inside = (own >= 0) & (own < min(length, layout.lengths[row]))
                found[row, inside] = own[inside]
                continue
            for here, source in pairs(row):
                if not -length <= source < length:
                    raise InputError(
                        f"{place.what}: no position {source} in row {there} of {name}, which has {length} tokens."
                    )
                column = layout.column(row, here, place.what) - first
                if 0 <= column < size:
                    found[row, column] = source % length
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "recorded": {address: content.to_json() for address, content in self.values},
            "lengths": None if self.lengths is None else list(self.lengths),
            "model": self.model,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Recorded:
        values = tuple((address, Content.from_json(item)) for address, item in value["recorded"].items())
        lengths = value.get("lengths")
        return cls(values, None if lengths is None else tuple(lengths), str(value.get("model", "")))


def _from_start(x: Tensor, axes: tuple[str, ...], layout: Layout) -> Tensor:
    """Rows padded on the left moved so that each row's own tokens begin at index 0."""
    for axis, name in enumerate(axes):
        if name not in POSITION_AXES or x.ndim != len(axes):
            continue
        size = x.shape[axis]
        column = torch.arange(size) + torch.tensor(layout.starts)[:, None]  # [row, position]
        shape = [1] * x.ndim
        shape[0], shape[axis] = column.shape
        index = column.clamp(max=size - 1).to(x.device).reshape(shape).expand(x.shape)
        x = x.gather(axis, index)
    return x


def _some(lengths: tuple[int, ...]) -> str:
    return ", ".join(map(str, lengths[:6])) + (" …" if len(lengths) > 6 else "")
