"""A visualisation with its null: the same on a network that learned nothing, with the same seeds, steps, transforms and
starting pictures. What both show is of the method and not of what was learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cutaway.core import Comparison, Evidence, NotDone
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import bootstrap
from cutaway.evidence.statistics import bootstrap_difference
from cutaway.vision.visualise import Visualisation


@dataclass(frozen=True, eq=False, repr=False)
class Shown(Drawn):
    """A visualisation, the same on the re-randomised tower, and what the objective reaches on real pictures."""

    trained: Visualisation
    null: Visualisation | None
    best_picture: float | None  # the largest value on the pictures given
    evidence: Evidence

    def to_json(self) -> dict[str, Any]:
        def one(v: Visualisation | None) -> dict[str, Any] | None:
            if v is None:
                return None
            return {"model": v.tower, "reached": [round(x, 5) for x in v.reached], "silent": list(v.silent),
                    "redirected_steps": v.redirected,
                    "trace": [round(x, 5) for x in v.trace[:: max(1, len(v.trace) // 64)]]}  # fmt: skip

        return {
            "schema": "cutaway.visualisation/1",
            "model": self.trained.tower,
            "objective": self.trained.objective,
            "method": self.trained.method,
            "steps": self.trained.steps,
            "start": self.begun,
            "trained": one(self.trained),
            "null": one(self.null),
            "best_picture": self.best_picture,
            "evidence": [self.evidence.to_json()],
        }

    @property
    def begun(self) -> list[dict[str, Any]] | None:
        """The real pictures that were climbed from; None for noise."""
        start = self.trained.start
        if start is None:
            return None
        return [{"row": row, "labels": list(labels), "value": round(value, 5)}
                for row, labels, value in zip(start.rows, start.labels, start.values)]  # fmt: skip

    def __str__(self) -> str:
        rows = [("", "reached (each picture)")]
        for v in (self.trained, self.null):
            if v is not None:
                rows.append((v.tower, "  ".join(f"{x:.3g}" for x in v.reached)))
        if self.best_picture is not None:
            rows.append(("best of the real pictures", f"{self.best_picture:.3g}"))
        head = f"{self.trained.objective}: {len(self.trained.reached)} pictures, {self.trained.steps} steps, "
        return "\n".join(
            [head + self.trained.method, *columns(rows), *_how_begun(self.trained, self.null), str(self.evidence)]
        )

    __repr__ = __str__


def _how_begun(made: Visualisation, null: Visualisation | None = None) -> list[str]:
    """Lines that say from what it was climbed, and what stayed silent."""
    lines = []
    if made.start is not None:
        each = ", ".join(
            f"{' '.join(labels)} {value:.3g}" for labels, value in zip(made.start.labels, made.start.values)
        )
        lines.append(f"Begun from the real pictures that excite it most ({each}), not from noise.")
    if made.redirected:
        lines.append(
            f"On {made.redirected} of {made.steps} steps a picture left it silent, and the gradient came through ReLUs "
            "that were shut."
        )
    if any(made.silent):
        lines.append(f"{sum(made.silent)} of {len(made.silent)} pictures stayed silent.")
    if null is not None and any(null.silent):
        lines.append(f"{sum(null.silent)} of {len(null.silent)} pictures of {null.tower} stayed silent.")
    return lines


def shown(trained: Visualisation, null: Visualisation | None, real: Any = None, seed: int = 0) -> Shown:
    """Join a visualisation with its null. `real` [m]: the objective on real pictures, whose mean and spread make the
    two models' values comparable; `real` may be a pair, one for each model. Where a spread is zero (a unit that no
    picture excites), or one of the two is not given, values are as they are."""
    mine, theirs = real if isinstance(real, tuple) else (real, None)
    scales = [mine] if null is None else [mine, theirs]
    unit = " SD" if all(values is not None and float(np.std(values)) > 0 for values in scales) else ""
    first = _in_spreads(trained.reached, mine if unit else None)
    name = "objective reached" + (", in SDs above its mean on real pictures" if unit else "")
    effect = bootstrap(first, name=name, over="pictures made", unit=unit, method="percentile", seed=seed)
    nulls: tuple[Comparison, ...] = ()
    if null is not None:
        second = _in_spreads(null.reached, theirs if unit else None)
        name = "re-randomised model"
        estimate = bootstrap(second, name=name, over="pictures made", unit=unit, method="percentile", seed=seed)
        apart = bootstrap_difference(first, second, paired=False, over="pictures made", seed=seed)
        nulls = (Comparison(estimate=estimate, difference=apart),)
    begun = "noise" if trained.start is None else "the real pictures that excite it most, on both models the same"
    return Shown(
        trained,
        null,
        None if mine is None else float(np.max(mine)),
        Evidence(
            claim=f"Pictures made for {trained.objective} drive it further than the same steps drive a network that "
            "learned nothing",
            effect=effect,
            nulls=nulls,
            seeds=(seed,),
            how=f"{trained.method} parametrisation, {trained.steps} steps from {begun}; measured on the pictures as "
            "they are, without transforms. That a picture drives a unit does not say that people see in it what the "
            "unit is for: compare with the null's pictures.",
            not_done=() if null is not None else (NotDone(what="re-randomised model", why="it was left out"),),
        ),
    )


def _in_spreads(values: tuple[float, ...], real: Any) -> list[float]:
    if real is None:
        return list(values)
    mean, spread = float(np.mean(real)), float(np.std(real))
    return [(v - mean) / spread for v in values]
