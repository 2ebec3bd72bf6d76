"""Where a variable is looked for: a point, positions, and the kind of features that are exchanged there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName

How = Literal["rotation", "boundless", "nonlinear", "pca", "given", "whole", "neurons", "dictionary"]


@dataclass(frozen=True, eq=False)
class Place:
    """Made by `subspace`, `whole`, `neurons` or `dictionary_features`.

    `positions`: "answer" (the last token), a name of the causal model's, a number, several of these, or None for all.
    With several, each has the same features, and all are exchanged at once. `head`: only these heads of a point that
    has heads; their outputs side by side are the vector.
    """

    at: str
    positions: Any = "answer"
    how: How = "rotation"
    dims: int | None = None
    head: tuple[int, ...] | None = None
    basis: Tensor | None = field(default=None, repr=False)
    which: tuple[int, ...] | None = None
    dictionary: Any = field(default=None, repr=False)

    @property
    def learned(self) -> bool:
        """Whether it is trained on counterfactuals."""
        chosen = self.how in ("neurons", "dictionary") and self.which is None
        return chosen or self.how in ("rotation", "boundless", "nonlinear")

    @property
    def where(self) -> str:
        """Point, heads and positions in words."""
        head = "" if self.head is None else f" head {','.join(map(str, self.head))}"
        if self.positions is None:
            return f"{self.at}{head}, all positions"
        several = isinstance(self.positions, (list, tuple))
        named = ", ".join(map(str, self.positions)) if several else str(self.positions)
        return f"{self.at}{head} at {named}"

    def __str__(self) -> str:
        what = {
            "rotation": f"{self.dims} dimensions, learned",
            "boundless": "a learned number of dimensions",
            "nonlinear": f"{self.dims} features of a learned nonlinear map",
            "pca": f"{self.dims} principal components",
            "given": f"a given subspace of {self.dims}",
            "whole": "the whole vector",
            "neurons": "learned coordinates" if self.which is None else f"{len(self.which)} coordinates",
            "dictionary": "learned dictionary features" if self.which is None else f"{len(self.which)} features",
        }[self.how]
        return f"{self.where}: {what}"

    def to_json(self) -> dict[str, Any]:
        several = isinstance(self.positions, (list, tuple))
        return {
            "at": self.at,
            "positions": list(self.positions) if several else self.positions,
            "how": self.how,
            "dims": self.dims,
            "head": None if self.head is None else list(self.head),
            "label": str(self),
        }


def subspace(
    at: str,
    positions: Any = "answer",
    dims: int | None = None,
    *,
    how: Literal["das", "boundless", "nonlinear", "pca"] = "das",
    head: int | Sequence[int] | None = None,
    basis: Tensor | None = None,
) -> Place:
    """A linear subspace of a point (or, for comparison, features of a map that is not linear).

    how: "das", `dims` learned directions (distributed alignment search, Geiger et al. 2024, 1 by default);
    "boundless", a learned rotation with a learned number of directions (Wu et al. 2023; `dims` bounds it);
    "pca", the first `dims` principal components of the activations; "nonlinear", `dims` features of a learned
    invertible map, which may find any algorithm in any network (Sutter et al. 2025): a control, not a finding.
    basis: [k, width] directions of your own, in place of learning any. Raises InputError, UnknownName.
    """
    kinds = {"das": "rotation", "boundless": "boundless", "nonlinear": "nonlinear", "pca": "pca"}
    if how not in kinds:
        raise UnknownName("kind of subspace", str(how), kinds)
    if dims is not None and (isinstance(dims, bool) or not isinstance(dims, int) or dims < 1):
        raise InputError(f"dims= is a number of dimensions, at least 1; given {dims!r}.")
    if basis is not None:
        given = basis[None] if basis.ndim == 1 else basis
        if given.ndim != 2 or torch.linalg.matrix_rank(given.double()) < len(given):
            raise InputError(f"basis= is [k, width], its rows linearly independent; given {list(basis.shape)}.")
        return Place(at, positions, "given", len(given), _heads(head), given)
    if how != "boundless":
        dims = 1 if dims is None else dims
    return Place(at, positions, kinds[how], dims, _heads(head))  # type: ignore[arg-type]


def whole(at: str, positions: Any = "answer", *, head: int | Sequence[int] | None = None) -> Place:
    """The whole vector of a point: nothing is learned."""
    return Place(at, positions, "whole", None, _heads(head))


def neurons(
    at: str, positions: Any = "answer", which: Sequence[int] | None = None, *, head: int | Sequence[int] | None = None
) -> Place:
    """Coordinates of a point (its neurons): those in `which`, or a set learned by a differential binary mask."""
    return Place(at, positions, "neurons", None, _heads(head), which=_which(which))


def dictionary_features(
    at: str, dictionary: Any, positions: Any = "answer", which: Sequence[int] | None = None
) -> Place:
    """Features of a dictionary for the point (`encode` and `decode`, see `cutaway.core.protocols.Dictionary`): those in
    `which`, or a set learned by a differential binary mask. What the dictionary leaves unexplained stays the base's."""
    if not (hasattr(dictionary, "encode") and hasattr(dictionary, "decode")):
        raise InputError(f"a dictionary has encode and decode; {type(dictionary).__name__} has not.")
    return Place(at, positions, "dictionary", None, None, which=_which(which), dictionary=dictionary)


def _which(which: Sequence[int] | None) -> tuple[int, ...] | None:
    if which is None:
        return None
    found = tuple(int(i) for i in which)
    if not found or len(set(found)) < len(found):
        raise InputError(f"which= names coordinates, at least one and none twice; given {list(found)}.")
    return found


def _heads(head: int | Sequence[int] | None) -> tuple[int, ...] | None:
    return None if head is None else (head,) if isinstance(head, int) else tuple(int(h) for h in head)
