"""Interventions that set a point to values from elsewhere: zero, a mean, a resampled reference, another run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.core.numbers import seeded
from cutaway.model.content import Content
from cutaway.model.interventions.base import Intervention
from cutaway.model.interventions.maps import There, pairs_of, taken_out
from cutaway.model.interventions.recorded import Recorded
from cutaway.model.interventions.references import mean_of, rows_of
from cutaway.model.positions import PerRow
from cutaway.model.selection import Place, Selection, select

if TYPE_CHECKING:
    from cutaway.model.run import Run

Values = Content | Recorded


@dataclass(frozen=True)
class Zero(Intervention):
    kind: ClassVar[str] = "zero"

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        return torch.zeros_like(x)


@dataclass(frozen=True)
class Mean(Intervention):
    values: Values
    kind: ClassVar[str] = "mean"

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        return fit(self.values, address, place, x, "the mean")


@dataclass(frozen=True)
class Resample(Intervention):
    values: Values  # [reference rows, position, …]
    seed: int
    kind: ClassVar[str] = "resample"

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        reference = self.values.at(address) if isinstance(self.values, Recorded) else self.values.tensor
        if reference.ndim != len(place.shape):
            raise InputError(
                f"{place.what}: the reference has axes {list(reference.shape)}, the point {list(place.shape)}."
            )
        batch = place.shape[0]
        drawn = torch.randint(reference.shape[0], (batch,), generator=torch.Generator().manual_seed(self.seed))
        if isinstance(self.values, Recorded):
            rows = tuple(enumerate(drawn.tolist()))
            return self.values.fit(address, place, x, "the resampled reference", rows=rows)
        taken = reference[drawn.to(reference.device)]
        if place.axes[1] == "position":
            taken = taken[:, place.layout.past :][:, : place.shape[1]]
        return place.fit(taken, x, "the resampled reference")


@dataclass(frozen=True)
class Patch(Intervention):
    """`positions_from`, `rows_from`, `keys_from`: where in the source each selected position, row or key comes from."""

    values: Values
    positions_from: There | None = None
    rows_from: tuple[int, ...] | None = None
    keys_from: There | None = None
    kind: ClassVar[str] = "patch"

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        return from_source(self, address, place, x, "the tensor patched in")

    def __str__(self) -> str:
        return mapped(super().__str__(), self)


@dataclass(frozen=True)
class Interchange(Intervention):
    """As `Patch`, in a subspace."""

    basis: Content  # [k, width]
    values: Values
    positions_from: There | None = None
    rows_from: tuple[int, ...] | None = None
    keys_from: There | None = None
    kind: ClassVar[str] = "interchange"

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        basis = orthonormal(self.basis, x, place)
        source = from_source(self, address, place, x, "the source")
        return x + ((source - x) @ basis.T) @ basis  # x with its part in the subspace taken from the source

    def __str__(self) -> str:
        return mapped(super().__str__(), self)


# ---- the makers


def zero(at: str, **where: Any) -> Zero:
    """Set to zero: x -> 0. `where`: head=, kv_head=, neuron=, positions=, keys=, rows=, mask=, names= (see Selection
    and `positions_of`)."""
    return Zero(str(at), select=select(where))


def mean(at: str, over: Run | Tensor | Iterable[Run], *, per_position: bool = False, **where: Any) -> Mean:
    """Set to the mean over a reference: x -> mean over rows (and positions, unless `per_position`) of the reference.

    `over`: a run that read `at`, several (`model.stream(prompts, read=[at])`: one at a time, so that a large set
    needs no more memory than one batch), or a tensor [n, position, …] of the point. Padding is left out. With
    `per_position` each position, counted from the start of a row, has the mean of the rows that reach it.
    """
    return Mean(str(at), mean_of(str(at), over, per_position), select=select(where))


def resample(at: str, over: Run | Tensor | Iterable[Run], *, seed: int, **where: Any) -> Resample:
    """Set each row to what a randomly drawn row of the reference has at the same positions.

    The reference is a run that read `at` or several, its prompts of one length, or a tensor [n, position, …]; it may
    be longer than what is run.
    """
    return Resample(str(at), rows_of(str(at), over, "over"), seeded(seed), select=select(where))


def patch(at: str, from_: Run | Tensor, **where: Any) -> Patch:
    """Set to what another run had there, or to a tensor: x[row, position] -> source[row', position'].

    From a run, positions count each row's own tokens on both sides, so padding may differ. `positions`, `keys` and
    `rows` may be maps, {here: in the source}; positions by number, by name (`names=`) or by a tensor [rows]. Without
    one a position is the same number on both sides (a negative one counts from each side's own end), a source of one
    row serves all, and whole rows must be equally long.
    A tensor of the whole point (with size 1 for all of an axis) is selected from; any other must broadcast to the
    selected part.
    """
    maps = taken_out(where, from_)
    return Patch(str(at), reference(at, from_, "from_"), **maps, select=select(where))


def interchange(at: str, basis: Any, from_: Run | Tensor, **where: Any) -> Interchange:
    """Take the part of x in the span of `basis` ([k, width]) from another run: x + (source - x) B^T B, the rows of B
    orthonormal (Geiger et al. 2021, 2024). Sources and maps as for `patch`."""
    maps = taken_out(where, from_)
    values = reference(at, from_, "from_")
    return Interchange(str(at), spanning(basis, "basis"), values, **maps, select=select(where))


# ---- tensors by address


def reference(at: Any, source: Any, name: str) -> Values:
    if isinstance(source, Tensor) or not hasattr(source, "addresses"):
        if isinstance(source, str) or (
            isinstance(source, Sequence) and any(isinstance(item, str) or hasattr(item, "addresses") for item in source)
        ):
            raise InputError(
                f"{name}= takes a run or a tensor; run the prompts first: model.run(prompts, read=[{str(at)!r}])."
            )
        return Content.of(source, name)
    return Recorded.of(str(at), source)


def fit(values: Values, address: str, place: Place, like: Tensor, name: str, **maps: Any) -> Tensor:
    if isinstance(values, Recorded):
        return values.fit(address, place, like, name, **maps)
    value = values.tensor
    layout = place.layout
    if layout.prompt is not None and value.ndim == len(place.shape):
        value = _of_this_forward(value, place)
    return place.fit(value, like, name)


def _of_this_forward(value: Tensor, place: Place) -> Tensor:
    """While generating: the columns of a tensor of the whole text that the forward is at."""
    layout = place.layout
    for axis, name in enumerate(place.axes):
        if name not in ("position", "query", "key") or value.shape[axis] == 1:
            continue
        if len({*layout.starts}) > 1 or layout.starts[0]:
            raise InputError(
                f"{place.what}: a tensor by column cannot be laid beside prompts of different lengths; take the values "
                "from a run."
            )
        size = place.shape[axis]
        first = layout.past if size == layout.width else 0
        if value.shape[axis] < first + size:
            raise InputError(
                f"{place.what}: the tensor has {value.shape[axis]} positions and this text {first + size} by now; give "
                'more, select positions=, or when="prompt".'
            )
        value = value.narrow(axis, first, size)
    return value


def from_source(what: Patch | Interchange, address: str, place: Place, x: Tensor, name: str) -> Tensor:
    maps: dict[str, Any] = {}
    if what.rows_from is not None:
        maps["rows"] = tuple(zip(what.select.rows or (), what.rows_from))
    for axis in ("positions", "keys"):
        here, there = getattr(what.select, axis), getattr(what, f"{axis}_from")
        if there is not None or isinstance(here, (tuple, PerRow)):
            # Without a map the number is the same on both sides, and a negative one counts from each side's own end.
            maps[axis] = pairs_of(here, here if there is None else there)
    if not isinstance(what.values, Recorded):
        return fit(what.values, address, place, x, name)
    exact = what.select.positions is None and place.layout.prompt is None
    return what.values.fit(address, place, x, name, **maps, exact=exact)


def mapped(shown: str, what: Patch | Interchange) -> str:
    """`shown`, and where in the source the selected places come from."""
    there = Selection(positions=what.positions_from, keys=what.keys_from, rows=what.rows_from)
    return shown if there == Selection() else f"{shown} from {there}"


def spanning(value: Any, name: str) -> Content:
    """Directions [k, width], linearly independent."""
    content = Content.of(value, name)
    tensor = content.tensor[None] if content.tensor.ndim == 1 else content.tensor
    if tensor.ndim != 2 or not tensor.numel():
        raise InputError(f"{name} must be [width] or [k, width]; given {list(content.tensor.shape)}.")
    if torch.linalg.matrix_rank(tensor.float()) < tensor.shape[0]:
        raise InputError(f"{name} [{tensor.shape[0]}, {tensor.shape[1]}] are not linearly independent.")
    return Content(tensor)


def orthonormal(given: Content, x: Tensor, place: Place) -> Tensor:
    """[k, width]: rows that span what the directions span."""
    if given.tensor.shape[1] != x.shape[-1]:
        raise InputError(
            f"{place.what}: directions are {given.tensor.shape[1]} wide, "
            f"the point's last axis ({place.axes[-1]}) {x.shape[-1]}."
        )
    wide = torch.promote_types(x.dtype, torch.float32)
    basis: Tensor = torch.linalg.qr(given.tensor.to(x.device, wide).T).Q.T.to(x.dtype)
    return basis
