"""Is the state used? One variable changed along its probe, and the next tokens that the model then holds valid.

x -> x - (1 + s) (l(x) / |w|²) w,  w = weight[b] - weight[a] and l their difference of logits: at s = 1 the state is
mirrored in the plane between the values a (as it is) and b (as it shall be).

Source: Li et al. 2023, section 4 (errors among the N most likely next tokens, N the number that are valid); Nanda, Lee
& Wattenberg 2023, section 4 (an edit along the linear probe, from one layer on).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, InputError
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import bootstrap, bootstrap_difference
from cutaway.model import Model
from cutaway.model.interventions import rewrite
from cutaway.readouts.state_data import Edits, StateData
from cutaway.readouts.state_probe import BATCH, StateProbe, states_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Shift = Callable[[str, Tensor, Ints, float], Tensor]  # (point, x [m, width], which edits, strength) -> what is added
STRENGTHS = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, eq=False)
class EditScore:
    """A first point and a strength, on the edits that these are chosen by: mean errors."""

    start: str
    strength: float
    errors: float


@dataclass(frozen=True, eq=False, repr=False)
class StateEdit(Drawn):
    """Errors: the N most likely next tokens that are not valid, and the N valid ones that are not among them."""

    model: str
    data: str
    n: tuple[int, int]  # edits: chosen by, reported on
    sweep: tuple[EditScore, ...]
    best: EditScore
    errors: Estimate  # against the changed state, after the edit
    unedited: Estimate  # against the changed state, without an edit
    own: Estimate  # against the true state, without an edit
    mass: Estimate  # probability on valid tokens, after the edit
    evidence: tuple[Evidence, ...]

    def table(self) -> str:
        strengths = sorted({s.strength for s in self.sweep})
        starts = list(dict.fromkeys(s.start for s in self.sweep))
        found = {(s.start, s.strength): s.errors for s in self.sweep}
        rows = [("from", *(f"strength {s:g}" for s in strengths))]
        for start in starts:
            cells = []
            for s in strengths:
                star = " *" if (start, s) == (self.best.start, self.best.strength) else "  "
                cells.append(f"{found[start, s]:.2f}{star}")
            rows.append((start, *cells))
        return "\n".join(
            [
                f"one variable of {self.data} changed in {self.model} along its probe: mean errors among the next "
                f"tokens that fit the changed state ({self.n[0]} edits to choose by)",
                *columns(rows, right=tuple(range(1, len(strengths) + 1))),
                f"  * chosen; on {self.n[1]} edits of other sequences: {self.errors}",
                f"  nothing edited: {self.unedited}; the model's own errors where nothing is changed: {self.own}",
                f"  probability on tokens that fit the changed state: {self.mass}",
            ]
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.state-edit/1",
            "model": self.model,
            "data": self.data,
            "n": {"chosen by": self.n[0], "reported on": self.n[1]},
            "sweep": [{"from": s.start, "strength": s.strength, "errors": s.errors} for s in self.sweep],
            "best": {"from": self.best.start, "strength": self.best.strength},
            "errors": self.errors.model_dump(mode="json"),
            "unedited": self.unedited.model_dump(mode="json"),
            "own": self.own.model_dump(mode="json"),
            "mass": self.mass.model_dump(mode="json"),
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        return "\n\n".join([self.table(), *map(str, self.evidence)])

    __repr__ = __str__


def state_edit(
    model: Model,
    data: StateData,
    probe: StateProbe,
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> StateEdit:
    """Edits of sequences that `probe` has not learnt from. Where to start and how far to go are chosen on edits of its
    validation sequences and reported on those of its test sequences.

    Beside it: no edit, a random direction as long as the edit at each point, and the direction of the same change
    in another variable; as the simplest method, the difference of the two values' mean states, with its own
    start and strength.
    Costs points × strengths × 2 forwards of the edits that are chosen by, and five of the others.
    Raises InputError: data without edits, or with fewer than four on a side; strengths that are not positive.
    """
    if data.edits is None:
        raise InputError(f"{data.name} describes no edits (which next tokens fit a changed state).")
    if not strengths or any(not (s > 0 and np.isfinite(s)) for s in strengths):
        raise InputError(f"strengths are positive numbers; given {list(strengths)}.")
    points = [s.point for s in probe.sweep]
    editable(model, data.name, data.edits, points)
    editor = _Editor(model, data, data.edits, probe, points, seed)
    validation, test = (np.flatnonzero(np.isin(data.edits.row, side)) for side in probe.sides[1:])
    if min(len(validation), len(test)) < 4:
        raise InputError(f"{len(validation)} and {len(test)} edits lie in validation and test sequences: too few.")
    found = {name: editor.sweep(validation, shift, strengths) for name, shift in editor.methods.items()}
    best = {name: min(rows, key=lambda s: s.errors) for name, rows in found.items()}

    _, member = np.unique(data.edits.row[test], return_inverse=True)

    def by_sequence(*values: Floats) -> tuple[Floats, ...]:
        """Means of each sequence: edits of one are not independent."""
        return tuple(np.bincount(member, x) / np.bincount(member) for x in values)

    def measured(shift: Shift | None, at: EditScore) -> tuple[Floats, ...]:
        return by_sequence(*editor.errors(test, shift, at.start, at.strength))

    main, mass = measured(editor.along, best["probe"])
    nothing, _ = measured(None, best["probe"])
    own, _ = by_sequence(*editor.errors(test, None, points[0], 0.0, before=True))

    def beside(name: str, other: Floats) -> Comparison:
        apart = bootstrap_difference(main, other, paired=True, over="sequences", seed=seed)
        return Comparison(estimate=bootstrap(other, name=name, over="sequences", seed=seed), difference=apart)

    means = best["means"]
    evidence = Evidence(
        claim=f"{model.name} chooses what comes next by the state that its probe reads from {best['probe'].start} on",
        effect=bootstrap(main, name="errors after an edit along the probe", over="sequences", seed=seed),
        better="lower",
        nulls=(
            beside("nothing edited", nothing),
            beside("random directions as long as the edit", measured(editor.random, best["probe"])[0]),
            beside("the same change of another variable", measured(editor.another, best["probe"])[0]),
        ),
        baselines=(
            beside(
                f"difference of mean states, from {means.start} on, strength {means.strength:g}",
                measured(editor.means, means)[0],
            ),
        ),
        seeds=(seed,),
        how="Errors among the N most likely next tokens, N how many fit the changed state. Edited at the sequence's "
        "last token alone, at the first point and every later one; start and strength chosen on edits of others.",
        settings={"start": best["probe"].start, "strength": best["probe"].strength},
    )
    return StateEdit(
        model=model.name,
        data=data.name,
        n=(len(validation), len(test)),
        sweep=tuple(found["probe"]),
        best=best["probe"],
        errors=evidence.effect,
        unedited=bootstrap(nothing, name="nothing edited", over="sequences", seed=seed),
        own=bootstrap(own, name="no change asked for", over="sequences", seed=seed),
        mass=bootstrap(mass, name="probability on valid tokens", over="sequences", seed=seed),
        evidence=(evidence,),
    )


def editable(model: Model, name: str, edits: Edits, points: Sequence[str]) -> None:
    """Raises InputError where the edits ask for other tokens than the model says, or for points that are no stream."""
    asked, known = edits.valid.shape[1], model.facts.vocab_size
    if known and asked != known:
        raise InputError(
            f"the edits of {name} say which of {asked} next tokens fit; {model.name} knows {known}: "
            "is it a model of this world?"
        )
    if bad := [p for p in points if not p.startswith("resid_post.")]:
        raise InputError(f"edits are made in the residual stream after blocks (resid_post.*); given {bad[0]}.")


class _Editor:
    """The edits of one data set, made in one model by several methods."""

    def __init__(
        self, model: Model, data: StateData, edits: Edits, probe: StateProbe, points: list[str], seed: int
    ) -> None:
        self.model, self.data, self.edits, self.probe, self.points = model, data, edits, probe, points
        self.now = data.state[edits.row, edits.position, edits.variable]
        rng = np.random.default_rng(seed)
        s = len(data.variables)
        self.others = (edits.variable + rng.integers(1, s, len(edits))) % s if s > 1 else edits.variable
        self.generator = torch.Generator().manual_seed(seed)
        self.noise = torch.randn(len(edits), model.facts.d_model, generator=self.generator)
        self.mean_states = {p: self._means(x) for p, x in states_of(model, data, points).items()}
        self.methods: dict[str, Shift] = {"probe": self.along, "means": self.means}

    def _means(self, x: Tensor) -> Tensor:
        """[S, C, width]: the mean state where each variable has each value, of the sequences that are learnt from."""
        rows = self.probe.sides[0]
        kept = torch.from_numpy(self.data.tokens[rows] >= 0)
        y, x = torch.from_numpy(self.data.state[rows])[kept], x[torch.from_numpy(rows)][kept]
        hot = torch.stack([(y == c).float() for c in range(len(self.data.values))], -1)  # [n, S, C]
        return torch.einsum("nsc,nd->scd", hot, x) / hot.sum(0)[..., None].clamp(min=1)

    def along(self, point: str, x: Tensor, which: Ints, strength: float, variable: Ints | None = None) -> Tensor:
        probe = self.probe.probes[point]
        v, a, b = (torch.from_numpy(part[which]) for part in (self.edits.variable, self.now, self.edits.to))
        if variable is not None:
            v = torch.from_numpy(variable[which])
        w = probe.weight[v, b] - probe.weight[v, a]  # [m, width]
        logit = (x * w).sum(-1) + probe.bias[v, b] - probe.bias[v, a]
        return -(1 + strength) * (logit / (w**2).sum(-1).clamp(min=1e-12))[:, None] * w

    def means(self, point: str, x: Tensor, which: Ints, strength: float) -> Tensor:
        found = self.mean_states[point]
        v, a, b = (torch.from_numpy(part[which]) for part in (self.edits.variable, self.now, self.edits.to))
        return strength * (found[v, b] - found[v, a])

    def random(self, point: str, x: Tensor, which: Ints, strength: float) -> Tensor:
        return _as_long(self.noise[which], self.along(point, x, which, strength))

    def another(self, point: str, x: Tensor, which: Ints, strength: float) -> Tensor:
        return _as_long(self.along(point, x, which, strength, self.others), self.along(point, x, which, strength))

    def sweep(self, which: Ints, shift: Shift, strengths: Sequence[float]) -> list[EditScore]:
        return [
            EditScore(start, s, float(self.errors(which, shift, start, s)[0].mean()))
            for start in self.points
            for s in strengths
        ]

    def errors(
        self, which: Ints, shift: Shift | None, start: str, strength: float, before: bool = False
    ) -> tuple[Floats, Floats]:
        """[m] errors and [m] probability on valid tokens, of the edits `which`."""
        truth = self.edits.before if before else self.edits.valid
        errors, mass = np.zeros(len(which)), np.zeros(len(which))
        for first in range(0, len(which), BATCH):
            part = which[first : first + BATCH]
            logits = self._logits(part, shift, start, strength)
            valid = torch.from_numpy(truth[part])
            place = logits.argsort(-1, descending=True).argsort(-1)  # [m, vocab], 0 for the most likely
            n = valid.sum(-1)
            missed = (valid & (place >= n[:, None])).sum(-1)  # as many as are there that should not be
            errors[first : first + len(part)] = (2 * missed).numpy()
            mass[first : first + len(part)] = (logits.softmax(-1) * valid).sum(-1).numpy()
        return errors, mass

    def _logits(self, which: Ints, shift: Shift | None, start: str, strength: float) -> Tensor:
        """[m, vocab] after each edit's last token."""
        rows, ends = self.edits.row[which], self.edits.position[which]
        prompts = [self.data.tokens[r, : e + 1].tolist() for r, e in zip(rows, ends)]
        index, columns = torch.arange(len(which)), torch.from_numpy(ends)
        changes = []
        if shift is not None:
            for point in self.points[self.points.index(start) :]:

                def moved(x: Tensor, point: str = point) -> Tensor:
                    x = x.clone()
                    here = x[index, columns]
                    x[index, columns] = here + shift(point, here.float().cpu(), which, strength).to(here)
                    return x

                changes.append(rewrite(point, moved))
        with torch.no_grad():
            run = self.model.run(prompts, interventions=changes)
        return run.logits[index, columns].float().cpu()


def _as_long(direction: Tensor, as_this: Tensor) -> Tensor:
    length: Tensor = as_this.norm(dim=-1, keepdim=True) / direction.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return direction * length
