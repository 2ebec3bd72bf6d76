"""Interventions: changes at a point, as frozen values.

Each is made by the lower-case function of its name, compares and hashes by content, and goes to JSON and back (a
spliced dictionary excepted). Several at one point are applied in the order of the list; what is read there is read
after them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName
from cutaway.core.protocols import Dictionary
from cutaway.model.content import Content
from cutaway.model.selection import Place, Selection, picked

if TYPE_CHECKING:
    from cutaway.model.run import Run

Values = Content | tuple[tuple[str, Content], ...]  # one tensor, or one for each address
SCHEMA = "cutaway.intervention/1"


@dataclass(frozen=True)
class Intervention:
    """A change at `at` (an address, or one with `*` for every layer), on the selected part of it."""

    at: str
    select: Selection = field(default=Selection(), kw_only=True)
    kind: ClassVar[str] = ""

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        """The selected part `x` as it becomes, of the same shape."""
        raise NotImplementedError

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.at, str(self.select)) if part)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `Intervention.from_json` reads; tensors are written out in base64."""
        out: dict[str, Any] = {"schema": SCHEMA, "kind": self.kind}
        for item in fields(self):
            out[item.name] = _to_json(getattr(self, item.name))
        return out

    @staticmethod
    def from_json(value: dict[str, Any]) -> Intervention:
        """Raises InputError for another schema, an unknown kind or unknown fields."""
        if value.get("schema") != SCHEMA:
            raise InputError(f"not an intervention: schema {value.get('schema')!r}, expected {SCHEMA!r}.")
        kinds = {cls.kind: cls for cls in Intervention.__subclasses__()}
        kind = str(value.get("kind"))
        if kind not in kinds or kind == "splice":
            raise UnknownName("intervention kind", kind, [k for k in kinds if k != "splice"])
        cls = kinds[kind]
        known = {item.name for item in fields(cls)}
        data = {k: v for k, v in value.items() if k not in ("schema", "kind")}
        if extra := set(data) - known:
            raise InputError(
                f"a {kind} intervention has no {', '.join(sorted(extra))}; it has: {', '.join(sorted(known))}."
            )
        if missing := {"at"} - set(data):
            raise InputError(f"a {kind} intervention needs {', '.join(missing)}.")
        data["select"] = Selection.from_json(data.get("select", {}))
        return cls(**{k: v if k == "select" else _from_json(v) for k, v in data.items()})


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
        return place.fit(_value(self.values, address), x, "the mean")


@dataclass(frozen=True)
class Resample(Intervention):
    values: Values  # [reference rows, position, …]
    seed: int
    kind: ClassVar[str] = "resample"

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        reference = _value(self.values, address)
        if reference.ndim != len(place.shape):
            raise InputError(
                f"{place.what}: the reference has axes {list(reference.shape)}, the point {list(place.shape)}."
            )
        generator = torch.Generator().manual_seed(self.seed)
        rows = torch.randint(reference.shape[0], (place.shape[0],), generator=generator)
        drawn = reference[rows.to(reference.device)]
        if place.axes[1] == "position":
            drawn = drawn[:, : place.shape[1]]
        return place.fit(drawn, x, "the resampled reference")


@dataclass(frozen=True)
class Patch(Intervention):
    values: Values
    kind: ClassVar[str] = "patch"

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        return place.fit(_value(self.values, address), x, "the tensor patched in")


@dataclass(frozen=True)
class Add(Intervention):
    vector: Content
    kind: ClassVar[str] = "add"

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        return x + place.fit(self.vector.tensor, x, "the vector")


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
        basis = _orthonormal(self.directions, x, place)  # [k, width]
        return x - (x @ basis.T) @ basis


@dataclass(frozen=True)
class Interchange(Intervention):
    basis: Content  # [k, width]
    values: Values
    kind: ClassVar[str] = "interchange"

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        basis = _orthonormal(self.basis, x, place)
        source = place.fit(_value(self.values, address), x, "the source")
        return x + ((source - x) @ basis.T) @ basis  # x with its part in the subspace taken from the source


@dataclass(frozen=True, eq=False)
class Splice(Intervention):
    dictionary: Dictionary
    keep_error: bool = True
    edit: Callable[[Tensor], Tensor] | None = None
    kind: ClassVar[str] = "splice"

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        features = self.dictionary.encode(x)
        edited = features if self.edit is None else self.edit(features)
        if edited.shape != features.shape:
            raise InputError(f"{place.what}: edit turned features {list(features.shape)} into {list(edited.shape)}.")
        if not self.keep_error:
            return self.dictionary.decode(edited)
        # decode is affine, so the difference of decodings carries the edit and x keeps what the dictionary misses.
        return x if self.edit is None else x + self.dictionary.decode(edited) - self.dictionary.decode(features)

    def to_json(self) -> dict[str, Any]:
        raise InputError("a splice holds a dictionary and cannot be written as JSON; save the dictionary and name it.")


# ---- the makers


def _select(where: dict[str, Any]) -> Selection:
    mask = where.pop("mask", None)
    known = ("head", "neuron", "positions", "keys", "rows")
    for name in where:
        if name not in known:
            raise UnknownName("selection", name, [*known, "mask"])
    return Selection(
        **{name: picked(value, name) for name, value in where.items()},
        mask=None if mask is None else Content.of(mask, "mask"),
    )


def zero(at: str, **where: Any) -> Zero:
    """Set to zero. `where`: head=, neuron=, positions=, keys=, rows=, mask= (see Selection)."""
    return Zero(str(at), select=_select(where))


def mean(at: str, over: Run | Tensor, *, per_position: bool = False, **where: Any) -> Mean:
    """Set to the mean over a reference: a run that read `at`, or a tensor [n, position, …] of the point.

    The mean is over rows and (unless `per_position`) over positions; padding is left out.
    """
    keep = getattr(over, "mask", None) if not isinstance(over, Tensor) else None
    values = _reference(at, over, "over")
    if isinstance(values, Content):
        averaged: Values = Content(_mean(str(at), values.tensor, None, per_position))
    else:
        averaged = tuple((name, Content(_mean(name, item.tensor, keep, per_position))) for name, item in values)
    return Mean(str(at), averaged, select=_select(where))


def resample(at: str, over: Run | Tensor, *, seed: int, **where: Any) -> Resample:
    """Set each row to what a randomly drawn row of the reference has at the same positions.

    The reference is a run that read `at`, its prompts of one length, or a tensor [n, position, …]; it may be longer.
    """
    if not isinstance(over, Tensor) and hasattr(over, "mask") and not bool(over.mask.all()):
        raise InputError("resample needs reference prompts of one length; these are padded.")
    return Resample(str(at), _reference(at, over, "over"), int(seed), select=_select(where))


def patch(at: str, from_: Run | Tensor, **where: Any) -> Patch:
    """Set to what another run had there, or to a tensor.

    A tensor of the whole point (with batch 1 for all rows) is selected from; any other must broadcast to the selected
    part.
    """
    return Patch(str(at), _reference(at, from_, "from_"), select=_select(where))


def add(at: str, vector: Any, **where: Any) -> Add:
    """Add a vector (anything that broadcasts to the selected part)."""
    return Add(str(at), Content.of(vector, "vector"), select=_select(where))


def scale(at: str, factor: float, **where: Any) -> Scale:
    """Multiply by a number."""
    if not isinstance(factor, (int, float)) or not torch.isfinite(torch.tensor(float(factor))):
        raise InputError(f"factor must be a finite number; given {factor!r}.")
    return Scale(str(at), float(factor), select=_select(where))


def project_out(at: str, directions: Any, **where: Any) -> ProjectOut:
    """Remove the span of `directions` ([width] or [k, width]) from the last axis: x - x V V^T, V orthonormal."""
    return ProjectOut(str(at), _directions(directions, "directions"), select=_select(where))


def interchange(at: str, basis: Any, from_: Run | Tensor, **where: Any) -> Interchange:
    """Take the part of x in the span of `basis` ([k, width]) from another run: x + (source - x) B B^T, B orthonormal
    (Geiger et al. 2021, 2024)."""
    return Interchange(str(at), _directions(basis, "basis"), _reference(at, from_, "from_"), select=_select(where))


def splice(
    at: str,
    dictionary: Dictionary,
    keep_error: bool = True,
    edit: Callable[[Tensor], Tensor] | None = None,
    **where: Any,
) -> Splice:
    """Pass the point through a dictionary: decode(edit(encode(x))), plus what the dictionary misses if `keep_error`.

    `edit` maps feature activations [..., n_features] to new ones (to ablate, clamp or scale features).
    """
    if not isinstance(dictionary, Dictionary):
        raise InputError(
            f"splice needs a dictionary with encode, decode and n_features; given {type(dictionary).__name__}."
        )
    return Splice(str(at), dictionary, bool(keep_error), edit, select=_select(where))


# ---- tensors by address


def _reference(at: str, source: Any, name: str) -> Values:
    if isinstance(source, Tensor) or not hasattr(source, "addresses"):
        if isinstance(source, (str, list, tuple)) and _holds_text(source):
            raise InputError(
                f"{name}= takes a run or a tensor; run the prompts first: model.run(prompts, read=[{at!r}])."
            )
        return Content.of(source, name)
    return tuple((address, Content(source[address])) for address in source.addresses(at))


def _holds_text(source: str | Iterable[Any]) -> bool:
    return isinstance(source, str) or any(isinstance(item, str) for item in source)


def _mean(at: str, x: Tensor, keep: Tensor | None, per_position: bool) -> Tensor:
    """[n, position, …] -> [1, position, …] or [1, 1, …], over the tokens that `keep` [n, position] marks."""
    if x.ndim < 2:
        raise InputError(f"a mean needs a reference [rows, position, …]; given {list(x.shape)}.")
    if any(name in at for name in ("attn_scores", "attn_probs", "hook_pattern")):  # [n, head, query, key]
        if keep is not None and not bool(keep.all()):
            raise InputError("a mean over attention patterns needs prompts of one length; these are padded.")
        return x.mean(0, keepdim=True)
    weight = torch.ones(x.shape[:2]) if keep is None or keep.shape != x.shape[:2] else keep
    weight = weight.to(x).reshape(*x.shape[:2], *([1] * (x.ndim - 2)))
    over = 0 if per_position else (0, 1)
    return (x * weight).sum(over, keepdim=True) / weight.sum(over, keepdim=True).clamp(min=1)


def _value(values: Values, address: str) -> Tensor:
    if isinstance(values, Content):
        return values.tensor
    for name, content in values:
        if name == address:
            return content.tensor
    raise InputError(f"no value for {address}; there are values for {', '.join(name for name, _ in values)}.")


def _directions(value: Any, name: str) -> Content:
    content = Content.of(value, name)
    tensor = content.tensor[None] if content.tensor.ndim == 1 else content.tensor
    if tensor.ndim != 2 or not tensor.numel():
        raise InputError(f"{name} must be [width] or [k, width]; given {list(content.tensor.shape)}.")
    if torch.linalg.matrix_rank(tensor.float()) < tensor.shape[0]:
        raise InputError(f"{name} [{tensor.shape[0]}, {tensor.shape[1]}] are not linearly independent.")
    return Content(tensor)


def _orthonormal(directions: Content, x: Tensor, place: Place) -> Tensor:
    if directions.tensor.shape[1] != x.shape[-1]:
        raise InputError(
            f"{place.what}: directions are {directions.tensor.shape[1]} wide, "
            f"the point's last axis ({place.axes[-1]}) {x.shape[-1]}."
        )
    basis: Tensor = torch.linalg.qr(directions.tensor.float().T).Q.T.to(x)
    return basis  # its rows span the same space


def _to_json(value: Any) -> Any:
    if isinstance(value, (Content, Selection)):
        return value.to_json()
    if isinstance(value, tuple):
        return {address: content.to_json() for address, content in value}
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"dtype", "shape", "base64"}:
            return Content.from_json(value)
        return tuple((address, Content.from_json(item)) for address, item in value.items())
    return value
