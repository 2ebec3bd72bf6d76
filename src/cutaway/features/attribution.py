"""What each feature gives to an answer, by the gradient and by taking it out.

    attribution_f = sum over positions t of a_tf (dm / dy_t . W_dec,f)      one backward for all features
    effect_f      = m(as it is) - m(without the feature: a_tf W_dec,f taken out at every t)

m is the task's metric, averaged over its items; the dictionary's error stays where it is. The first is the second to
first order (Nanda 2023; Marks et al. 2024). Beside it stand what needs no gradient (how much the feature writes, sum of
a |W_dec|) and the null: the same products with random vectors of the gradient's length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, InputError
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import bootstrap, correlation, random_directions
from cutaway.features.fit import placed_sae
from cutaway.features.sae import SAE
from cutaway.model import rewrite

if TYPE_CHECKING:
    from cutaway.core.protocols import Task
    from cutaway.model import Model


@dataclass(frozen=True)
class Attributed:
    """One feature: what the gradient says, what taking it out did (over items), and how much it writes."""

    feature: int
    attribution: float
    effect: Estimate
    written: float


@dataclass(frozen=True)
class Attributions(Drawn):
    """rows: the features of the largest |attribution|, and as many others that fire, drawn at random."""

    task: str
    point: str
    n: int
    metric: Estimate
    rows: tuple[Attributed, ...]
    firing: int
    evidence: Evidence

    def to_json(self) -> dict[str, Any]:
        rows = [{**vars(row), "effect": row.effect.model_dump(mode="json")} for row in self.rows]
        return {
            "schema": "cutaway.feature_attribution/1", "task": self.task, "point": self.point, "n": self.n,
            "metric": self.metric.model_dump(mode="json"), "rows": rows, "firing": self.firing,
            "evidence": self.evidence.to_json(),
        }  # fmt: skip

    def __str__(self) -> str:
        first = sorted(self.rows, key=lambda r: -abs(r.attribution))[: max(5, len(self.rows) // 2)]
        table = [["feature", "attribution", "taken out", "writes"]]
        for r in first:
            table.append([str(r.feature), f"{r.attribution:+.3f}", str(r.effect), f"{r.written:.1f}"])
        return "\n".join(
            [
                f"{self.task}: what features at {self.point} give to the metric ({self.metric}, {self.n} items)",
                *columns(table, right=range(4)),
                "  attribution: activation times gradient; taken out: the metric less the metric without the feature, "
                "the error kept; writes: sum over positions of a |W_dec|",
                f"  {len(self.rows)} of {self.firing} features that fire were taken out; {self.evidence.claim}: "
                f"{self.evidence.effect}; by what they write {self.evidence.baselines[0].estimate}, random gradients "
                f"{self.evidence.nulls[0].estimate}",
                f"  {self.evidence.verdict_text}",
            ]
        )

    __repr__ = __str__


def attribute_features(
    model: Model, dictionary: SAE, task: Task, *, top: int = 20, seed: int = 0
) -> Attributions:  # fmt: skip
    """The `top` features by |attribution| and as many others that fire, each taken out by itself.

    Cost: two forwards and a backward of the task's prompts, and a forward for each feature taken out.
    Raises `InputError` where no feature fires.
    """
    sae = placed_sae(dictionary, model)
    prompts: Any = task.clean
    ends = torch.as_tensor(task.columns("end"))  # type: ignore[attr-defined]
    item = torch.arange(len(ends))

    def total(logits: Tensor) -> Tensor:
        return task.metric(logits[item.to(logits.device), ends.to(logits.device)]).sum()

    run = model.run(prompts, read=list(dict.fromkeys([sae.point, sae.writes_to])), grad=[sae.writes_to], of=total)
    counted = torch.ones_like(run.logits[..., 0], dtype=torch.bool)
    counted &= torch.as_tensor(prompts.mask, device=counted.device).bool()
    with torch.no_grad():
        x = run[sae.point].flatten(2).float()
        a = sae.encode(x) * sae.gain(x) * counted[..., None]  # [items, position, F], in units of what is written
        g = run.grad[sae.writes_to].flatten(2).float()
        d = sae.written
        by_gradient, blind = ((a * (v @ d.T)).sum((0, 1)) / len(ends) for v in (g, random_directions(g, seed=seed)))
        written = (a.sum((0, 1)) / len(ends)) * d.norm(dim=1)
        firing = (a > 0).any(0).any(0).nonzero()[:, 0]
        if not len(firing):
            raise InputError(f"no feature of this dictionary fires on the prompts of {task.name}.")
        order = firing[by_gradient[firing].abs().argsort(descending=True)]
        rest = order[top:]
        some = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))[:top]]
        base = _values(task, run.logits, item, ends)
        rows = []
        for f in [*order[:top].tolist(), *some.tolist()]:
            away = -a[..., f, None] * d[f]
            changed = _values(task, _with(model, sae, prompts, away), item, ends)
            effect = bootstrap(base - changed, name="taken out", over="items", seed=seed)
            rows.append(Attributed(f, float(by_gradient[f]), effect, float(written[f])))
    effects = np.array([row.effect.value for row in rows])

    def told(values: Tensor, name: str) -> Estimate:
        x = np.array([float(values[row.feature]) for row in rows])
        return correlation(x, effects, "pearson", name=name, over="features", seed=seed)

    evidence = Evidence(
        claim="correlation of attribution with effect",
        effect=told(by_gradient, "attribution"),
        nulls=(Comparison(estimate=told(blind, "random gradients")),),
        baselines=(Comparison(estimate=told(written, "how much is written")),),
        seeds=(seed,), how=f"{len(rows)} features taken out one by one; Pearson, bootstrap over features",
    )  # fmt: skip
    metric = bootstrap(base, name="metric", over="items", seed=seed)
    return Attributions(task.name, sae.writes_to, len(ends), metric, tuple(rows), len(firing), evidence)


def _values(task: Task, logits: Tensor, item: Tensor, ends: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    found = task.metric(logits[item.to(logits.device), ends.to(logits.device)].float())
    return np.asarray(found.detach().double().cpu().numpy())


def _with(model: Model, sae: SAE, prompts: Any, change: Tensor) -> Tensor:
    """Logits with change [items, position, d] added to the point."""

    def add(y: Tensor) -> Tensor:
        return (y.flatten(2) + change.to(y)).view(y.shape)

    return model.run(prompts, interventions=[rewrite(sae.writes_to, add)]).logits
