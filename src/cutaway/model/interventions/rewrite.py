"""A point computed anew by a function, from what is there and, if wished, from another point of the same forward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from cutaway.core import InputError
from cutaway.model.interventions.base import Intervention
from cutaway.model.selection import Place, select


@dataclass(frozen=True)
class Rewrite(Intervention):
    function: Callable[..., Tensor]
    given: str | None = None
    kind: ClassVar[str] = "rewrite"

    def source(self, address: str) -> str | None:
        if self.given is None or not self.given.endswith(".*"):
            return self.given
        return f"{self.given[:-2]}.{address.rpartition('.')[2]}"  # of the same layer

    def change(self, x: Tensor, place: Place, address: str, source: Tensor | None = None) -> Tensor:
        if self.given is not None and source is None:
            raise InputError(
                f"{place.what}: it is computed from {self.source(address)}, which is not to be had where this runs; "
                "use model.run."
            )
        new = self.function(x) if source is None else self.function(x, source)
        if not isinstance(new, Tensor):
            raise InputError(f"{place.what}: the function gave {type(new).__name__}, not a tensor.")
        return new

    def to_json(self) -> dict[str, Any]:
        raise InputError("a rewrite is a function and cannot be written as JSON; the other interventions can.")


def rewrite(at: str, function: Callable[..., Tensor], given: str | None = None, **where: Any) -> Rewrite:
    """x -> function(x), or function(x, s) with s what is at `given` in the same forward, on the selected part.

    `given` is an address before `at` in the forward ("mlp_in.*": that of the same layer), taken as it is after any
    interventions there, at the same selection. What the function makes keeps its gradient (`keep_graph=True`).
    For what the other interventions cannot say: equal only to one with the same function, and not written to JSON.
    Raises InputError as it runs: another shape, no tensor, a `given` that the forward has not reached yet.
    """
    if not callable(function):
        raise InputError(f"rewrite takes a function of what is at {at}; given {type(function).__name__}.")
    return Rewrite(str(at), function, None if given is None else str(given), select=select(where))
