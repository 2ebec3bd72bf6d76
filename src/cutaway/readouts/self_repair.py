"""Self-repair: a head is replaced, and the answer changes by less than the head had added to it.

For head h and item i, with z' the head's output on the counterfactual prompt put in place of z where the answer is
said, and m the logit difference of answer and wrong answer there,

    direct   D = (W_O z' - W_O z) . d            what the change does by itself, d the direction of m before the final
                                                 norm, over the norm's denominator as it was
    total    T = m(h replaced) - m               all later layers free to react
    repair   R = T - D                           > 0 where D < 0: later parts made up for it
    norm     N = m(stream + W_O z' - W_O z) - m - D     what the final norm alone does, by dividing by less

(McGrath et al. 2023, "The Hydra Effect"; Rushing and Nanda 2024, "Explorations of Self-Repair in Language Models".)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.core import Comparison, Evidence, InputError, NotDone
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import bootstrap, bootstrap_difference, rerandomise
from cutaway.model import LogitDifference, Model, Run, patch, plan
from cutaway.model.observed import linear_map
from cutaway.readouts.asked import up_to_the_end
from cutaway.readouts.attribution import head_effects, onto_stream
from cutaway.readouts.reading import Floats
from cutaway.readouts.seeds import beside_seeds

SCHEMA = "cutaway.self_repair/1"
NULL = "re-randomised model"
NORM = "the final norm alone"


@dataclass(frozen=True, eq=False, repr=False)
class SelfRepair(Drawn):
    """direct, total, norm [heads, items], in logits; `chosen` the heads that evidence is about."""

    model: str
    task: str
    places: tuple[tuple[int, int], ...]
    direct: Floats
    total: Floats
    norm: Floats
    chosen: tuple[int, ...]
    evidence: tuple[Evidence, ...]

    @property
    def repair(self) -> Floats:
        """[heads, items], logits."""
        return self.total - self.direct

    def table(self, most: int = 15) -> str:
        order = np.argsort(self.direct.mean(1), kind="stable")[:most]
        rows: list[tuple[str, ...]] = [("head", "direct", "total", "repaired", "share", "by the norm")]
        for i in order:
            direct, total = float(self.direct[i].mean()), float(self.total[i].mean())
            share = f"{-(total - direct) / direct:.0%}" if direct else "-"
            numbers = (direct, total, total - direct, float(self.norm[i].mean()))
            shown = [f"{number:+.3f}" for number in numbers]
            rows.append((_name(self.places[i]), *shown[:3], share, shown[3]))
        return "\n".join(
            [
                f"self-repair in {self.model} on {self.task}: each head's last output replaced by the counterfactual's",
                *columns(rows, right=(1, 2, 3, 4, 5)),
                f"  logit difference, mean over {self.direct.shape[1]} items; the {len(order)} heads of "
                f"{len(self.places)} whose direct effect falls most",
                "  share: repaired / -direct. Below 0 later parts add to the loss, over 100 % more comes back",
            ]
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "task": self.task,
            "n": self.direct.shape[1],
            "heads": [
                {
                    "head": _name(place),
                    "direct": float(self.direct[i].mean()),
                    "total": float(self.total[i].mean()),
                    "repaired": float(self.repair[i].mean()),
                    "by_the_norm": float(self.norm[i].mean()),
                }
                for i, place in enumerate(self.places)
            ],
            "chosen": [_name(self.places[i]) for i in self.chosen],
            "unit": "logits",
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        return "\n\n".join([self.table(), *map(str, self.evidence)])

    __repr__ = __str__


def self_repair(
    model: Model, task: Any, *, most: int = 5, null_seeds: Sequence[int] = (0, 1, 2), seed: int = 0
) -> SelfRepair:
    """How much of what each head adds to the answer comes back when the head is replaced.

    task: with `clean`, `counterfactual`, `answers` and `wrong` (cw.task). Evidence: on every other item the `most`
    heads whose direct effect falls most are chosen; what of it is repaired is measured on the rest, beside the
    re-randomised model's and beside what the final norm does alone.
    Costs two forwards of the items and items x heads rows gone on with from the head's block; as much for each of
    `null_seeds`. Raises InputError: no wrong answers, fewer than 8 items, logits that are capped, no final norm.
    """
    if getattr(task, "wrong", None) is None:
        raise InputError("self-repair is measured in a logit difference: the task needs a wrong answer to each item.")
    if len(task.answers) < 8:
        raise InputError(f"at least 8 items are needed (heads are chosen on half of them); given {len(task.answers)}.")
    if model.facts.logit_softcap is not None:
        raise InputError(f"{model.name} caps its logits, so that direct and total effects are not in one unit.")
    places, direct, total, norm = _measure(model, task)
    half = np.arange(direct.shape[1]) % 2 == 0
    chosen = _worst(direct[:, half], most)
    repaired, lost, alone = _sums(direct, total, norm, chosen, ~half)
    effect = bootstrap(repaired, name="repaired, the chosen heads together", over="items", unit=" logits", seed=seed)
    by_norm = bootstrap(alone, name=NORM, over="items", unit=" logits", seed=seed)
    apart = bootstrap_difference(repaired, alone, paired=True, over="items", seed=seed)
    nulls = []
    for s in null_seeds:
        _, d, t, n = _measure(rerandomise(model, seed=s), task)
        nulls.append(float(_sums(d, t, n, _worst(d[:, half], most), ~half)[0].mean()))
    evidence = Evidence(
        claim="When the heads that add most to the answer are replaced, later parts make up for it",
        effect=effect,
        nulls=(beside_seeds(effect, nulls, NULL),) if nulls else (),
        baselines=(Comparison(estimate=by_norm, difference=apart),),
        seeds=tuple(null_seeds),
        how="One head at a time replaced by its output on the counterfactual prompt, where the answer is said; "
        "heads chosen on every other item, measured on the rest. The null's heads are chosen in the null.",
        settings={
            "lost directly, logits": float(lost.mean()),
            "heads": ", ".join(_name(places[i]) for i in chosen),
            "items measured on": int((~half).sum()),
        },
        not_done=() if nulls else (NotDone(what=NULL, why="it was asked to be left out"),),
    )
    return SelfRepair(model.name, str(getattr(task, "name", "")), places, direct, total, norm, chosen, (evidence,))


def _worst(direct: Floats, most: int) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argsort(direct.mean(1), kind="stable")[:most])


def _sums(
    direct: Floats, total: Floats, norm: Floats, chosen: tuple[int, ...], items: Any
) -> tuple[Floats, Floats, Floats]:
    """Of the chosen heads together, [items]: what is repaired, what was lost, what the norm alone gives back."""
    of = list(chosen)
    return (total - direct)[of][:, items].sum(0), -direct[of][:, items].sum(0), norm[of][:, items].sum(0)


@torch.no_grad()
def _measure(model: Model, task: Any) -> tuple[tuple[tuple[int, int], ...], Floats, Floats, Floats]:
    """(heads, D, T, N), each [heads, items]."""
    clean = up_to_the_end(model, task)
    other = task.counterfactual if clean is task.clean else model.batch(_cut(task, clean))
    layers = [layer for layer in range(model.facts.n_layers) if model.refuses(f"z.{layer}") is None]
    last = f"resid_post.{model.facts.n_layers - 1}"
    posts = [f"attn_out_norm_scale.{i}" for i in layers if f"attn_out_norm_scale.{i}" in model.norms]
    for point in ("final_norm_scale", last, *(f"z.{layer}" for layer in layers[:1])):
        if (reason := model.refuses(point)) is not None:
            raise InputError(f"self-repair in {model.name} cannot be measured: no {point}: {reason}")
    final = model.norms["final_norm_scale"]
    run = model.run(clean, [*(f"z.{layer}" for layer in layers), *posts, "final_norm_scale", last])
    changed = model.run(other, [f"z.{layer}" for layer in layers], logits=False)
    weight, _ = linear_map(model.site("lm_head").module, model.facts.d_model)
    answers, wrong = (torch.as_tensor(ids).to(weight.device) for ids in (task.answers, task.wrong))
    u = model.facts.logit_scale * (weight[answers] - weight[wrong]).double()  # [n, d]
    before = run.at("final_norm_scale").double()
    direction = onto_stream(final, u)
    shifted = _Difference(run, changed)
    places: list[tuple[int, int]] = []
    cells, direct, norm = [], [], []
    stream = run.at(last).double()
    own = (stream * direction).sum(-1, keepdim=True)  # of the difference, before it is divided
    for layer in layers:
        each = head_effects(model, shifted, layer, direction / before)  # [n, head]
        moved = _written(model, shifted, layer)  # [n, head, d_model]
        scale = final.scale(stream[:, None] + moved)[..., 0].double()  # [n, head]
        alone = (own + each * before) / scale - own / before
        direct.append(each.T)
        norm.append((alone - each).T)
        for head in range(each.shape[1]):
            places.append((layer, head))
            cells.append([patch(f"z.{layer}", changed, head=head, positions=-1)])
    planned = plan(model, clean, cells, LogitDifference(answers.cpu(), wrong.cpu()))
    total = planned.run() - planned.unchanged
    return (
        tuple(places),
        torch.cat(direct).cpu().numpy(),
        total.double().cpu().numpy(),
        torch.cat(norm).cpu().numpy(),
    )


def _cut(task: Any, clean: Any) -> list[list[int]]:
    starts, lengths = task.counterfactual.layout.starts, clean.layout.lengths
    rows = zip(task.counterfactual.ids.cpu(), starts, lengths)
    return [ids[start : start + length].tolist() for ids, start, length in rows]


@dataclass(frozen=True)
class _Difference:
    """Reads as a run whose heads give what they give elsewhere less what they gave, with the norms as they were."""

    run: Run
    other: Run

    def at(self, address: str) -> Tensor:
        if address.startswith("z."):
            return self.other.at(address).double() - self.run.at(address).double()
        return self.run.at(address).double()


def _written(model: Model, shifted: _Difference, layer: int) -> Tensor:
    """What each head's change adds to the stream, [n, head, d_model], norms after attention as they were."""
    z = shifted.at(f"z.{layer}")
    weight, _ = linear_map(model.site(f"z.{layer}").module, z.shape[1] * z.shape[2])
    each = weight.double().T.reshape(z.shape[1], z.shape[2], -1)  # [head, d_head, d_model]
    out = torch.einsum("nhd,hdm->nhm", z, each) * model.site(f"attn_out_post.{layer}").factor
    if (post := model.norms.get(f"attn_out_norm_scale.{layer}")) is not None:
        out = out - out.mean(-1, keepdim=True) if post.centred else out
        out = out if post.gain is None else out * post.gain.double()
        out = out / shifted.at(f"attn_out_norm_scale.{layer}")[:, None]
    return out


def _name(place: tuple[int, int]) -> str:
    return f"{place[0]}.{place[1]}"
