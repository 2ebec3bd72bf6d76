"""The smallest set of heads that does the task with all other heads ablated, under several ablations at once.

As in Wang et al. (2022) the input and every MLP stay as they are. Heads are taken out backwards from the whole model:
a name mover does nothing without the heads that tell it where to look, so that no head can be added by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cutaway.circuits import Graph, Wires
from cutaway.circuits.nodewise import measure_nodes

BAND = 0.1  # how far from 1 the faithfulness may be on the items searched on
AT_ONCE = 24  # more heads than this are taken out a tenth at a time
Heads = frozenset[str]


@dataclass(eq=False)
class Trials:
    """The metric of each item with some heads in, under each ablation; each set of heads is run once.

    Costs one forward an item, ablation and new set.
    """

    wires: Wires
    graph: Graph
    task: Any
    ablations: tuple[str, ...]
    known: dict[Heads, Tensor] = field(default_factory=dict)  # [ablation, item]

    @property
    def heads(self) -> tuple[str, ...]:
        return tuple(name for name in self.graph.sources if name.startswith("a"))

    def run(self, sets: Iterable[Heads]) -> Tensor:
        """[set, ablation, item]."""
        asked = list(sets)
        new = [s for s in dict.fromkeys(asked) if s not in self.known]
        if new:
            keep = torch.tensor([[not n.startswith("a") or n in s for n in self.graph.sources] for s in new])
            found = torch.stack([measure_nodes(self.wires, self.task, keep, kind) for kind in self.ablations], 1)
            self.known.update(zip(new, found))
        return torch.stack([self.known[s] for s in asked])

    def faithfulness(self, sets: Sequence[Heads], weights: Tensor | None = None) -> Tensor:
        """[set, ablation] f = (m(C) - m(no head)) / (m(all heads) - m(no head)), of means over items (weighted)."""
        values = self.run([*sets, frozenset(), frozenset(self.heads)])
        w = torch.ones(values.shape[-1], dtype=values.dtype) if weights is None else weights.to(values.dtype)
        mean = (values * w).sum(-1) / w.sum()
        return (mean[:-2] - mean[-2]) / (mean[-1] - mean[-2])


def single_effects(trials: Trials, weights: Tensor | None = None) -> dict[str, float]:
    """What the metric loses when a head alone is ablated, as a share of the whole; the largest over ablations."""
    every = frozenset(trials.heads)
    f = trials.faithfulness([every - {h} for h in trials.heads], weights)
    return dict(zip(trials.heads, (1 - f).abs().max(1).values.tolist()))


def smallest(trials: Trials, *, band: float = BAND, weights: Tensor | None = None) -> tuple[str, ...]:
    """The heads that are left when none can be taken out without the faithfulness under some ablation leaving
    1 ± band; in the order of the model."""

    def worst(sets: Sequence[Heads]) -> Tensor:
        return (1 - trials.faithfulness(sets, weights)).abs().max(1).values

    kept = _bulk(trials, single_effects(trials, weights), band, worst)
    while len(kept) > 1:
        order = [h for h in trials.heads if h in kept]
        apart = worst([kept - {h} for h in order])
        several = max(1, len(order) // 10) if len(order) > AT_ONCE else 1
        for n in range(several, 0, -1):
            out = frozenset(order[i] for i in apart.argsort(stable=True)[:n].tolist())
            if float(worst([kept - out])[0]) <= band:
                kept -= out
                break
        else:
            break
    return tuple(h for h in trials.heads if h in kept)


def _bulk(trials: Trials, effect: dict[str, float], band: float, worst: Any) -> Heads:
    """The whole less the heads whose single effects are least, as many as half the band allows."""
    order = sorted(trials.heads, key=lambda h: effect[h])
    low, high = 0, len(order)
    while low < high:
        middle = (low + high + 1) // 2
        if float(worst([frozenset(order[middle:])])[0]) <= band / 2:
            low = middle
        else:
            high = middle - 1
    return frozenset(order[low:])


def resampled(trials: Trials, *, resamples: int = 10, band: float = BAND, seed: int = 0) -> list[tuple[str, ...]]:
    """The circuit found again on items drawn with replacement, `resamples` times."""
    generator = torch.Generator().manual_seed(seed)
    n = len(trials.task)
    found = []
    for _ in range(resamples):
        counts = torch.bincount(torch.randint(n, (n,), generator=generator), minlength=n)
        found.append(smallest(trials, band=band, weights=counts))
    return found
