"""What every intervention is: a frozen value with a point, a selection and a change; its JSON form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, ClassVar

from torch import Tensor

from cutaway.core import InputError, UnknownName
from cutaway.model import positions
from cutaway.model.content import Content
from cutaway.model.interventions.recorded import Recorded
from cutaway.model.selection import Place, Selection

SCHEMA = "cutaway.intervention/1"

# What `from_json` finds a spliced dictionary by: its name -> the dictionary, or a function that loads one.
Dictionaries = Mapping[str, Any] | Callable[[str], Any]


@dataclass(frozen=True)
class Intervention:
    """A change at `at` (an address, or one with `*` for every layer), on the selected part of it."""

    at: str
    select: Selection = field(default=Selection(), kw_only=True)
    kind: ClassVar[str] = ""

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        """The selected part `x` as it becomes, of the same shape."""
        raise NotImplementedError

    @property
    def wants_text(self) -> bool:
        """Whether a position is given by the text of a token."""
        return self.select.wants_text

    def look_up(self, strings: Sequence[Sequence[str]]) -> Intervention:
        """The same with positions in place of texts. `strings`: the tokens of each row. Raises InputError."""
        return replace(self, select=self.select.look_up(strings, str(self))) if self.wants_text else self

    def source(self, address: str) -> str | None:
        """Another address whose value, in the same forward, the change at `address` is computed from."""
        return None

    def check(self, model: str, at: Sequence[str]) -> None:
        """Raise InputError where this intervention cannot be made at the addresses `at` of a model of that name."""
        for value in vars(self).values():
            if isinstance(value, Recorded) and (extra := [name for name in value.addresses if name not in at]):
                raise InputError(
                    f"{self}: it holds values for {', '.join(extra[:4])}{' …' if len(extra) > 4 else ''} of "
                    f"{value.model}, which {self.at} of {model} has not; they are of another model."
                )

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.at, str(self.select)) if part)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `Intervention.from_json` reads; tensors are written out in base64, dictionaries by name
        and fingerprint."""
        out: dict[str, Any] = {"schema": SCHEMA, "kind": self.kind}
        for item in fields(self):
            out[item.name] = _to_json(getattr(self, item.name))
        return out

    @staticmethod
    def from_json(value: Any, dictionaries: Dictionaries | None = None) -> Intervention:
        """`dictionaries` gives a spliced dictionary by its name: a mapping, or a function (cutaway.features.load).

        Raises InputError for another schema, an unknown kind or unknown fields, a dictionary that is not there or is
        not the one that was spliced.
        """
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            given = value.get("schema") if isinstance(value, dict) else type(value).__name__
            raise InputError(f"not an intervention: schema {given!r}, expected {SCHEMA!r}.")
        kinds = {cls.kind: cls for cls in _kinds(Intervention)}
        kind = str(value.get("kind"))
        if kind not in kinds:
            raise UnknownName("intervention kind", kind, list(kinds))
        cls = kinds[kind]
        known = {item.name: item for item in fields(cls)}
        data = {k: v for k, v in value.items() if k not in ("schema", "kind")}
        if extra := set(data) - set(known):
            raise InputError(
                f"a {kind} intervention has no {', '.join(sorted(extra))}; it has: {', '.join(sorted(known))}."
            )
        needed = [n for n, item in known.items() if item.default is MISSING and item.default_factory is MISSING]
        if missing := [name for name in needed if name not in data]:
            raise InputError(f"a {kind} intervention needs {', '.join(missing)}.")
        data["select"] = Selection.from_json(data.get("select", {}))
        parts = {k: v if k == "select" else _from_json(v) for k, v in data.items()}
        return cls.restored(parts, dictionaries)

    @classmethod
    def restored(cls, parts: dict[str, Any], dictionaries: Dictionaries | None) -> Intervention:
        """From the fields that JSON holds."""
        return cls(**parts)


def _kinds(cls: type[Intervention]) -> list[type[Intervention]]:
    found = []
    for kind in cls.__subclasses__():
        found += [kind] * bool(kind.kind) + _kinds(kind)
    return found


def _to_json(value: Any) -> Any:
    if isinstance(value, positions.PerRow):
        return positions.to_json(value)
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"dtype", "shape", "base64"}:
            return Content.from_json(value)
        if "recorded" in value:
            return Recorded.from_json(value)
        if set(value) == {"per_row", "name"}:
            return positions.from_json(value, "positions")
        return value
    if isinstance(value, list):
        return tuple(_from_json(item) for item in value)
    return value
