"""Edges of attention knocked out: what a query takes from a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model.interventions.base import Dictionaries, Intervention
from cutaway.model.positions import Positions, TokenText, from_json, look_up, to_json
from cutaway.model.selection import Place, Selection, select


@dataclass(frozen=True)
class KnockOut(Intervention):
    """In each query's row of the pattern, the weights on the selected keys are set to 0; with `renormalise` the row's
    other weights are scaled so that it sums to what it did."""

    keys: Positions | None = None  # None is all; not in `select`, for whole rows are summed over
    renormalise: bool = True
    kind: ClassVar[str] = "knock_out"

    @property
    def wants_text(self) -> bool:
        return self.select.wants_text or isinstance(self.keys, TokenText)

    def look_up(self, strings: Sequence[Sequence[str]]) -> Intervention:
        found = replace(self, select=self.select.look_up(strings, str(self)))
        return (
            replace(found, keys=look_up(self.keys, strings, str(self))) if isinstance(self.keys, TokenText) else found
        )

    def __str__(self) -> str:
        shown = f"{super().__str__()} {Selection(keys=self.keys)}".strip()
        return shown.replace("positions=", "query=").replace("keys=", "key=")

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "keys": None if self.keys is None else to_json(self.keys)}

    @classmethod
    def restored(cls, parts: dict[str, Any], dictionaries: Dictionaries | None) -> Intervention:
        keys = parts.get("keys")
        return cls(**{**parts, "keys": None if keys is None else from_json(keys, "keys")})

    def change(self, x: Tensor, place: Place, address: str) -> Tensor:
        if "key" not in place.axes or not address.startswith("attn_probs"):
            raise InputError(f"{place.what}: edges are knocked out of a pattern, at attn_probs; {address} is none.")
        out = place.keys(self.keys, x.device)
        out = out if place.keep is None else out & place.keep
        kept = x.masked_fill(out, 0.0)
        if place.layout.prompt is None and not bool((kept != x).any()):
            raise InputError(
                f"{place.what}: there is no attention along the edges selected (a key after its query is masked "
                "anyway), so nothing would change."
            )
        if not self.renormalise:
            return kept
        left, whole = kept.sum(-1, keepdim=True), x.sum(-1, keepdim=True)
        emptied = (left == 0) & (whole > 0)
        if bool(emptied.any()):
            raise InputError(
                f"{place.what}: a query would be left with no key to attend to; knock out fewer, or renormalise=False."
            )
        # sum over keys k of p'_k = sum of p_k;  p'_k = p_k * (sum of p) / (sum of p over the keys that stay)
        return kept * (whole / torch.where(left == 0, torch.ones_like(left), left))


def knock_out(
    at: str, *, head: Any = None, query: Any = None, key: Any = None, renormalise: bool = True, **where: Any
) -> KnockOut:
    """Knock out edges of attention at `attn_probs`: every selected query stops attending to every selected key.

    `query`, `key`: positions of each row's own tokens (a number, several, a slice, a tensor of one per row, the text of
    a token, a name with names=); None is all. `head` is a query head; None is all. With `renormalise` the rest of the
    row is scaled up to keep its sum, which is what masking the score before the softmax does; without, the row loses
    what the edge carried. Raises InputError where there is no attention along any selected edge, and with
    `renormalise` where a query would be left with no key.
    """
    for name, value, other in (("query", query, "positions"), ("key", key, "keys")):
        if other in where:
            if value is not None:
                raise InputError(f"give {name}= or {other}=, not both: they are the same.")
        else:
            where[other] = value
    if where["positions"] is None and where["keys"] is None and where.get("mask") is None:
        raise InputError("knock_out needs query= or key=; to take out a whole head, zero its z.")
    chosen = select({"head": head, **where})
    return KnockOut(str(at), chosen.keys, bool(renormalise), select=replace(chosen, keys=None))
