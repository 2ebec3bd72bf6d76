"""A case run from end to end: where the variable is, the alignment with what stands beside it, scrubbing, capacity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutaway.core.drawing import Drawn
from cutaway.exams.abstraction_cases import Case, opened

SCHEMA = "cutaway.abstraction-case/1"


@dataclass(frozen=True, eq=False, repr=False)
class CaseResult(Drawn):
    """What `run_case` gives. `sweep`, `scrubbed` and `capacity` are None where they were not made."""

    case: Case
    sweep: Any
    alignment: Any
    scrubbed: Any
    capacity: Any

    def to_json(self) -> dict[str, Any]:
        def told(x: Any) -> Any:
            return None if x is None else x.to_json()

        return {
            "schema": SCHEMA,
            "case": self.case.name,
            "about": self.case.about,
            "expect": self.case.expect,
            "rivals": {name: rival.to_json() for name, (rival, _) in self.case.rivals.items()},
            "alignment": self.alignment.to_json(),
            "sweep": told(self.sweep),
            "scrubbing": told(self.scrubbed),
            "capacity": told(self.capacity),
        }

    def save(self, folder: str | Path) -> None:
        """case.json with all results, and the alignment's tensors and drawing in `alignment/`."""
        from cutaway.core import write_json

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "case.json", self.to_json())
        self.alignment.save(folder / "alignment")

    def __str__(self) -> str:
        parts = [str(self.case.causal), self.sweep, self.alignment, self.scrubbed, self.capacity]
        expect = [f"Expected: {self.case.expect}"] if self.case.expect else []
        return "\n\n".join([*(str(part) for part in parts if part is not None), *expect])

    __repr__ = __str__


def run_case(
    case: Case, model: str | None = None, *, quick: bool = False, seed: int = 0, capacity: bool = False,
    say: Callable[[str], None] | None = None,
) -> CaseResult:  # fmt: skip
    """Sweep (where the case names one), align, scrub, and IIA against the map's capacity on the network and an
    untrained one: at 1, k/4 and k dimensions for learned subspaces of k, and k features of a nonlinear map, on one
    seed (as the sweep is); with `capacity` at every power of two, on three. `quick`: a third of the items and steps,
    one seed, no sweep, no trained nulls, no capacity unless asked.

    Raises InputError and CutawayError as `cutaway.abstraction.align`.
    """
    from cutaway.abstraction import Training, align, align_sweep, capacity_curve, scrub

    tell = say or (lambda message: None)
    network = opened(case, model)
    part = 3 if quick else 1
    n, n_test = max(64, case.n // part), max(64, case.n_test // part)
    training = Training(steps=max(50, case.steps // part), batch=case.batch)
    swept = None
    if case.sweep is not None and not quick:
        variable, points, dims = case.sweep
        tell(f"Looking for {variable} in every layer")
        swept = align_sweep(
            network, case.causal, variable, points, dims=dims, n=64 if dims is None else n, n_test=n_test, seed=seed,
            seeds=(0,), training=training,
        )  # fmt: skip
    tell(f"Aligning {', '.join(case.places)}")
    more: dict[str, Any] = {"n": n, "n_test": n_test, "training": training, "seed": seed}
    found = align(
        network, case.causal, case.places, rivals=case.rivals, seeds=(0,) if quick else (0, 1, 2), quick=quick,
        untrained=case.untrained, **more,
    )  # fmt: skip
    tell("Scrubbing")
    scrubbed = scrub(network, case.causal, found, seed=seed)
    curve = None
    sizes = [place.dims for place in case.places.values() if place.how == "rotation"]
    if capacity or (not quick and len(sizes) == len(case.places)):
        tell("IIA against the map's capacity")
        k = max(sizes) if sizes else None
        few: dict[str, Any] = {} if capacity else {"dims": sorted({1, max(1, k // 4), k}), "seeds": (0,)}
        if k is not None:
            few["nonlinear"] = (k,) if len(case.places) == 1 else ()
        curve = capacity_curve(network, case.causal, case.places, untrained=case.untrained, **more, **few)
    return CaseResult(case, swept, found, scrubbed, curve)
