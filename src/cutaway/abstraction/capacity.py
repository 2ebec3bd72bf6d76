"""IIA against the map's capacity: a map that is free enough finds any algorithm in any network (Sutter et al. 2025,
"The non-linear representation dilemma"), so the curve stands beside that of a network that learned nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cutaway.abstraction.align import Settings, _pairs, _untrained, split
from cutaway.abstraction.causal_model import CausalModel
from cutaway.abstraction.counterfactuals import check
from cutaway.abstraction.data import Data
from cutaway.abstraction.places import Place
from cutaway.abstraction.score import share
from cutaway.abstraction.train import Cell, Training, measure, train
from cutaway.core import Estimate, InputError
from cutaway.core.table import columns
from cutaway.model import Model

SCHEMA = "cutaway.alignment-capacity/1"


@dataclass(frozen=True, eq=False, repr=False)
class Capacity:
    """Made by `capacity_curve`. rows: (dimensions of each variable, trained parameters, IIA, IIA of the untrained)."""

    model: str
    causal: str
    places: tuple[str, ...]
    rows: tuple[tuple[int, int, Estimate, Estimate | None], ...]
    untrained: str
    seeds: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "causal_model": self.causal,
            "places": list(self.places),
            "untrained": self.untrained,
            "seeds": list(self.seeds),
            "rows": [
                {
                    "dims": dims, "parameters": parameters, "iia": iia.model_dump(mode="json"),
                    "untrained": None if null is None else null.model_dump(mode="json"),
                }
                for dims, parameters, iia, null in self.rows
            ],
        }  # fmt: skip

    def __str__(self) -> str:
        rows = [("dimensions", "parameters", "IIA", "untrained network")]
        for dims, parameters, iia, null in self.rows:
            rows.append((str(dims), f"{parameters:,}", str(iia), "" if null is None else str(null)))
        head = f"IIA against capacity: {self.causal} in {self.model}, {', '.join(self.places)}"
        tail = [] if self.untrained else ["  (no untrained network)"]
        return "\n".join([head, *columns(rows, right=(0, 1)), *tail])

    __repr__ = __str__


def capacity_curve(
    model: Model,
    causal_model: CausalModel,
    places: Mapping[str, Place],
    *,
    dims: Sequence[int] | None = None,
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
    `dims`), on the network and on one that learned nothing (one seed).

    Costs a training of len(seeds) + 1 cells for each number of dimensions. Raises InputError as `align`.
    """
    variables = tuple(places)
    check(causal_model, variables)
    settings = Settings(n, n_test, tuple(seeds), seed, only_right, training or Training())
    pairs, first = _pairs(causal_model, variables, settings, ())
    addresses = [place.at for place in places.values()]
    data = Data(model, causal_model, variables, pairs, addresses)
    rows, test = split(data, first, only_right)
    twin: Data | None = None
    if untrained is not None:
        try:
            other = _untrained(model, seed) if isinstance(untrained, str) else untrained
            twin = Data(other, causal_model, variables, pairs, addresses)
        except InputError:
            twin = None
    listed = list(places.values())
    width = min(data.spot(place, slot).width for slot, place in enumerate(listed))
    most = width // max(1, len(listed))
    sizes = list(dims) if dims is not None else [k for k in (1 << i for i in range(20)) if k <= max(1, most // 2)]
    if bad := [k for k in sizes if not 1 <= k <= most]:
        raise InputError(f"{bad[0]} dimensions for each of {len(listed)} variables of a point {width} wide.")
    found = []
    for k in sizes:
        sized = [replace(place, how="rotation", dims=k, basis=None, which=None) for place in listed]
        estimates: list[Estimate | None] = []
        for one, chosen in ((data, tuple(seeds)), (twin, tuple(seeds)[:1])):
            if one is None:
                estimates.append(None)
                continue
            spots = tuple(one.spot(place, slot) for slot, place in enumerate(sized))
            cells = [Cell(spots, one.wanted, s) for s in chosen]
            learned = train(one, sized, cells, rows, settings.training, progress)
            estimates.append(share(measure(one, cells, learned, test).hits, f"IIA, {k} dimensions"))
        assert estimates[0] is not None
        found.append((k, k * width * len(listed), estimates[0], estimates[1]))
    return Capacity(
        model.name, causal_model.name, tuple(place.where for place in listed), tuple(found),
        "" if twin is None else twin.model.name, tuple(seeds),
    )  # fmt: skip
