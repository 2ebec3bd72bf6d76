"""The toys of superposition joined to the methods of the other rooms: the exam's rows, and one figure of it all."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutaway.core import Evidence, atomic_path, write_json
from cutaway.core.drawing import Drawn
from cutaway.exams.superposition import dictionaries, kgons, limits
from cutaway.exams.superposition.dictionaries import Cell
from cutaway.exams.superposition.kgons import Kgon
from cutaway.exams.superposition.limits import FAILS, METHODS, NULLS, Point

SCHEMA = "cutaway.superposition-limits/1"


@dataclass(frozen=True, eq=False, repr=False)
class Limits(Drawn):
    """Every method as superposition grows, dictionaries of every width and L0, the learning coefficient by k-gon."""

    points: tuple[Point, ...]
    cells: tuple[Cell, ...]
    polygons: tuple[Kgon, ...]

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        return (
            *limits.evidence(self.points),
            *dictionaries.evidence(self.cells),
            *kgons.evidence(self.polygons),
        )

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [*_limit_rows(self.points), *kgons.rows(self.polygons), *dictionaries.rows(self.cells)]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            **limits.to_json(self.points),
            "dictionaries": dictionaries.to_json(self.cells),
            **kgons.to_json(self.polygons),
            "evidence": [one.to_json() for one in self.evidence],
        }

    def __str__(self) -> str:
        parts = [
            limits.table(self.points),
            "dictionaries by width and L0:\n" + dictionaries.table(self.cells),
            "learning coefficient from k-gon to k-gon:\n" + kgons.table(self.polygons),
            *(str(one) for one in self.evidence),
        ]
        return "\n\n".join(parts)

    __repr__ = __str__

    def figure(self) -> Any:
        """Four panels, each with its nulls: methods, cosine and F1 by width and L0, the learning coefficient."""
        from matplotlib.figure import Figure

        made = Figure(figsize=(13.0, 8.4), layout="constrained", dpi=110)
        axes = made.subplots(2, 2)
        limits.draw(axes[0, 0], self.points)
        kgons.draw(axes[0, 1], self.polygons)
        dictionaries.draw((axes[1, 0], axes[1, 1]), self.cells)
        return made


def measure(*, quick: bool = False, seed: int = 0, on: Callable[[str], None] = lambda _: None) -> Limits:
    """All three parts. Cost: about five minutes of one core with three seeds, half a minute `quick`."""
    return Limits(
        tuple(limits.limits(quick=quick, seed=seed, on=on)),
        tuple(dictionaries.dictionary_grid(quick=quick, seed=seed, on=on)),
        tuple(kgons.kgons(quick=quick, seed=seed, on=on)),
    )


def superposition_exam(
    *, quick: bool = False, seed: int = 0, say: Callable[[str], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Rows: what must hold where every feature has a dimension of its own, where each method first fails, what
    dictionaries recover, and the learning coefficient of each k-gon beside its exact value."""
    return measure(quick=quick, seed=seed, on=lambda what: say(f"{what} …")).rows


def _limit_rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    roomy = max(points, key=lambda p: p.m)
    rows: list[dict[str, Any]] = []
    for method in METHODS:
        found, chance = roomy.mean(method), roomy.mean(method, null=True)
        # The network and the exchange of a known direction must be right; dictionary and probe are fitted: reported.
        law = method in ("the network", "interchange")
        for name, one, truth, passed in (
            (f"{method}, a dimension a feature", found, 1.0 if law else None, found.value >= 0.95 if law else None),
            (f"{method}, null ({NULLS[method]})", chance, None, chance.value < found.value),
        ):
            span = None if one.interval is None else [one.interval.low, one.interval.high]
            rows.append({
                "name": name, "truth": truth, "estimate": one.value, "interval": span, "n": one.n,
                "tolerance": None if truth is None else 0.05, "passed": passed,
            })  # fmt: skip
    for method in METHODS:
        at = limits.first_failure(points, method)
        most = max(point.per_dimension for point in points)
        said = f"its mean first falls under {FAILS}" if at is not None else f"its mean is still {FAILS} or more"
        rows.append({
            "name": f"{method}: features per dimension where {said}", "truth": None,
            "estimate": most if at is None else at, "interval": None, "n": len(points), "tolerance": None,
            "passed": None,
        })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m cutaway.exams.superposition",
        description="Where each method begins to fail as superposition grows; prints tables, draws one figure.",
    )
    parser.add_argument("--out", type=Path, help="write superposition-limits.png and .json here")
    parser.add_argument("--quick", action="store_true", help="one seed, fewer points")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    made = measure(quick=asked.quick, seed=asked.seed, on=lambda what: print(what, "…", file=sys.stderr, flush=True))
    print(made)
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        with atomic_path(asked.out / "superposition-limits.png") as target:
            made.figure().savefig(target, format="png")
        write_json(asked.out / "superposition-limits.json", made.to_json())
