"""Causal scrubbing (Chan et al. 2022) of an alignment: resample what the hypothesis calls equivalent, and see how much
of the loss is kept.

The hypothesis: what a variable's features hold is the variable, and at these places nothing else matters. So they may
be taken from any input on which the variable has the same value, and the rest of each place from any input at all.

    loss recovered = (L(random) - L(scrubbed)) / (L(random) - L(network))

where L is the mean of -log P(the causal model's output) and "random" takes the whole places from any input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cutaway.abstraction.arms import random_like
from cutaway.abstraction.causal_model import CausalModel
from cutaway.abstraction.continuation import Edit
from cutaway.abstraction.data import Data, Spot
from cutaway.abstraction.featurizers import Featurizer
from cutaway.abstraction.items import drawn, split
from cutaway.abstraction.written import loss, right
from cutaway.core import Comparison, Estimate, Evidence
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import bootstrap, proportion

if TYPE_CHECKING:
    from cutaway.abstraction.alignment import Alignment
    from cutaway.model import Model

DRAWS = 4  # resamples of each item
SCHEMA = "cutaway.scrubbing/1"


@dataclass(frozen=True, eq=False, repr=False)
class Scrubbed(Drawn):
    """Made by `scrub`. rows: what was resampled, its mean loss, the share of loss recovered, the accuracy kept.

    partners: share of items for which another item has the same value of every variable.
    """

    model: str
    causal: str
    rows: tuple[tuple[str, float, Estimate, Estimate], ...]
    partners: float
    evidence: Evidence

    @property
    def recovered(self) -> Estimate:
        """With features resampled within their class, and the rest of the places at random."""
        return next(recovered for name, _, recovered, _ in self.rows if name == BOTH)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "causal_model": self.causal,
            "partners": self.partners,
            "rows": [
                {
                    "resampled": name, "loss": value if math.isfinite(value) else None,
                    "recovered": recovered.model_dump(mode="json"), "accuracy": accuracy.model_dump(mode="json"),
                }
                for name, value, recovered, accuracy in self.rows
            ],
            "evidence": self.evidence.to_json(),
        }  # fmt: skip

    def __str__(self) -> str:
        rows = [("resampled", "loss (nats)", "loss recovered", "accuracy")]
        for name, value, recovered, accuracy in self.rows:
            rows.append((name, f"{value:.3f}", str(recovered), str(accuracy)))
        lines = [f"Causal scrubbing of {self.causal} in {self.model}", *columns(rows, right=(1,))]
        lines.append(f"  {self.partners:.0%} of items have another with the same values; the others keep their own")
        lines.append(f"  verdict: {self.evidence.verdict_text}")
        return "\n".join(lines)

    __repr__ = __str__


NOTHING, FEATURES, REST, BOTH, ALL = (
    "nothing (the network)",
    "the features, within their class",
    "the rest of the places, at random",
    "both",
    "the whole places, at random",
)
CHANCE = "both, with random features of the same size"


def scrub(model: Model, causal_model: CausalModel, alignment: Alignment, *, seed: int = 0) -> Scrubbed:
    """Scrub the alignment's hypothesis on its held-out items, drawn anew, with the featurizers of its first seed.

    Costs two forwards of all items and 20 of the held-out ones, from the first place on. Raises InputError as `align`.
    """
    pairs, first = drawn(causal_model, alignment.variables, alignment.settings, ())
    places = list(alignment.places.values())
    data = Data(model, causal_model, alignment.variables, pairs, [place.at for place in places])
    _, test = split(data, first, alignment.settings.only_right)
    spots = [data.spot(place, slot) for slot, place in enumerate(places)]
    work = _Work(data, spots, test, seed)
    mine = list(alignment.featurizers[0])
    generator = torch.Generator().manual_seed(seed)
    chance = [random_like(f, spot.width, generator) for f, spot in zip(mine, spots)]
    found = {
        NOTHING: work.plain(),
        FEATURES: work.run(mine, features=True, rest=False),
        REST: work.run(mine, features=False, rest=True),
        BOTH: work.run(mine, features=True, rest=True),
        ALL: work.run(None, features=True, rest=True),
        CHANCE: work.run(chance, features=True, rest=True),
    }
    rows = []
    for name, (losses, hits) in found.items():
        recovered = _recovered(found[ALL][0], losses, found[NOTHING][0], f"loss recovered: {name}", seed)
        accuracy = proportion(round(float(hits.mean()) * len(hits)), len(hits), name=f"accuracy: {name}")
        rows.append((name, float(losses.mean()), recovered, accuracy))
    by_name = {name: recovered for name, _, recovered, _ in rows}
    evidence = Evidence(
        claim=f"The places of {', '.join(alignment.variables)} hold these variables of {causal_model.name}, and "
        "nothing else that matters",
        effect=by_name[BOTH],
        nulls=(Comparison(estimate=by_name[CHANCE]),),
        baselines=(),
        seeds=(seed,),
        how=f"Causal scrubbing on {len(test)} held-out items, {DRAWS} resamples each; intervals are BCa bootstraps "
        "over items of the ratio of mean losses.",
        settings={"draws": DRAWS, "partners": work.partners},
    )
    return Scrubbed(model.name, causal_model.name, tuple(rows), work.partners, evidence)


class _Work:
    def __init__(self, data: Data, spots: Sequence[Spot], test: Tensor, seed: int) -> None:
        self.data, self.spots, self.test = data, spots, test
        self.generator = torch.Generator().manual_seed(seed)
        bases = [data.pairs.base[i] for i in test.tolist()]
        runs = [data.causal.run(values) for values in bases]
        self.classes = [[run[v] for run in runs] for v in data.variables]
        self.wanted = data.unchanged[test]
        others = [
            [j for j in range(len(test)) if j != i and all(c[j] == c[i] for c in self.classes)]
            for i in range(len(test))
        ]
        self.partners = sum(bool(o) for o in others) / len(test)

    def plain(self) -> tuple[Tensor, Tensor]:
        logits = self.data.continuation.logits[self.test.to(self.data.continuation.logits.device)]
        wanted = self.wanted.to(logits.device)
        return loss(logits, wanted).double().cpu(), right(logits, wanted).double().cpu()

    def run(self, featurizers: Sequence[Featurizer] | None, *, features: bool, rest: bool) -> tuple[Tensor, Tensor]:
        """(loss, hits) [item], means over draws."""
        losses, hits = [], []
        for _ in range(DRAWS):
            anyone = self._anyone()
            edits = []
            done: list[Spot] = []
            for spot in self.spots:
                if any(_same(spot, one) for one in done):
                    continue
                done.append(spot)
                together = [k for k, one in enumerate(self.spots) if _same(spot, one)]
                edits.append(Edit(spot.address, spot.columns[self.test], self._change(
                    spot, together, featurizers, anyone if rest else None, features
                ), spot.head))  # fmt: skip
            with torch.no_grad():
                logits = self.data.continuation.run(self.test, edits)
            wanted = self.wanted.to(logits.device)
            losses.append(loss(logits, wanted).double().cpu())
            hits.append(right(logits, wanted).double().cpu())
        return torch.stack(losses).mean(0), torch.stack(hits).mean(0)

    def _change(
        self, spot: Spot, variables: list[int], featurizers: Sequence[Featurizer] | None, rest: Tensor | None,
        features: bool,
    ) -> Callable[[Tensor], Tensor]:  # fmt: skip
        known = self.data.base(spot)[self.test].float()
        partners = {v: self._partner(v) if features else torch.arange(len(self.test)) for v in variables}

        def change(x: Tensor) -> Tensor:
            new = x.float() if rest is None else known[rest]
            if featurizers is not None:
                for v in variables:
                    new = featurizers[v].swap(new, known[partners[v]])
            return new.to(x.dtype)

        return change

    def _anyone(self) -> Tensor:
        return torch.randint(len(self.test), (len(self.test),), generator=self.generator)

    def _partner(self, variable: int) -> Tensor:
        """[item] a random item with the same value of the variable (itself where there is no other)."""
        values = self.classes[variable]
        noise = torch.rand(len(values), len(values), generator=self.generator)
        same = torch.tensor([[a == b for b in values] for a in values])
        own = torch.eye(len(values), dtype=torch.bool)
        alone = (same & ~own).sum(1) == 0
        scores = torch.where(same & (~own | alone[:, None]), noise, -1.0)
        return scores.argmax(1)


def _same(a: Spot, b: Spot) -> bool:
    return a.address == b.address and a.head == b.head and torch.equal(a.columns, b.columns)


def _recovered(random: Tensor, scrubbed: Tensor, plain: Tensor, name: str, seed: int) -> Estimate:
    def statistic(r: np.ndarray, s: np.ndarray, p: np.ndarray) -> np.ndarray:
        gap = r.mean(-1) - p.mean(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(gap > 1e-9, (r.mean(-1) - s.mean(-1)) / gap, np.nan)

    return bootstrap(
        random.numpy(), scrubbed.numpy(), plain.numpy(), statistic=statistic, name=name, over="items", seed=seed
    )
