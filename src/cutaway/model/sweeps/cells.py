"""What each cell of a sweep changes, found by trying its interventions on the base run's own values: from which block
on, in which rows, from which column on. What changes nothing needs no work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model.apply import Op, change
from cutaway.model.sites import Site

if TYPE_CHECKING:
    from cutaway.model.interventions import Intervention
    from cutaway.model.model import Model
    from cutaway.model.positions import Layout

# Points that reach later columns within their own block: what keys and values are made of. All other points of a
# block change the column that they are at.
MIXING = (
    "resid_pre", "attn_norm_scale", "attn_normalized", "attn_in", "k", "k_norm_out", "k_rot", "value",
)  # fmt: skip
LOCAL = (
    "q", "q_norm_out", "q_rot", "attn_scores", "attn_probs", "z", "attn_gate", "attn_out", "attn_out_norm_scale",
    "attn_out_post", "resid_mid", "mlp_norm_scale", "mlp_normalized", "mlp_in", "mlp_pre", "mlp_pre_linear", "mlp_act",
    "mlp_out", "mlp_out_norm_scale", "mlp_out_post", "resid_post",
)  # fmt: skip
AFTER = ("final_norm_scale", "final_normalized", "final_norm", "lm_head")


@dataclass(frozen=True, eq=False)
class Cell:
    """One independent set of interventions, and what it changes of the base run.

    `stage` is the first block in which something changes, n_layers for what comes after the blocks, -1 for what comes
    before them (or cannot be placed). `rows` are those in which something changes; `first` … `last` the columns of it.
    `local`: within its first block it changes these columns alone.
    """

    number: int
    ops: tuple[Op, ...]
    stage: int
    rows: tuple[int, ...]
    first: int
    last: int
    local: bool


def resolve(
    model: Model, cells: Sequence[Sequence[Intervention]], ops: Sequence[list[Op]], base: Mapping[str, Tensor],
    layout: Layout, mask: Tensor,
) -> list[Cell]:  # fmt: skip
    """Each cell with what it changes. `base`: the base run's tensor at every address; `mask` [row, column] of tokens.

    Raises InputError as a run with the cell's interventions would: no such head, wrong shapes.
    """
    n_layers = model.facts.n_layers
    found = []
    for number, (cell, its_ops) in enumerate(zip(cells, ops)):
        if not cell:
            raise InputError(f"cell {number} has no intervention.")
        stages: list[tuple[int, Site, Tensor]] = []
        for op in its_ops:
            changed = changes(op, base, layout) & mask
            if bool(changed.any()):
                stages.append((_stage(model, op.site, n_layers), op.site, changed))
        if not stages:
            found.append(Cell(number, tuple(its_ops), n_layers, (), 0, 0, True))
            continue
        stage = min(s for s, _, _ in stages)
        every = torch.stack([changed for _, _, changed in stages]).any(0)
        here = torch.stack([changed for s, _, changed in stages if s == stage]).any(0)
        columns = every.any(0).nonzero()[:, 0]
        in_first = here.any(0).nonzero()[:, 0]
        found.append(
            Cell(
                number,
                tuple(its_ops),
                stage,
                tuple(every.any(1).nonzero()[:, 0].tolist()),
                int(columns[0]),
                int(in_first[-1]),
                all(_local(model, site) for s, site, _ in stages if s == stage),
            )
        )
    return found


def _stage(model: Model, site: Site, n_layers: int) -> int:
    if site.name in AFTER:
        return n_layers
    if site.layer is None or site.name not in MIXING + LOCAL:
        return -1
    return site.layer


def _local(model: Model, site: Site) -> bool:
    """Whether a change shows, within its block, only at its own columns."""
    before = model.contract.sites.get(f"attn_norm_scale.{site.layer}")
    shared = before is not None and site.module is before.module  # Phi norms once for attention and MLP
    return site.name in LOCAL and not shared


def changes(op: Op, base: Mapping[str, Tensor], layout: Layout) -> Tensor:
    """[row, column] where the intervention, made on the base run's values, changes something."""
    site, x = op.site, base[op.site.address]
    if site.free or x.ndim < 2 or x.shape[0] != len(layout.lengths):
        return torch.ones(len(layout.lengths), layout.width, dtype=torch.bool)
    place, old, new = change(op, x, layout, base)
    differs = new != old
    if "source" in site.axes[:2]:  # what every position reads of the encoder
        moved = torch.zeros_like(x, dtype=torch.bool)
        moved[... if place.index is None else place.index] = differs
        return moved.flatten(1).any(1)[:, None].expand(-1, layout.width).cpu()
    axis = column_axis(site)
    if place.index is None:
        return differs.movedim(axis, 1).flatten(2).any(2).cpu()
    marked = torch.zeros(tuple(x.shape[: axis + 1]), dtype=torch.bool, device=x.device)
    index = place.index[: axis + 1]
    over = differs.flatten(axis + 1).any(-1) if differs.ndim > axis + 1 else differs
    if len(index) <= axis:  # selected by row alone, or by row and head
        marked[index] = over
    else:
        marked[tuple(i.reshape(i.shape[: axis + 1]) for i in index)] = over
    return (marked if axis == 1 else marked.any(1)).cpu()


def column_axis(site: Site) -> int:
    """Which axis of a point counts positions: at scores and patterns the queries."""
    return 2 if site.axes[1] == "head" else 1
