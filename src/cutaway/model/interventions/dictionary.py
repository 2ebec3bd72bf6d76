"""A dictionary spliced into a point, and its features clamped, ablated or scaled by number."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName
from cutaway.core.protocols import Dictionary, TranscoderSet
from cutaway.model.content import Content
from cutaway.model.interventions.base import Dictionaries, Intervention
from cutaway.model.selection import Place, picked, select

Edit = Callable[[Tensor], Tensor]
How = Literal["set", "scale"]


@dataclass(frozen=True)
class FeatureEdit:
    """Feature activations [..., n_features] with some set to values, or scaled by them."""

    how: How
    features: tuple[int, ...]
    values: tuple[float, ...]  # one for each

    def __call__(self, a: Tensor) -> Tensor:
        a = a.clone()
        index = torch.tensor(self.features, device=a.device)
        values = torch.tensor(self.values, device=a.device, dtype=a.dtype)
        a[..., index] = values.expand(*a.shape[:-1], -1) if self.how == "set" else a[..., index] * values
        return a

    def __str__(self) -> str:
        sign = "=" if self.how == "set" else "*="
        some = " ".join(f"a[{feature}]{sign}{value:g}" for feature, value in list(zip(self.features, self.values))[:3])
        return some + (" …" if len(self.features) > 3 else "")

    def to_json(self) -> dict[str, Any]:
        return {"how": self.how, "features": list(self.features), "values": list(self.values)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> FeatureEdit:
        if value.get("how") not in ("set", "scale"):
            raise UnknownName("feature edit", str(value.get("how")), ("set", "scale"))
        return cls(value["how"], tuple(map(int, value["features"])), tuple(map(float, value["values"])))


@dataclass(frozen=True, eq=False)
class Spliced:
    """A dictionary as a value: equal and hashed by fingerprint, written to JSON as its name and fingerprint.

    Of a set of transcoders, one `layer`: its features read `reads` and write to the point that it is spliced in at.
    """

    dictionary: Any
    name: str = ""
    layer: int | None = None

    @property
    def n_features(self) -> int:
        return int(self.dictionary.n_features)

    @property
    def reads(self) -> str | None:
        """The address that a transcoder reads; None for a dictionary that reads the point it is at."""
        if self.layer is not None:
            return str(self.dictionary.input_point(self.layer))
        written = getattr(self.dictionary, "output_point", None)
        read = getattr(self.dictionary, "point", None)
        return str(read) if written and read and written != read else None

    @cached_property
    def decodes_from_input(self) -> bool:
        """Whether `decode` also takes what was encoded: a normalised input or a skip connection needs it."""
        try:
            parameters = inspect.signature(self.dictionary.decode).parameters
        except (TypeError, ValueError):
            return False
        return "x" in parameters

    @cached_property
    def like(self) -> Tensor | None:
        """One of the dictionary's own tensors of numbers, for the precision that it computes in and its device."""
        return next((t for _, t in _tensors(self.dictionary, "") if t.is_floating_point()), None)

    def taken(self, x: Tensor, what: str) -> Tensor:
        """x as the dictionary takes it. Raises InputError where it is on another device."""
        if self.like is None:
            return x
        if self.like.device != x.device:
            raise InputError(f"{what}: the dictionary is on {self.like.device}, the model on {x.device}; move one.")
        return x.to(self.like.dtype)

    def encode(self, x: Tensor) -> Tensor:
        a: Tensor = self.dictionary.encode(x) if self.layer is None else self.dictionary.activations(self.layer, x)
        return a

    def decode(self, a: Tensor, x: Tensor) -> Tensor:
        """`x` is what `a` was encoded from: a skip transcoder writes from it too."""
        if self.layer is None:
            y: Tensor = self.dictionary.decode(a, x) if self.decodes_from_input else self.dictionary.decode(a)
            return y
        every = torch.arange(self.n_features, device=a.device)
        y = a @ self.dictionary.decoder_rows(self.layer, every, self.layer).to(a) + self.dictionary.output_bias(
            self.layer
        ).to(a)
        skip = self.dictionary.skip(self.layer)
        return y if skip is None else y + x @ skip.to(a).T

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of a SHA-256 over the tensors that the dictionary holds, by name."""
        given = getattr(self.dictionary, "fingerprint", None)
        if isinstance(given, str) and given:
            return given
        digest = hashlib.sha256()
        tensors = dict(_tensors(self.dictionary, ""))
        if not tensors:
            return ""
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{name}{Content(tensor).digest}".encode())
        return digest.hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Spliced) or self.layer != other.layer:
            return False
        same = self.fingerprint == other.fingerprint if self.fingerprint else False
        return self.dictionary is other.dictionary or same

    def __hash__(self) -> int:
        return hash((self.layer, self.fingerprint or id(self.dictionary)))

    def to_json(self) -> dict[str, Any]:
        if not self.name:
            raise InputError(
                f"the dictionary ({type(self.dictionary).__name__}) has no name to be found by again: give name= the "
                "folder that it was loaded from, or a name of one's own."
            )
        if not self.fingerprint:
            raise InputError(
                f"{self.name} ({type(self.dictionary).__name__}) holds no tensors to be known by; give it a "
                "`fingerprint`."
            )
        return {"dictionary": self.name, "layer": self.layer, "fingerprint": self.fingerprint}


@dataclass(frozen=True)
class Splice(Intervention):
    dictionary: Spliced
    keep_error: bool = True
    edit: FeatureEdit | Edit | None = None
    kind: ClassVar[str] = "splice"

    def source(self, address: str) -> str | None:
        return self.dictionary.reads

    def change(self, x: Tensor, place: Place, address: str, source: Tensor | None = None) -> Tensor:
        held = self.dictionary
        entered = x if held.reads is None else source
        if entered is None:
            raise InputError(
                f"{place.what}: its features are encoded from {held.reads}, which is not to be had where this runs; "
                "use model.run."
            )
        try:
            entered = held.taken(entered, place.what)
            features = held.encode(entered)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise InputError(
                f"{place.what}: the dictionary does not take what is there, {list(entered.shape)}: {error}"
            ) from error
        if features.isnan().any():
            raise InputError(f"{place.what}: the dictionary gave NaN for what is there.")
        edited = features if self.edit is None else self.edit(features)
        if self.edit is not None and edited.isnan().any():
            raise InputError(f"{place.what}: edit gave NaN.")
        if edited.shape != features.shape:
            raise InputError(f"{place.what}: edit turned features {list(features.shape)} into {list(edited.shape)}.")
        if not self.keep_error:
            return held.decode(edited, entered)
        # decode is affine, so the difference of decodings carries the edit and x keeps what the dictionary misses.
        return x if self.edit is None else x + (held.decode(edited, entered) - held.decode(features, entered))

    def __str__(self) -> str:
        shown = str(self.edit) if isinstance(self.edit, FeatureEdit) else ""
        return " ".join(part for part in (super().__str__(), shown) if part)

    def to_json(self) -> dict[str, Any]:
        if self.edit is not None and not isinstance(self.edit, FeatureEdit):
            raise InputError(
                "a splice whose edit is a function cannot be written as JSON; clamp_features, ablate_features and "
                "scale_features can."
            )
        return super().to_json()

    @classmethod
    def restored(cls, parts: dict[str, Any], dictionaries: Dictionaries | None) -> Intervention:
        held = parts["dictionary"]
        name, layer = str(held.get("dictionary")), held.get("layer")
        if dictionaries is None:
            raise InputError(
                f"the splice is of the dictionary {name!r}; say where it is found: from_json(value, dictionaries=…), a "
                "mapping from names to dictionaries or a function that loads one (cutaway.features.load)."
            )
        if isinstance(dictionaries, Mapping):
            if name not in dictionaries:
                raise UnknownName("dictionary", name, list(dictionaries))
            found = dictionaries[name]
        else:
            found = dictionaries(name)
        spliced = Spliced(found, name, layer)
        if spliced.fingerprint != held.get("fingerprint"):
            raise InputError(
                f"the dictionary {name!r} is not the one that was spliced: its fingerprint is {spliced.fingerprint}, "
                f"the splice's {held.get('fingerprint')}."
            )
        edit = parts.get("edit")
        return cls(**{**parts, "dictionary": spliced, "edit": None if edit is None else FeatureEdit.from_json(edit)})


# ---- the makers


def splice(
    at: str,
    dictionary: Dictionary | TranscoderSet,
    keep_error: bool = True,
    edit: Edit | None = None,
    *,
    name: str | None = None,
    **where: Any,
) -> Splice:
    """Pass the point through a dictionary.

    keep_error:      x -> x + decode(edit(a)) - decode(a),  a = encode(x): what the dictionary misses stays
    not keep_error:  x -> decode(edit(a))

    `edit` maps feature activations [..., n_features] to new ones. A transcoder (one, or a per-layer set) is spliced in
    at its output point: a is then encoded from its input point, as that is in the same forward. A dictionary whose
    `decode(a, x)` takes what was encoded (a normalised input, a skip connection) is given it.
    (Features of a cross-layer transcoder write to many points: cutaway.graphs.set_features.)
    `name` is what the dictionary is written under in JSON; the folder it was loaded from by default.
    """
    layer = None
    if isinstance(dictionary, TranscoderSet):
        layer = _layer_of(str(at), dictionary)
    elif not isinstance(dictionary, Dictionary):
        raise InputError(
            f"splice needs a dictionary with encode, decode and n_features; given {type(dictionary).__name__}."
        )
    folder = getattr(dictionary, "folder", None) or getattr(dictionary, "path", None)
    found = name if name is not None else str(folder) if isinstance(folder, (str, Path)) else ""
    return Splice(str(at), Spliced(dictionary, found, layer), bool(keep_error), edit, select=select(where))


def clamp_features(
    at: str,
    dictionary: Any,
    features: Mapping[int, float] | Iterable[int] | int,
    value: float | None = None,
    **how: Any,
) -> Splice:
    """Set features to values, at every selected position: a[f] -> v. `features`: {feature: value}, or one or several
    features and `value`. `how`: keep_error=, name=, and a selection, as `splice` takes them."""
    return _edited("set", at, dictionary, _values(features, value, "value"), how)


def ablate_features(at: str, dictionary: Any, features: Iterable[int] | int, **how: Any) -> Splice:
    """Set features to zero: a[f] -> 0."""
    return _edited("set", at, dictionary, _values(features, 0.0, "value"), how)


def scale_features(
    at: str,
    dictionary: Any,
    features: Mapping[int, float] | Iterable[int] | int,
    factor: float | None = None,
    **how: Any,
) -> Splice:
    """Multiply features: a[f] -> c a[f]. Where a feature is not active nothing changes."""
    return _edited("scale", at, dictionary, _values(features, factor, "factor"), how)


def _edited(change: How, at: str, dictionary: Any, values: dict[int, float], how: dict[str, Any]) -> Splice:
    size = int(getattr(dictionary, "n_features", 0))
    for feature in values:
        if size and not 0 <= feature < size:
            raise InputError(f"no feature {feature}: the dictionary has {size} (0 … {size - 1}).")
    if "edit" in how:
        raise InputError("give features and values, or an edit to splice, not both.")
    return splice(at, dictionary, edit=FeatureEdit(change, tuple(values), tuple(values.values())), **how)


def _values(features: Any, value: float | None, name: str) -> dict[int, float]:
    if isinstance(features, Mapping):
        if value is not None:
            raise InputError(f"give {{feature: {name}}}, or features and one {name}=, not both.")
        chosen, values = picked(list(features), "features"), list(features.values())
    else:
        chosen = picked(features, "features")
        if value is None:
            raise InputError(f"{name}= is missing: what shall the features be set to or scaled by?")
        values = [value] * len(chosen or ())
    if chosen is None:
        raise InputError("features= names none.")
    numbers = [float(item) for item in values]
    if not all(torch.isfinite(torch.tensor(numbers))):
        raise InputError(f"{name}s must be finite numbers; given {values}.")
    return dict(zip(chosen, numbers))


def _layer_of(at: str, dictionary: TranscoderSet) -> int:
    """The layer whose output point `at` is."""
    points = {dictionary.output_point(layer): layer for layer in range(dictionary.n_layers)}
    if at not in points:
        raise UnknownName("output point of the transcoders", at, list(points))
    layer = points[at]
    if dictionary.writes(layer) != (layer,):
        raise InputError(
            f"features of layer {layer} of this {dictionary.kind} write to layers {dictionary.writes(layer)}; they are "
            "set at all of them by cutaway.graphs.set_features."
        )
    return layer


def _tensors(value: Any, name: str) -> Iterable[tuple[str, Tensor]]:
    """Every tensor that an object holds, with its name."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, torch.nn.Module):
        yield from value.state_dict().items()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _tensors(item, f"{name}.{number}")
    elif hasattr(value, "__dict__") and not isinstance(value, type) and name.count(".") < 4:
        for key, item in vars(value).items():
            if not key.startswith("_") and key != "working":
                yield from _tensors(item, f"{name}.{key}")
