"""A world's state in a model: whether it can be read, and whether it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cutaway.core import Evidence, InputError
from cutaway.core.drawing import Drawn
from cutaway.model import Model
from cutaway.readouts.state_data import StateData
from cutaway.readouts.state_edit import STRENGTHS, StateEdit, editable, state_edit
from cutaway.readouts.state_probe import StateProbe, state_probe, vector_points


@dataclass(frozen=True, eq=False, repr=False)
class StateStudy(Drawn):
    """`edit` is None where the data describes no edits."""

    probe: StateProbe
    edit: StateEdit | None

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        return self.probe.evidence + (() if self.edit is None else self.edit.evidence)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.state/1",
            "model": self.probe.model,
            "data": self.probe.data,
            "probe": self.probe.to_json(),
            "edit": None if self.edit is None else self.edit.to_json(),
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        return str(self.probe) if self.edit is None else f"{self.probe}\n\n{self.edit}"

    __repr__ = __str__


def fits(model: Model, data: StateData, at: str | Sequence[str]) -> None:
    """Before the work. Raises InputError: points that the model does not have, or without one vector a position; fewer
    tokens known, or shorter sequences read; edits of other tokens, or at points that are no stream."""
    if data.edits is not None:
        editable(model, data.name, data.edits, [at] if isinstance(at, str) else at)
    vector_points(model, at)
    known, longest = model.facts.vocab_size, model.facts.max_positions
    if known and (largest := int(data.tokens.max())) >= known:  # 0: of a module of one's own it is not known
        raise InputError(
            f"{data.name} has token {largest}; {model.name} knows the tokens 0 … {known - 1}: "
            "is it a model of this world?"
        )
    if longest is not None and data.tokens.shape[1] > longest:
        raise InputError(f"{data.name} has sequences of {data.tokens.shape[1]} tokens; {model.name} reads {longest}.")


def state_study(
    model: Model,
    data: StateData,
    at: str | Sequence[str] = "resid_post.*",
    *,
    null: bool = True,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> StateStudy:
    """`state_probe`, and where the data describes edits `state_edit` with its probes; both say what they cost."""
    fits(model, data, at)
    probe = state_probe(model, data, at, null=null, seed=seed)
    edit = None if data.edits is None else state_edit(model, data, probe, strengths=strengths, seed=seed)
    return StateStudy(probe, edit)
