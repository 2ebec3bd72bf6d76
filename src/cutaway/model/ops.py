"""From interventions to what is done at which site of one model: addresses expanded, texts looked up, all checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cutaway.core import InputError
from cutaway.model.apply import Op
from cutaway.model.freeze import Frozen
from cutaway.model.interventions import Intervention
from cutaway.model.positions import When

if TYPE_CHECKING:
    from cutaway.model.model import Model
    from cutaway.model.tokens import Batch


def resolve(
    model: Model, interventions: Sequence[Intervention], batch: Batch | None = None, when: Sequence[When] | None = None
) -> list[Op]:
    """The ops of a list of interventions, in its order. `batch` is where the texts of tokens are looked up; `when` one
    for each intervention. Raises InputError: not an intervention, unknown or unwritable points, values of another
    model."""
    if isinstance(interventions, Intervention):
        raise InputError("interventions= takes a list of interventions.")
    if not isinstance(interventions, Iterable):
        raise InputError(f"interventions= takes a list of interventions; given {interventions!r}.")
    ops = []
    for number, intervention in enumerate(interventions):
        if not isinstance(intervention, Intervention):
            raise InputError(
                f"interventions[{number}] is {type(intervention).__name__}; make one with cw.zero, cw.add, …"
            )
        addresses = model.addresses(intervention.at)
        intervention.check(model.name, addresses)
        if intervention.wants_text and batch is not None:
            intervention = intervention.look_up(token_texts(model, batch))
        for site in model._sites(addresses):
            if not site.writable:
                raise InputError(f"{site.address} can be read but not changed: it only reports what the router did.")
            source = intervention.source(site.address)
            other = None if source is None else model.site(source)
            ops.append(Op(number, intervention, site, source=other, when="both" if when is None else when[number]))
    return ops


def token_texts(model: Model, batch: Batch) -> list[list[str]]:
    """The text of each row's own tokens."""
    return [model.token_strings(ids[mask]) for ids, mask in zip(batch.ids.cpu(), batch.mask.cpu())]


def refuse_idle(ops: Sequence[Op], frozen: Frozen | None) -> None:
    """Where a value is held, a change of what alone makes it would do nothing."""
    for op in ops:
        if frozen is not None and (part := frozen.idle(op.site.name)) is not None:
            held = "attention pattern" if part == "pattern" else part
            raise InputError(
                f"{op.intervention.kind} at {op.site.address} would change nothing: the {held} is frozen there."
            )
