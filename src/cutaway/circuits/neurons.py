"""Neurons as nodes: what the metric loses when one neuron of an MLP writes what it does on the counterfactual.

    score(layer, i)  =  sum over positions  (clean a_i - ablated a_i) . d metric / d a_i

with a the neurons' activations (`mlp_act`, of a gated MLP the product): attribution patching at their own place, exact
where what follows is linear. The largest and a random sample are ablated for real beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cutaway.circuits.masked import at_ends, columns, opened
from cutaway.circuits.methods import check_task
from cutaway.circuits.senders import chunks
from cutaway.circuits.wires import Wires, rows_of
from cutaway.core import Comparison, Estimate, Evidence, InputError, Interval, UnknownName
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns as table
from cutaway.evidence import bootstrap, correlation
from cutaway.evidence.statistics import spearman
from cutaway.model import Model
from cutaway.model.taps import at_site, tapped

SHOWN = 12
Ablation = Literal["resample", "mean", "zero"]


@dataclass(frozen=True, eq=False, repr=False)
class NeuronScores(Drawn):
    """`scores` [layer, neuron]: what the metric is estimated to lose. `layers`: their numbers. `measured`: (layer,
    neuron) -> the loss when that neuron is ablated for real, for the largest and a random sample."""

    layers: tuple[int, ...]
    scores: Tensor
    measured: dict[tuple[int, int], float]
    metric: str
    evidence: tuple[Evidence, ...]

    def top(self, n: int = SHOWN) -> list[tuple[str, float]]:
        """(name, score) of the n largest |score|: m2.n17."""
        order = self.scores.abs().flatten().argsort(descending=True, stable=True)[:n].tolist()
        width = self.scores.shape[1]
        return [(f"m{self.layers[i // width]}.n{i % width}", float(self.scores.flatten()[i])) for i in order]

    def to_json(self) -> dict[str, Any]:
        measured = [{"neuron": f"m{layer}.n{i}", "loss": value} for (layer, i), value in self.measured.items()]
        return {
            "schema": "cutaway.neuron-scores/1",
            "metric": self.metric,
            "layers": list(self.layers),
            "scores": [[float(f"{x:.5g}") for x in row] for row in self.scores.tolist()],
            "measured": measured,
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        known = {f"m{layer}.n{i}": value for (layer, i), value in self.measured.items()}
        rows = [("neuron", "estimated", "ablated")]
        rows += [(name, f"{s:+.3g}", f"{known[name]:+.3g}" if name in known else "") for name, s in self.top()]
        head = f"Neurons of layers {', '.join(map(str, self.layers))}: what {self.metric} loses without one"
        return "\n".join([head, *table(rows, right=(1, 2)), "", *(str(item) for item in self.evidence)])

    __repr__ = __str__


def score_neurons(
    model: Model | Wires,
    task: Any,
    *,
    layers: Sequence[int] | None = None,
    ablation: Ablation = "resample",
    check: int = 24,
    seed: int = 0,
    tokens: int = 512,
) -> NeuronScores:
    """Every neuron's score, and `check` of them ablated for real: half the largest, half drawn at random.

    2F + 1B, and `check` forwards an item. Raises InputError: no neurons at these layers (experts), a metric without
    gradient, items without a difference; UnknownName.
    """
    check_task(task, ablation)
    if ablation not in ("resample", "mean", "zero"):
        raise UnknownName("ablation of neurons", ablation, ("resample", "mean", "zero"))
    wires = model if isinstance(model, Wires) else opened(model)
    chosen = tuple(range(len(wires.layers))) if layers is None else tuple(layers)
    names = [f"mlp_act.{layer}" for layer in chosen]
    for name in names:
        if (why := wires.model.refuses(name)) is not None:
            raise InputError(f"{wires.model.name} has no neurons at {name}: {why}")
    ends, found, changes = columns(task), [], []
    for rows in chunks(len(task), max(1, tokens // task.clean.ids.shape[1])):
        part = task.take(rows)
        clean = rows_of(wires.model, task.clean, rows)

        def value(logits: Tensor, part: Any = part) -> Tensor:
            total: Tensor = part.metric(logits[:, 0]).sum()
            return total

        with tapped([at_ends(wires, ends[rows])]):
            run = wires.model.run(clean, read=names, grad=names, of=value)
        other = _ablated(wires, task, rows, names, ablation)
        change = [run[name] - other[name] for name in names]
        found.append(torch.stack([(d * run.grad[name]).sum(1) for d, name in zip(change, names)], 1))
        changes.append([run[name].sub(d) for d, name in zip(change, names)])
    per_item = torch.cat(found).double().cpu()  # [item, layer, neuron]
    scores = per_item.mean(0)
    if not bool(scores.any()):
        raise InputError(f"{task.name}: every neuron scores zero. The metric is constant, or ablation changes nothing.")
    generator = torch.Generator().manual_seed(seed)
    width = scores.shape[1]
    largest = scores.abs().flatten().argsort(descending=True)[: check // 2].tolist()
    drawn = torch.randperm(scores.numel(), generator=generator)[: check - check // 2].tolist()
    values = [torch.cat([part[i] for part in changes]) for i in range(len(names))]
    measured = {
        (chosen[i // width], i % width): _loss(wires, task, chosen[i // width], i % width, values[i // width], ends)
        for i in dict.fromkeys([*largest, *drawn])
    }
    evidence = _evidence(scores, chosen, largest, drawn, measured, ablation, seed, len(task))
    means = {key: float(x.mean()) for key, x in measured.items()}
    return NeuronScores(chosen, scores, means, str(getattr(task.metric, "name", "custom")), evidence)


def _ablated(wires: Wires, task: Any, rows: Tensor, names: list[str], ablation: str) -> dict[str, Any]:
    if ablation == "resample":
        run = wires.model.run(rows_of(wires.model, task.counterfactual, rows), read=names, logits=False)
        return {name: run[name] for name in names}
    if ablation == "zero":
        return dict.fromkeys(names, 0.0)
    run = wires.model.run(task.counterfactual, read=names, logits=False)
    mask = task.counterfactual.mask.to(wires.model.device)
    return {name: run[name][mask].mean(0) for name in names}


def _loss(wires: Wires, task: Any, layer: int, neuron: int, values: Tensor, ends: Tensor) -> Tensor:
    """[item] m - m(with the neuron at `values` [item, position, neuron])."""
    site = wires.model.site(f"mlp_act.{layer}")
    every = torch.arange(len(task))
    batch = rows_of(wires.model, task.clean, every)

    def put(x: Tensor) -> Tensor:
        new = x.clone()
        new[..., neuron] = values[..., neuron]
        return new

    found = []
    for taps in ([], [at_site(site, len(task), put)]):
        with torch.no_grad(), tapped([*taps, at_ends(wires, ends)]):
            logits = wires.model.run(batch).logits
        assert logits is not None
        found.append(task.metric(logits[:, 0]).double().cpu())
    loss: Tensor = found[0] - found[1]
    return loss


Measured = dict[tuple[int, int], Tensor]


def _evidence(
    scores: Tensor, layers: tuple[int, ...], largest: list[int], drawn: list[int], measured: Measured, ablation: str,
    seed: int, items: int,
) -> tuple[Evidence, ...]:  # fmt: skip
    width = scores.shape[1]

    def key(i: int) -> tuple[int, int]:
        return layers[i // width], i % width

    if not largest or not drawn:
        return ()
    top = torch.stack([measured[key(i)] for i in largest]).abs().mean(0)
    random = torch.stack([measured[key(i)] for i in drawn]).abs().mean(0)
    index = list(dict.fromkeys([*largest, *drawn]))
    pair = (
        np.array([abs(float(scores.flatten()[i])) for i in index]),
        np.array([abs(float(measured[key(i)].mean())) for i in index]),
    )
    generator = torch.Generator().manual_seed(seed)
    order = [torch.randperm(len(index), generator=generator).numpy() for _ in range(200)]
    shuffled = spearman(np.stack([pair[0][o] for o in order]), np.stack([pair[1]] * 200))
    low, high = np.quantile(shuffled, [0.025, 0.975])
    chance = Interval(low=float(low), high=float(high), method="middle 95% of 200 shuffles")
    by_chance = Estimate(name="scores shuffled", value=float(shuffled.mean()), interval=chance, n=200)
    others = bootstrap(random.tolist(), name=f"{len(drawn)} neurons drawn at random", over="items", seed=seed)
    settings = {"ablation": ablation, "items": items, "measured": len(index)}
    return (
        Evidence(
            claim=f"The {len(largest)} neurons that score highest matter more than others",
            effect=bootstrap(top.tolist(), name="mean |loss| when one of them is ablated", over="items", seed=seed),
            nulls=(Comparison(estimate=others),),
            seeds=(seed,),
            how="Each neuron ablated by itself, for real.",
            settings=settings,
        ),
        Evidence(
            claim="Scores rank neurons as ablating each of them does",
            effect=correlation(*pair, name="Spearman of |estimated|, |exact|", over="neurons", seed=seed),
            nulls=(Comparison(estimate=by_chance),),
            seeds=(seed,),
            how=f"{len(index)} neurons: the largest and some drawn at random.",
            settings=settings,
        ),
    )  # fmt: skip
