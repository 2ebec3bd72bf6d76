"""Activations at any points, with those of the MLPs where transcoders need them, from one pass of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.features.sites import Sites

if TYPE_CHECKING:
    from cutaway.model import Model
    from cutaway.model.sites import Site


@dataclass(frozen=True)
class Places:
    """What one pass reads: the MLPs' inputs and outputs (`sites`, or None), and points by address."""

    model: Model
    sites: Sites | None
    points: tuple[Site, ...]

    @classmethod
    def of(cls, model: Model, points: Sequence[str], *, mlps: bool) -> Places:
        """Raises `InputError` for points that cannot be read by a hook or hold no vector a position."""
        found = []
        for name in dict.fromkeys(points):
            site = model.site(name)
            if site.via == "attention" or "position" not in site.axes[:2]:
                raise InputError(
                    f"a dictionary is trained on a vector a position; {site.describe()} is none. Points that are: "
                    "resid_pre, resid_mid, resid_post, mlp_in, mlp_act, mlp_out, attn_out, z, with a layer."
                )
            found.append(site)
        return cls(model, Sites.of(model) if mlps else None, tuple(found))

    @property
    def device(self) -> torch.device:
        return self.model.device

    def address(self, given: str) -> str:
        """A point as it is called here, whatever name it was given by."""
        return self.model.site(given).address

    @torch.no_grad()
    def harvest(self, tokens: Tensor) -> tuple[Tensor | None, Tensor | None, dict[str, Tensor]]:
        """One pass over ids [rows, position]: the MLPs' x, y [layers, rows, position, d], and {address: [rows,
        position, d]} with heads in a row."""
        mlps = self.sites.addresses if self.sites else []
        run = self.model.run(tokens, [*mlps, *(site.address for site in self.points)], logits=False)
        x, y = self.sites.stacked(run) if self.sites else (None, None)
        return x, y, {site.address: run[site.address].flatten(2) for site in self.points}
