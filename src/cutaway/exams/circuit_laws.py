"""What must hold of circuits on compiled programs: the masked forward and exact patching against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cutaway.exams.circuit_subjects import Program

FEW = 32  # items on which forwards are compared


@dataclass(frozen=True)
class Held:
    """What was measured of one program. `apart_*`: the largest differences of the margin, as shares of the largest
    margin: with every edge in and the model; with none and the counterfactual's run; with one of `single` edges out and
    the same by hand. `wrongly`, `found`: edges that exact patching says change an output, of the `others` whose
    resampling changes none and of the `causal` ones."""

    apart_in: float
    apart_out: float
    apart_one: float
    single: int
    wrongly: int
    others: int
    found: int
    causal: int

    @property
    def ok(self) -> bool:
        apart = max(self.apart_in, self.apart_out, self.apart_one)
        return apart <= TOLERANCE and self.wrongly == 0 and self.found == self.causal


TOLERANCE = 1e-4


def held(s: Program) -> Held:
    """Costs a forward for every edge and item, and a few beside."""
    from cutaway.circuits import exact, measure

    some = s.task.take(range(FEW))
    base, other = some.measure(s.model.run(some.clean)), some.measure(s.model.run(some.counterfactual))
    masks = torch.stack([s.graph.exists, torch.zeros_like(s.graph.exists)])
    whole, empty = measure(s.wires, s.graph, some, masks, "resample")
    scale = float(base.abs().max())
    index = s.exists.nonzero()[:: max(1, s.graph.n_edges // 12)]
    without = s.graph.exists.repeat(len(index), 1, 1)
    without[torch.arange(len(index)), index[:, 0], index[:, 1]] = False
    chosen = torch.zeros_like(s.exists)
    chosen[index[:, 0], index[:, 1]] = True
    by_hand = exact(s.wires, s.graph, some, edges=chosen)[:, index[:, 0], index[:, 1]].T
    masked = whole[None] - measure(s.wires, s.graph, some, without, "resample")
    # The truth: an edge is causal if some resample of its message changes an output.
    drops = exact(s.wires, s.graph, s.task.with_metric("accuracy"), edges=s.exists, tokens=8192)
    changed = drops.abs().nan_to_num(0).amax(0) > 0
    return Held(
        apart_in=float((whole - base).abs().max()) / scale,
        apart_out=float((empty - other).abs().max()) / scale,
        apart_one=float((masked - by_hand).abs().max()) / scale,
        single=len(index),
        wrongly=int((changed & ~s.causal).sum()),
        others=int((s.exists & ~s.causal).sum()),
        found=int((changed & s.causal).sum()),
        causal=int(s.causal.sum()),
    )


def laws(each: Sequence[Held]) -> list[dict[str, Any]]:
    """A row a law, over all programs."""
    n = len(each)
    of = f"{n} programs"
    single, others, causal = (sum(getattr(one, what) for one in each) for what in ("single", "others", "causal"))
    apart = [max(getattr(one, what) for one in each) for what in ("apart_in", "apart_out", "apart_one")]
    wrongly, found = sum(one.wrongly for one in each), sum(one.found for one in each)
    return [
        _law(f"every edge in is the model, {of}, largest difference of the margin", 0, apart[0], TOLERANCE, n),
        _law(f"every edge out is the counterfactual's run, {of}, largest difference", 0, apart[1], TOLERANCE, n),
        _law(f"one edge out is that edge ablated by hand, {single} edges, largest difference", 0, apart[2], TOLERANCE,
             single),
        _law(f"edges without effect to which exact patching gives one, of {others}", 0, wrongly, 0, others),
        _law(f"causal edges that exact patching finds, {of}", causal, found, 0, causal),
    ]  # fmt: skip


def _law(name: str, truth: float, estimate: float, tolerance: float, n: int) -> dict[str, Any]:
    return {
        "name": name,
        "truth": truth,
        "estimate": float(estimate),
        "interval": None,
        "n": n,
        "tolerance": tolerance,
        "passed": abs(estimate - truth) <= tolerance,
    }
