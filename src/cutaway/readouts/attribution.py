"""Direct logit attribution: how much each component adds to a difference of logits, straight through the final norm.

    logit(a) - logit(b) = sum over components c of  c . (C gain o (u_a - u_b)) / s  +  constant

with u the output matrix's rows times the family's logit scale, C centring (LayerNorm) or the identity, and s the final
norm's denominator on the prompt (frozen). The sum is exact, before any cap on the logits. What a component does through
later ones is not in it; the ablations beside it say how much that matters. Source: "A Mathematical Framework for
Transformer Circuits" (Elhage et al. 2021); "IOI" (Wang et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.core import Comparison, CutawayError, Evidence, InputError, NotDone, refuse_name
from cutaway.core.answers import one_token
from cutaway.core.drawing import Drawn
from cutaway.core.numbers import whole
from cutaway.core.table import columns, shown
from cutaway.evidence import bootstrap_difference, correlation, rerandomise
from cutaway.evidence.statistics import spearman
from cutaway.model import Intervention, LogitDifference, Model, plan, zero
from cutaway.model.norms import NormParts
from cutaway.model.observed import linear_map
from cutaway.model.tokens import Batch, Prompt
from cutaway.readouts.asked import is_task, up_to_the_end
from cutaway.readouts.reading import Floats

SCHEMA = "cutaway.direct-effects/1"
NULL = "re-randomised model"
TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False, repr=False)
class DirectEffects(Drawn):
    """direct [n, components]: what each adds to the difference, in logits. total [m, components]: how much the
    difference falls when it is set to zero and all later ones react, on the first m prompts; None where not run."""

    model: str
    components: tuple[str, ...]  # "embedding", "head 2.5", "attention bias 2", "mlp 2", "constant"
    direct: Floats
    difference: Floats  # [n]
    total: Floats | None
    pairs: tuple[tuple[str, str], ...]  # the two answers of each prompt ("" for the mean logit)
    max_error: float  # of the sum, relative to the sizes summed
    evidence: tuple[Evidence, ...]

    @property
    def intervals(self) -> Floats:
        """[components, 2]: 95 % percentile bootstrap over prompts of each mean; NaN for one prompt."""
        n = len(self.direct)
        if n < 2:
            return np.full((len(self.components), 2), np.nan)
        rng = np.random.default_rng(0)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=2000)  # [resamples, n]
        return np.asarray(np.quantile(counts @ self.direct / n, [0.025, 0.975], axis=0).T)

    def table(self, rows: int = 15) -> str:
        mean, ends = self.direct.mean(0), self.intervals
        total = None if self.total is None else self.total.mean(0)
        order = np.argsort(-np.abs(mean), kind="stable")
        body = [("component", "direct", "95 % interval", "when zeroed")]
        for i in order[:rows].tolist():
            span = f"[{ends[i, 0]:+.3f}, {ends[i, 1]:+.3f}]" if np.isfinite(ends[i, 0]) else ""
            fell = "" if total is None or not np.isfinite(total[i]) else f"{-total[i]:+.3f}"
            body.append((self.components[i], f"{mean[i]:+.3f}", span, fell))
        if len(order) > rows:
            rest = order[rows:]
            body.append((f"the other {len(rest)}", f"{mean[rest].sum():+.3f}", "", ""))
        body.append(("sum", f"{mean.sum():+.3f}", "", ""))
        a, b = self.pairs[0]
        over = f"mean over {len(self.direct)} prompts" if len(self.direct) > 1 else "one prompt"
        against = f"logit({shown(b)})" if b else "the mean logit"
        what = f"logit({shown(a)}) - {against}" if len(set(self.pairs)) == 1 else "logit(answer) - logit(wrong answer)"
        return "\n".join(
            [
                f"direct effect on {what} of {self.model}, in logits ({over})",
                *columns(body, right=(1, 3)),
                f"  the sum is the difference itself, {self.difference.mean():+.3f} (error {self.max_error:.0e})."
                " 'when zeroed': how the difference changes, later components reacting",
            ]
        )

    def to_json(self) -> dict[str, Any]:
        ends = self.intervals
        total = None if self.total is None else self.total.mean(0)
        return {
            "schema": SCHEMA,
            "model": self.model,
            "n": len(self.direct),
            "pairs": [list(pair) for pair in self.pairs],
            "logit_difference": float(self.difference.mean()),
            "max_error": self.max_error,
            "components": [
                {
                    "name": name,
                    "direct": float(self.direct[:, i].mean()),
                    "interval": ends[i].tolist() if np.isfinite(ends[i, 0]) else None,
                    "change_when_zeroed": -float(total[i]) if total is not None and np.isfinite(total[i]) else None,
                }
                for i, name in enumerate(self.components)
            ],
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        return "\n\n".join([self.table(), *map(str, self.evidence)])

    __repr__ = __str__


def direct_effects(
    model: Model,
    prompt: Any,
    answer: Any = None,
    wrong: Any = None,
    *,
    ablate: int = 8,
    null_seeds: Sequence[int] = (0, 1, 2),
) -> DirectEffects:
    """The direct effect of every head, MLP and the embedding on logit(answer) - logit(wrong) at each prompt's end.

    prompt: one, several, or a task (an object with `clean`, `answers` and `wrong`). answer, wrong: one token for all
    prompts, or one each; answer is by default the model's own top token, wrong None the mean logit. ablate: on how many
    prompts each component is also set to zero (0: none).
    Costs one forward of the prompts; `ablate` x (heads + layers) rows of forwards, as much again for each of
    `null_seeds`. Raises InputError where the family has no such points, CutawayError where the sum does not hold.
    """
    refuse_name("direct_effects", model=model)
    ablate = whole(ablate, "ablate", 0)
    _possible(model)
    batch, answers, wrongs = _asked(model, prompt, answer, wrong)
    components, direct, difference, error = decompose(model, batch, answers, wrongs)
    names = dict(
        zip(ids := [*answers.tolist(), *(wrongs.tolist() if wrongs is not None else [])], model.token_strings(ids))
    )
    pairs = tuple((names[a], "" if wrongs is None else names[int(wrongs[i])]) for i, a in enumerate(answers.tolist()))
    total: Floats | None = None
    evidence: tuple[Evidence, ...] = ()
    if ablate > 0:
        few = Batch(batch.ids[:ablate], batch.mask[:ablate])
        asked = (answers[:ablate], None if wrongs is None else wrongs[:ablate])
        total = ablated(model, few, *asked, components)
        evidence = (_evidence(model, components, direct[: len(total)], total, few, asked, tuple(null_seeds)),)
    return DirectEffects(model.name, components, direct, difference, total, pairs, error, evidence)


def decompose(
    model: Model, batch: Batch, answers: Tensor, wrongs: Tensor | None
) -> tuple[tuple[str, ...], Floats, Floats, float]:
    """(components, direct [n, components], difference [n], relative error of the sum). One forward."""
    layers = range(model.facts.n_layers)
    needed = _possible(model)
    norm = model.norms["final_norm_scale"]
    heads = [i for i in layers if model.refuses(f"z.{i}") is None]
    posts = [f"attn_out_norm_scale.{i}" for i in heads if f"attn_out_norm_scale.{i}" in model.norms]
    run = model.run(batch, read=[*needed, *(f"z.{i}" for i in heads), *posts, "final_norm_scale"])
    weight, bias = linear_map(model.site("lm_head").module, model.facts.d_model)
    scale = model.facts.logit_scale
    answers = answers.to(weight.device)
    if wrongs is None:
        u = weight[answers] - weight.mean(0)
        constant = None if bias is None else bias[answers] - bias.mean()
    else:
        wrongs = wrongs.to(weight.device)
        u = weight[answers] - weight[wrongs]  # [n, d]
        constant = None if bias is None else bias[answers] - bias[wrongs]
    u = scale * u.double()
    total = torch.zeros(len(u), dtype=torch.float64, device=u.device) if constant is None else scale * constant.double()
    if norm.bias is not None:
        total = total + (u * norm.bias.double()).sum(-1)
    direction = onto_stream(norm, u) / run.at("final_norm_scale").double()  # [n, d] / [n, 1]

    def effect(x: Tensor) -> Tensor:
        return (x.double() * direction).sum(-1)

    names, effects = ["embedding"], [effect(run.at("resid_pre.0"))]
    for layer in layers:
        whole = effect(run.at(f"attn_out_post.{layer}"))
        if layer in heads:
            each = head_effects(model, run, layer, direction)  # [n, heads]
            names += [f"head {layer}.{h}" for h in range(each.shape[1])]
            effects += list(each.T)
            names.append(f"attention bias {layer}")
            effects.append(whole - each.sum(-1))
        else:
            names.append(f"attention {layer}")
            effects.append(whole)
        names.append(f"mlp {layer}")
        effects.append(effect(run.at(f"mlp_out_post.{layer}")))
    names.append("constant")
    effects.append(total)
    logits = scale * run.at("lm_head").double()
    rows = torch.arange(len(logits), device=logits.device)
    other = logits.mean(-1) if wrongs is None else logits[rows, wrongs]
    difference = logits[rows, answers] - other
    stacked = torch.stack(effects, -1)  # [n, components]
    error = (stacked.sum(-1) - difference).abs() / stacked.abs().sum(-1).clamp(min=1e-9)
    worst = float(error.max())
    tolerance = TOLERANCE if model.facts.dtype in ("float32", "float64") else 5e-2
    if not worst <= tolerance:
        raise CutawayError(
            f"{model.name}: the components add up to another logit difference than the model's (relative error "
            f"{worst:.1e}); something else writes to its stream."
        )
    # An attention bias that no head carries is left out where there is none.
    keep = [i for i, name in enumerate(names) if not name.startswith("attention bias") or effects[i].abs().max() > 1e-6]
    return tuple(names[i] for i in keep), stacked[:, keep].cpu().numpy(), difference.cpu().numpy(), worst


def onto_stream(norm: NormParts, u: Tensor) -> Tensor:
    """A direction after the norm, [n, d], as one before it: what of the stream counts, but for the denominator."""
    direction = u if norm.gain is None else u * norm.gain.to(u.dtype)
    return direction - direction.mean(-1, keepdim=True) if norm.centred else direction


def _possible(model: Model) -> list[str]:
    """The points that every decomposition reads. Raises InputError, with the reason, where one does not exist."""
    layers = range(model.facts.n_layers)
    needed = ["resid_pre.0", *(f"{s}_out_post.{i}" for i in layers for s in ("attn", "mlp")), "lm_head"]
    for point in (*needed, "final_norm_scale"):
        if (reason := model.refuses(point)) is not None:
            raise InputError(f"{model.name} cannot be taken apart: no {point}: {reason}")
    return needed


def head_effects(model: Model, run: Any, layer: int, direction: Tensor) -> Tensor:
    """The direct effect of each head, [n, head]: W_O^h z_h, through the norm after attention where there is one."""
    z = run.at(f"z.{layer}").double()  # [n, head, d_head]
    weight, _ = linear_map(model.site(f"z.{layer}").module, z.shape[1] * z.shape[2])  # [d, head * d_head]
    onto = model.site(f"attn_out_post.{layer}").factor * direction
    if (post := model.norms.get(f"attn_out_norm_scale.{layer}")) is not None:
        onto = onto if post.gain is None else onto * post.gain.double()
        onto = onto - onto.mean(-1, keepdim=True) if post.centred else onto
        onto = onto / run.at(f"attn_out_norm_scale.{layer}").double()
    per_head = (onto @ weight.double()).reshape(z.shape)  # [n, head, d_head]
    effects: Tensor = (z * per_head).sum(-1)
    return effects


# ------------------------------------------------------------------------------------------------------- ablations


def ablated(model: Model, batch: Batch, answers: Tensor, wrongs: Tensor | None, components: Sequence[str]) -> Floats:
    """[m, components]: how much the logit difference falls when a component is zero; NaN for embedding and constant.

    Costs a plan of m x components rows, each gone on with from the block that it changes.
    """
    made = [_zero(name) for name in components]
    able = [i for i, one in enumerate(made) if one is not None]

    def above_mean(logits: Tensor, rows: Tensor | None = None) -> Tensor:
        wanted = answers if rows is None else answers[rows.cpu()]
        own = logits.gather(1, wanted.to(logits.device)[:, None])[:, 0]
        return own - logits.mean(-1)

    metric = above_mean if wrongs is None else LogitDifference(answers, wrongs)
    planned = plan(model, batch, [[one] for one in made if one is not None], metric)
    out = np.full((len(batch.ids), len(components)), np.nan)
    out[:, able] = (planned.unchanged - planned.run()).T.double().cpu().numpy()
    return out


def _zero(component: str) -> Intervention | None:
    kind, _, place = component.partition(" ")
    if kind == "head":
        layer, _, head = place.partition(".")
        return zero(f"z.{layer}", head=int(head))
    if kind in ("mlp", "attention") and place.isdigit():
        return zero(f"{'attn' if kind == 'attention' else 'mlp'}_out_post.{place}")
    return None


def _evidence(
    model: Model,
    components: tuple[str, ...],
    direct: Floats,
    total: Floats,
    batch: Batch,
    asked: tuple[Tensor, Tensor | None],
    seeds: tuple[int, ...],
) -> Evidence:
    """Does the direct effect say what taking the component out does? Units: heads and MLPs, means over prompts."""
    able = np.asarray(np.isfinite(total).all(0))

    def pair(one: Floats, two: Floats, keep: Any) -> Floats:
        return np.stack([one.mean(0)[keep], two.mean(0)[keep]])

    main = pair(direct, total, able)

    def beside(name: str, other: Floats, paired: bool) -> Comparison:
        apart = bootstrap_difference(main, other, paired=paired, statistic=spearman, over="components")
        return Comparison(estimate=correlation(*other, name=name, over="components"), difference=apart)

    nulls = []
    for seed in seeds:
        arm = rerandomise(model, seed=seed)
        theirs, effects, _, _ = decompose(arm, batch, *asked)
        measured = ablated(arm, batch, *asked, theirs)
        nulls.append(beside(f"{NULL}, seed {seed}", pair(effects, measured, np.isfinite(measured).all(0)), False))
    layers = np.array([float(name.split(" ")[1].split(".")[0]) for name, ok in zip(components, able) if ok])
    return Evidence(
        claim="A component's direct effect says how the logit difference falls when it is taken out",
        effect=correlation(*main, name="Spearman, direct effect against effect of setting to zero", over="components"),
        nulls=tuple(nulls),
        baselines=(beside("the component's layer", np.stack([layers, main[1]]), True),),
        seeds=seeds,
        how="Each head (z) and MLP output set to zero, one at a time, all later ones free to react. The direct effect "
        "holds them still, so the two differ where later layers read the component or make up for it.",
        settings={"prompts": len(total), "components": int(able.sum())},
        not_done=() if nulls else (NotDone(what=NULL, why="it was asked to be left out"),),
    )


def _asked(model: Model, prompt: Any, answer: Any, wrong: Any) -> tuple[Batch, Tensor, Tensor | None]:
    if is_task(prompt):
        wrongs = getattr(prompt, "wrong", None)
        answers = torch.as_tensor(prompt.answers)
        return up_to_the_end(model, prompt), answers, None if wrongs is None else torch.as_tensor(wrongs)
    batch = model.batch(_prompts(prompt))
    rows = len(batch.ids)
    if answer is None:
        answers = model.run(batch).at("logits").argmax(-1).cpu()
    else:
        answers = _ids(model, answer, rows, "answer")
    wrongs = None if wrong is None else _ids(model, wrong, rows, "wrong")
    if wrongs is not None and bool((answers == wrongs).any()):
        same = int(answers[answers == wrongs][0])
        raise InputError(f"answer and wrong answer are the same token ({model.token_strings([same])[0]!r}).")
    return batch, answers, wrongs


def _prompts(prompt: Any) -> Prompt | Batch:
    found: Prompt | Batch = prompt
    return found


def _ids(model: Model, given: Any, rows: int, what: str) -> Tensor:
    each = [given] * rows if isinstance(given, (str, int)) else list(given)
    if len(each) != rows:
        raise InputError(f"one {what} for all prompts, or one each: {len(each)} for {rows} prompts.")
    return torch.tensor([one_token(model, item if isinstance(item, str) else int(item)) for item in each])
