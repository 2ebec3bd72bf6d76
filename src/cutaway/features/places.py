"""Activations at any points, with those of the MLPs where transcoders need them, from one pass of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cutaway.core import CutawayError, InputError
from cutaway.features.sites import Sites, hook

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
        found: dict[str, Tensor] = {}

        def keep(address: str, value: Tensor, copies: bool) -> None:
            found[address] = value.clone() if copies else value

        with ExitStack() as stack:
            taken = stack.enter_context(self.sites.harvesting(tokens.shape[0])) if self.sites else None
            for site in self.points:
                hook(
                    self.model, stack, site, tokens.shape[0],
                    lambda v, site=site: keep(site.address, v, site.copies),  # type: ignore[misc]
                )  # fmt: skip
            body = getattr(self.model.hf, "base_model", self.model.hf)
            body(tokens.to(self.device))
        missing = [site.address for site in self.points if site.address not in found]
        if missing:
            raise CutawayError(f"a forward of {self.model.name} never reached {', '.join(missing)}.")
        x, y = taken() if taken else (None, None)
        return x, y, {address: value.flatten(2) for address, value in found.items()}


def width(harvested: Mapping[str, Tensor], address: str) -> int:
    return harvested[address].shape[-1]
