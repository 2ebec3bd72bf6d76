"""Interventions applied to the tensor of one point, in order; what each did is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model.interventions import Add, Intervention, Rewrite, Splice
from cutaway.model.positions import Layout, When
from cutaway.model.selection import Place
from cutaway.model.sites import Site


@dataclass(frozen=True, eq=False)
class Op:
    """One intervention at one site."""

    number: int  # in the list of interventions
    intervention: Intervention
    site: Site
    source: Site | None = field(default=None, kw_only=True)  # another point that it is computed from
    when: When = field(default="both", kw_only=True)  # while generating: at positions of the prompt, new ones, or both


@dataclass(frozen=True, eq=False)
class Touch:
    """That an intervention fired: how many entries, and the sum of squares of the change (0-d).

    `step`: while generating, which forward it was in, 0 being the prompt's.
    """

    number: int
    address: str
    entries: int
    squares: Tensor
    step: int = 0


def change(op: Op, x: Tensor, layout: Layout, seen: Mapping[str, Tensor]) -> tuple[Place, Tensor, Tensor]:
    """(where, what was there, what comes there) for one intervention on x, the whole tensor of its point.

    `seen` holds other points of the same forward, for what is computed from them. Raises InputError.
    """
    intervention, site = op.intervention, op.site
    axes = site.named(x.ndim)
    what = f"{intervention.kind} at {site.address}"
    place = intervention.select.place(what, axes, tuple(x.shape), layout, x.device, op.when)
    before = old = place.get(x)
    if place.empty:
        return place, old, old
    hidden = _hidden(op, old, layout)
    if hidden is not None:
        old = old.masked_fill(hidden, 0.0)  # no arithmetic on the number that stands for a mask
    if op.source is not None and isinstance(intervention, (Splice, Rewrite)):
        if op.source.address not in seen:
            raise InputError(f"{what} is computed from {op.source.address}, which the forward has not reached there.")
        new = intervention.change(old, place, site.address, place.get(seen[op.source.address]))
    else:
        new = intervention.change(old, place, site.address)
    new = new.to(x.dtype)
    if new.shape != old.shape:
        raise InputError(f"{what} turned {list(old.shape)} into {list(new.shape)}.")
    new = new if place.keep is None else torch.where(place.keep, new, before)
    return place, before, new if hidden is None else torch.where(hidden, before, new)


def _hidden(op: Op, x: Tensor, layout: Layout) -> Tensor | None:
    """Where selected scores `x` are masked: a later token, padding, one outside the window. They stay as they are, for
    a change of scores is not to let a query see what the model hides from it. None at all other points."""
    if op.site.name != "attn_scores":
        return None
    hidden = x <= torch.finfo(x.dtype).min / 2
    if layout.prompt is None and bool(hidden.all()):
        raise InputError(
            f"{op.intervention.kind} at {op.site.address}: every score selected is masked (a key after its query, or "
            "padding), so nothing would change."
        )
    return hidden


def apply(
    x: Tensor, ops: list[Op], layout: Layout, touches: list[Touch], seen: Mapping[str, Tensor], step: int = 0
) -> Tensor:
    """x after the interventions `ops` of one site, in their order. Appends to `touches`; writes into none given."""
    owned = False  # whether x may be written to
    at = 0
    while at < len(ops):
        together = _pointwise_adds(ops[at:]) if x.ndim == 3 and layout.prompt is None else 0
        if together > 1:
            x, owned = _add_many(x, ops[at : at + together], layout, touches), True
            at += together
            continue
        op = ops[at]
        at += 1
        place, old, new = change(op, x, layout, seen)
        if place.empty:
            continue
        entries = old.numel() if place.keep is None else int(place.keep.sum())
        touches.append(Touch(op.number, op.site.address, entries, (new - old).detach().float().pow(2).sum(), step))
        if place.index is None:
            # `new` may be a tensor that an intervention or another run holds: nobody may write into it. It may also be
            # one row that stands for many, which some modules (GPT-2's Conv1D) do not take.
            x, owned = (new.clone() if op.site.copies else new.contiguous()), op.site.copies
        else:
            x, owned = (x if owned else x.clone()), True
            x[place.index] = new
    return x


def _add_many(x: Tensor, ops: list[Op], layout: Layout, touches: list[Touch]) -> Tensor:
    """Many vectors each added at its own rows and positions, as one indexed sum."""
    rows: list[int] = []
    columns: list[int] = []
    which: list[int] = []
    vectors: list[Tensor] = []
    for i, op in enumerate(ops):
        select, what = op.intervention.select, f"add at {op.site.address}"
        assert isinstance(op.intervention, Add)
        assert isinstance(select.positions, tuple)
        vector = op.intervention.vector.tensor
        if vector.shape != x.shape[-1:]:
            raise InputError(f"{what}: the vector has shape {list(vector.shape)}, the point is {x.shape[-1]} wide.")
        vectors.append(vector.to(x.device, x.dtype))
        at_rows = select.bounded_rows(x.shape[0], what)
        for row, found in zip(at_rows, layout.columns(at_rows, select.positions, what)):
            rows += [row] * len(found)
            columns += found
            which += [i] * len(found)
    stacked = torch.stack(vectors)  # [op, width]
    counts = torch.bincount(torch.tensor(which), minlength=len(ops)).to(x.device)
    squares = stacked.detach().float().pow(2).sum(-1) * counts
    for i, op in enumerate(ops):
        touches.append(Touch(op.number, op.site.address, int(counts[i]) * x.shape[-1], squares[i]))
    index = (torch.tensor(rows, device=x.device), torch.tensor(columns, device=x.device))
    return x.index_put(index, stacked[torch.tensor(which, device=x.device)], accumulate=True)


def _pointwise_adds(ops: list[Op]) -> int:
    """How many of the first ops are vectors added at given rows and positions, and nothing more."""
    for count, op in enumerate(ops):
        intervention = op.intervention
        select = intervention.select
        plain = (
            select.head is None
            and select.kv_head is None
            and select.neuron is None
            and select.keys is None
            and select.mask is None
        )
        if not (isinstance(intervention, Add) and plain and select.rows and isinstance(select.positions, tuple)):
            return count
        if intervention.vector.tensor.ndim != 1:
            return count
    return len(ops)
