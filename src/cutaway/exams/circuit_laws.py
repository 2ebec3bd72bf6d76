"""What must hold of circuits on compiled programs: the masked forward and exact patching against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from cutaway.exams.circuit_subjects import Subject


def laws(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    from cutaway.circuits import exact, measure

    apart_in, apart_out, apart_one = 0.0, 0.0, 0.0
    wrongly, found, causal, tried, single = 0, 0, 0, 0, 0
    for s in subjects:
        some = s.task.take(range(32))
        base, other = some.measure(s.model.run(some.clean)), some.measure(s.model.run(some.counterfactual))
        masks = torch.stack([s.graph.exists, torch.zeros_like(s.graph.exists)])
        whole, empty = measure(s.wires, s.graph, some, masks, "resample")
        scale = float(base.abs().max())
        apart_in = max(apart_in, float((whole - base).abs().max()) / scale)
        apart_out = max(apart_out, float((empty - other).abs().max()) / scale)
        index = s.exists.nonzero()[:: max(1, s.graph.n_edges // 12)]
        without = s.graph.exists.repeat(len(index), 1, 1)
        without[torch.arange(len(index)), index[:, 0], index[:, 1]] = False
        chosen = torch.zeros_like(s.exists)
        chosen[index[:, 0], index[:, 1]] = True
        by_hand = exact(s.wires, s.graph, some, edges=chosen)[:, index[:, 0], index[:, 1]].T
        masked = whole[None] - measure(s.wires, s.graph, some, without, "resample")
        apart_one = max(apart_one, float((masked - by_hand).abs().max()) / scale)
        single += len(index)
        # The truth: an edge is causal if some resample of its message changes an output.
        changed = (
            exact(s.wires, s.graph, s.task.with_metric("accuracy"), edges=s.exists).abs().nan_to_num(0).amax(0) > 0
        )
        wrongly += int((changed & ~s.truth["causal"]).sum())
        found += int((changed & s.truth["causal"]).sum())
        causal += int(s.truth["causal"].sum())
        tried += int((s.exists & ~s.truth["causal"]).sum())
    of = f"{len(subjects)} programs"
    return [
        _law(f"every edge in is the model, {of}, largest difference of the margin", apart_in, 1e-4, len(subjects)),
        _law(f"every edge out is the counterfactual's run, {of}, largest difference", apart_out, 1e-4, len(subjects)),
        _law(f"one edge out is that edge ablated by hand, {single} edges, largest difference", apart_one, 1e-4, single),
        _law(f"edges without effect to which exact patching gives one, of {tried}", float(wrongly), 0.0, tried),
        {
            "name": f"causal edges that exact patching finds, {of}",
            "truth": causal,
            "estimate": float(found),
            "interval": None,
            "n": causal,
            "tolerance": 0,
            "passed": found == causal,
        },
    ]


def _law(name: str, estimate: float, tolerance: float, n: int) -> dict[str, Any]:
    return {
        "name": name,
        "truth": 0.0,
        "estimate": estimate,
        "interval": None,
        "n": n,
        "tolerance": tolerance,
        "passed": estimate <= tolerance,
    }
