"""Where a variable lives: one alignment for every layer and position, in one batched job.

The base rows are run once, with every layer's stream, keys and values kept; each cell goes on from its own place. Cells
of one layer (positions, seeds, controls) are lanes of the same forwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.abstraction.arms import Found, failures
from cutaway.abstraction.causal_model import CausalModel
from cutaway.abstraction.counterfactuals import check
from cutaway.abstraction.data import Data, Spot
from cutaway.abstraction.featurizers import Featurizer, Subspace, Whole, random_subspace
from cutaway.abstraction.items import LEAST, Settings, drawn, split
from cutaway.abstraction.measure import Cell, Measured, measure
from cutaway.abstraction.places import Place, subspace, whole
from cutaway.abstraction.score import Score, beside, share
from cutaway.abstraction.train import Training, train
from cutaway.core import Estimate, Evidence, InputError, NotDone
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.model import Model

SCHEMA = "cutaway.alignment-sweep/1"


@dataclass(frozen=True, eq=False, repr=False)
class AlignmentSweep(Drawn):
    """Made by `align_sweep`. hits, null [layer, position, item] on held-out items (hits are means over seeds).

    `best`: (layer, position) with the largest IIA. failures: items that fail there.
    """

    model: str
    causal: dict[str, Any]
    svg: str
    variable: str
    addresses: tuple[str, ...]
    positions: tuple[str, ...]
    what: str
    hits: Tensor
    null: Tensor
    null_name: str
    changes: Tensor
    competence: Estimate
    seeds: tuple[int, ...]
    failures: list[dict[str, Any]]
    settings: dict[str, Any]

    @property
    def iia(self) -> Tensor:
        """[layer, position]."""
        return self.hits.mean(-1)

    @property
    def cause(self) -> Tensor:
        """[layer, position]: IIA where the exchange changes the answer."""
        return self.hits[..., self.changes].mean(-1)

    @property
    def best(self) -> tuple[int, int]:
        number = int(self.iia.flatten().argmax())
        return number // len(self.positions), number % len(self.positions)

    def estimate(self, layer: int, position: int) -> Estimate:
        return share(self.hits[layer, position][None], f"IIA at {self.addresses[layer]} {self.positions[position]}")

    @property
    def evidence(self) -> Evidence:
        """That the best cell has the variable: beside its null, and a choice made on other items."""
        layer, position = self.best
        mine, theirs = self.hits[layer, position][None], self.null[layer, position][None]
        even = self.hits[..., ::2].mean(-1).flatten().argmax()
        chosen = int(even) // len(self.positions), int(even) % len(self.positions)
        second = share(
            self.hits[chosen][None, 1::2],
            f"chosen on even items ({self.addresses[chosen[0]]} {self.positions[chosen[1]]}), measured on odd ones",
        )
        cells = self.iia.numel()
        alone = (~self.changes).double()[None]
        return Evidence(
            claim=f"{self.variable} of {self.causal['name']} is at {self.addresses[layer]}, {self.positions[position]} "
            f"(the best of {cells} places)",
            effect=share(mine, "IIA of the best place"),
            nulls=(beside(mine, theirs, f"{self.null_name}, same place"), beside(mine, alone, "nothing exchanged")),
            second_data=second,
            seeds=self.seeds,
            how=f"{self.what} exchanged at each of {cells} places, on {mine.shape[1]} held-out items, half of which "
            "change the answer. Intervals are Wilson's over items.",
            settings=self.settings,
            not_done=(NotDone(what="shuffled labels, untrained network", why="align does them for one place"),),
        )

    def to_json(self) -> dict[str, Any]:
        """For a heatmap: rows are layers (`addresses`), columns `positions`."""
        cells = [[self.estimate(i, j) for j in range(len(self.positions))] for i in range(len(self.addresses))]
        ends = [[c.interval for c in row] for row in cells]
        return {
            "schema": SCHEMA,
            "model": self.model,
            "causal_model": self.causal,
            "svg": self.svg,
            "variable": self.variable,
            "what": self.what,
            "axes": [
                {"name": "place", "labels": list(self.addresses)}, {"name": "position", "labels": list(self.positions)},
            ],
            "unit": "IIA: share of held-out items where the network says what the causal model does",
            "n": int(self.hits.shape[-1]),
            "chance": float((~self.changes).double().mean()),
            "iia": [[c.value for c in row] for row in cells],
            "low": [[None if e is None else e.low for e in row] for row in ends],
            "high": [[None if e is None else e.high for e in row] for row in ends],
            "cause": _lists(self.cause),
            "null": {"name": self.null_name, "iia": _lists(self.null.mean(-1))},
            "best": {"place": self.addresses[self.best[0]], "position": self.positions[self.best[1]]},
            "competence": self.competence.model_dump(mode="json"),
            "evidence": self.evidence.to_json(),
            "failures": self.failures,
            "settings": self.settings,
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [
            f"Where is {self.variable} of {self.causal['name']} in {self.model}? {self.what} exchanged, "
            f"{self.hits.shape[-1]} held-out items",
            f"  the network is right on {self.competence.value:.1%}; nothing exchanged gives "
            f"{float((~self.changes).double().mean()):.2f}",
            f"  IIA, and in brackets {self.null_name}",
        ]
        rows = [("", *self.positions)]
        for i, address in enumerate(self.addresses):
            cells = (f"{float(a):.2f} ({float(b):.2f})" for a, b in zip(self.iia[i], self.null[i].mean(-1)))
            rows.append((address, *cells))
        lines += columns(rows, right=tuple(range(1, len(self.positions) + 1)))
        evidence = self.evidence
        lines.append(f"  best: {evidence.effect.name} {evidence.effect} at {evidence.claim.split(' is at ')[1]}")
        lines.append(f"  {evidence.second_data.name}: {evidence.second_data}" if evidence.second_data else "")
        lines.append(f"  verdict: {evidence.verdict_text}")
        return "\n".join(lines)

    __repr__ = __str__


def align_sweep(
    model: Model,
    causal_model: CausalModel,
    variable: str,
    at: str | Sequence[str] = "resid_post.*",
    positions: Sequence[str | int] | None = None,
    *,
    dims: int | None = None,
    n: int = 512,
    n_test: int = 256,
    seeds: Sequence[int] = (0, 1, 2),
    training: Training | None = None,
    only_right: bool = True,
    seed: int = 0,
    progress: bool | None = None,
) -> AlignmentSweep:
    """Look for a variable at every point of `at` (`*` for every layer) and every one of `positions` (by default those
    that the causal model names, and "answer").

    dims: so many learned dimensions at each place, for each of `seeds`; None exchanges whole vectors, and learns
    nothing. The null: random subspaces of that size; for whole vectors, those of another item's source.

    Costs two forwards of the base prompts and one of the sources' in all; then for whole vectors two forwards a place
    and item, from the place on; for learned ones `steps` forwards and backwards of batch x positions x seeds lanes a
    layer. Holds a residual stream, keys and values of each layer. Raises InputError as `align`.
    """
    check(causal_model, (variable,))
    named = list(positions) if positions is not None else [*causal_model.positions, "answer"]
    if not named:
        raise InputError("positions= names at least one position.")
    patterns = [at] if isinstance(at, str) else list(at)
    addresses = tuple(dict.fromkeys(name for pattern in patterns for name in model.addresses(pattern)))
    settings = Settings(n, n_test, tuple(seeds), seed, only_right, training or Training())
    if n < LEAST or n_test < LEAST:
        raise InputError(f"n= and n_test= are at least {LEAST}; given {n} and {n_test}.")
    pairs, first = drawn(causal_model, (variable,), settings, ())
    data = Data(model, causal_model, (variable,), pairs, addresses)
    rows, test = split(data, first, only_right)
    tried = tuple(seeds) if dims is not None else (seed,)
    hits = torch.zeros(len(addresses), len(named), len(test), dtype=torch.float64)
    null = torch.zeros_like(hits)
    kept: dict[tuple[int, int], tuple[Place, Spot, list[Featurizer], Tensor, Tensor]] = {}
    generator = torch.Generator().manual_seed(seed)
    other = torch.roll(torch.arange(len(data)), 1)
    for layer, address in enumerate(addresses):
        places = [whole(address, p) if dims is None else subspace(address, p, dims) for p in named]
        spots = [data.spot(place, 0) for place in places]
        cells = [Cell((spot,), data.wanted, s) for spot in spots for s in tried]
        here = f"{address} ({layer + 1} of {len(addresses)})"
        found = train(data, places[:1], cells, rows, settings.training, progress, here)
        mine = measure(data, cells, found, test)
        by_place = mine.hits.reshape(len(named), len(tried), -1)
        hits[layer] = by_place.double().mean(1)
        chance: list[list[Featurizer]]
        if dims is None:
            moved = [Cell((Spot(s.address, s.head, s.columns, s.source[other]),), data.wanted) for s in spots]
            chance = [[Whole(spot.width)] for spot in spots]
        else:
            moved = [Cell((spot,), data.wanted) for spot in spots]
            chance = [[Subspace(random_subspace(spot.width, dims, generator), "random")] for spot in spots]
        null[layer] = measure(data, moved, chance, test).hits.double()
        said = mine.said.reshape(len(named), len(tried), -1)
        for j, (place, spot) in enumerate(zip(places, spots)):
            mine_here = [f[0] for f in found[j * len(tried) : (j + 1) * len(tried)]]
            kept[layer, j] = place, spot, mine_here, by_place[j], said[j]
    best = int(hits.mean(-1).flatten().argmax())
    place, spot, featurizers, its, said_there = kept[best // len(named), best % len(named)]
    at_best = Found(
        data, (place,), (spot,), [[f] for f in featurizers], rows, test, Measured(its, said_there, its.float())
    )
    what = "whole vectors" if dims is None else f"{dims} learned dimensions"
    return AlignmentSweep(
        model=model.name,
        causal=causal_model.to_json(),
        svg=causal_model.to_svg({variable: place.where}),
        variable=variable,
        addresses=addresses,
        positions=tuple(map(str, named)),
        what=what,
        hits=hits,
        null=null,
        null_name="whole vectors of another item's source" if dims is None else f"random subspaces of {dims}",
        changes=data.changes[test],
        competence=share(data.competent[first:][None], "the network is right on base and sources"),
        seeds=tried,
        failures=failures(at_best),
        settings={
            "n": n, "n_test": len(test), "dims": dims, "seed": seed, "steps": settings.training.steps,
            "batch": settings.training.batch, "rate": settings.training.rate, "only_right": only_right,
        },
    )  # fmt: skip


def _lists(x: Tensor) -> list[list[float | None]]:
    return [[value if math.isfinite(value) else None for value in row] for row in x.tolist()]


__all__ = ["AlignmentSweep", "Score", "align_sweep"]
