"""IIA against the map's capacity: a map that is free enough finds any algorithm in any network (Sutter et al. 2025,
"The non-linear representation dilemma"), so each point of the curve stands beside a network that learned nothing, and
the curve ends with a map that is not linear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from cutaway.abstraction.align import untrained_twin
from cutaway.abstraction.causal_model import CausalModel
from cutaway.abstraction.counterfactuals import check
from cutaway.abstraction.data import Data
from cutaway.abstraction.items import Settings, drawn, split
from cutaway.abstraction.measure import Cell, measure
from cutaway.abstraction.nonlinear import parameters
from cutaway.abstraction.places import Place
from cutaway.abstraction.score import beside, share
from cutaway.abstraction.train import Training, train
from cutaway.core import Comparison, Estimate, Evidence, InputError, NotDone
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.model import Model

SCHEMA = "cutaway.alignment-capacity/2"


@dataclass(frozen=True, eq=False)
class Point:
    """One map: dimensions exchanged for each variable, trained numbers, IIA on the network and on the untrained one."""

    dims: int
    parameters: int
    iia: Estimate
    untrained: Comparison | None

    def to_json(self) -> dict[str, Any]:
        null = None if self.untrained is None else self.untrained.estimate.model_dump(mode="json")
        iia = self.iia.model_dump(mode="json")
        return {"dims": self.dims, "parameters": self.parameters, "iia": iia, "untrained": null}


@dataclass(frozen=True, eq=False, repr=False)
class Capacity(Drawn):
    """Made by `capacity_curve`. rows: linear maps by their dimensions; nonlinear: the same with a learned map that is
    not linear; idle: IIA with nothing exchanged."""

    model: str
    causal: str
    places: tuple[str, ...]
    rows: tuple[Point, ...]
    nonlinear: tuple[Point, ...]
    idle: Estimate
    untrained: str
    seeds: tuple[int, ...]
    settings: dict[str, Any]

    @property
    def enough(self) -> Point:
        """The smallest linear map that does as well as the best, within .02."""
        best = max(point.iia.value for point in self.rows)
        return next(point for point in self.rows if point.iia.value >= best - 0.02)

    @property
    def evidence(self) -> Evidence:
        point = self.enough
        null = (Comparison(estimate=self.idle), *(() if point.untrained is None else (point.untrained,)))
        not_done = (
            ()
            if point.untrained is not None
            else (NotDone(what="untrained network", why="none was given or could be made"),)
        )
        return Evidence(
            claim=f"{point.dims} linear dimensions of {', '.join(self.places)} are enough in {self.model}, and not in "
            "a network that learned nothing",
            effect=point.iia,
            nulls=null,
            seeds=self.seeds,
            how="Learned maps of growing capacity, each trained on the network and on the untrained one (one seed), on "
            "the same items. Intervals are Wilson's over held-out items.",
            settings=self.settings,
            not_done=not_done,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "causal_model": self.causal,
            "places": list(self.places),
            "untrained": self.untrained,
            "seeds": list(self.seeds),
            "rows": [point.to_json() for point in self.rows],
            "nonlinear": [point.to_json() for point in self.nonlinear],
            "nothing_exchanged": self.idle.model_dump(mode="json"),
            "evidence": self.evidence.to_json(),
        }

    def __str__(self) -> str:
        rows = [("map", "dimensions", "trained numbers", "IIA", "untrained network")]
        for kind, points in (("linear", self.rows), ("nonlinear", self.nonlinear)):
            for point in points:
                null = "" if point.untrained is None else str(point.untrained.estimate)
                rows.append((kind, str(point.dims), f"{point.parameters:,}", str(point.iia), null))
        where = ", ".join(dict.fromkeys(self.places))
        head = f"IIA against the map's capacity: {self.causal} in {self.model}, {where}"
        tail = [f"  nothing exchanged: {self.idle}", f"  verdict at {self.enough.dims}: {self.evidence.verdict_text}"]
        if self.nonlinear:
            tail.insert(1, "  what a nonlinear map finds in the untrained network, such a map can find anywhere")
        return "\n".join([head, *columns(rows, right=(1, 2)), *tail])

    __repr__ = __str__


def capacity_curve(
    model: Model,
    causal_model: CausalModel,
    places: Mapping[str, Place],
    *,
    dims: Sequence[int] | None = None,
    nonlinear: Sequence[int] | None = None,
    n: int = 512,
    n_test: int = 256,
    seeds: Sequence[int] = (0, 1, 2),
    training: Training | None = None,
    untrained: Model | str | None = "auto",
    only_right: bool = True,
    seed: int = 0,
    progress: bool | None = None,
) -> Capacity:
    """IIA on held-out items for learned rotations of 1, 2, 4, … dimensions a variable, up to half of the width (or for
    `dims`), and for a nonlinear map that exchanges as many features as the largest of these (or those of `nonlinear`,
    () for none; none where there are several variables); on the network and on one that learned nothing (one seed).

    Costs a training of len(seeds) + 1 cells for each map. Raises InputError as `align`.
    """
    variables = tuple(places)
    check(causal_model, variables)
    settings = Settings(n, n_test, tuple(seeds), seed, only_right, training or Training())
    pairs, first = drawn(causal_model, variables, settings, ())
    addresses = [place.at for place in places.values()]
    data = Data(model, causal_model, variables, pairs, addresses)
    rows, test = split(data, first, only_right)
    twin: Data | None = None
    if untrained is not None:
        try:
            other = untrained_twin(model, seed) if isinstance(untrained, str) else untrained
            twin = Data(other, causal_model, variables, pairs, addresses)
        except InputError:
            twin = None
    listed = list(places.values())
    width = min(data.spot(place, slot).width for slot, place in enumerate(listed))
    most = width // max(1, len(listed))
    sizes = list(dims) if dims is not None else [k for k in (1 << i for i in range(20)) if k <= max(1, most // 2)]
    free = list(nonlinear) if nonlinear is not None else [sizes[-1]] if len(listed) == 1 else []
    if bad := [k for k in (*sizes, *free) if not 1 <= k <= most]:
        raise InputError(f"{bad[0]} dimensions for each of {len(listed)} variables of a point {width} wide.")
    work = _Work(data, twin, listed, rows, test, settings, progress)
    alone = (~data.changes[test])[None]
    return Capacity(
        model=model.name,
        causal=causal_model.name,
        places=tuple(place.where for place in listed),
        rows=tuple(work.point("rotation", k, k * width * len(listed)) for k in sizes),
        nonlinear=tuple(work.point("nonlinear", k, parameters(width) * len(listed)) for k in free),
        idle=share(alone, "nothing exchanged"),
        untrained="" if twin is None else twin.model.name,
        seeds=tuple(seeds),
        settings={"n": n, "n_test": len(test), "seed": seed, "steps": settings.training.steps},
    )


@dataclass(frozen=True, eq=False)
class _Work:
    data: Data
    twin: Data | None
    places: list[Place]
    train: Tensor
    test: Tensor
    settings: Settings
    progress: bool | None

    def point(self, how: Any, k: int, size: int) -> Point:
        """Train and measure one map on both networks."""
        sized = [replace(place, how=how, dims=k, basis=None, which=None) for place in self.places]
        mine = self._hits(self.data, sized, self.settings.seeds)
        null: Comparison | None = None
        if self.twin is not None:
            theirs = self._hits(self.twin, sized, self.settings.seeds[:1])
            null = beside(mine, theirs, f"untrained network, {k} dimensions", self.settings.seed)
        return Point(k, size, share(mine, f"IIA, {k} {'' if how == 'rotation' else 'nonlinear '}dimensions"), null)

    def _hits(self, data: Data, places: list[Place], seeds: Sequence[int]) -> Tensor:
        spots = tuple(data.spot(place, slot) for slot, place in enumerate(places))
        cells = [Cell(spots, data.wanted, s) for s in seeds]
        what = f"{places[0].dims} dimensions in {data.model.name}"
        learned = train(data, places, cells, self.train, self.settings.training, self.progress, what)
        return measure(data, cells, learned, self.test).hits


__all__ = ["Capacity", "Point", "capacity_curve"]
