"""Dose and response: what a steering does to the target at each strength, what else it does, and what chance would do.

The strength (and the place, of several candidates) is chosen on one half of the prompts and of the neutral text, under
a budget of side effects; everything reported is measured on the other halves. Beside it stand random directions of
equal norm, the same procedure on the re-randomised model, adding the output rows' own difference, and a prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from cutaway.core import Comparison, Estimate, Evidence, InputError, Interval, NotDone
from cutaway.core.drawing import Drawn
from cutaway.core.numbers import finite, whole
from cutaway.core.table import columns
from cutaway.evidence import bootstrap, bootstrap_difference, rerandomise
from cutaway.model import Model
from cutaway.model.content import Content
from cutaway.model.observed import linear_map
from cutaway.steering.contrast import Contrast, Floats, log_odds, log_odds_each, side_effects
from cutaway.steering.methods import Direction, Steering

SCHEMA = "cutaway.steer/1"
STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
BUDGET = 0.5
RANDOM_TEXTS = 10  # random directions whose side effects are measured too: text costs more than prompts
RANDOM, NULL = "random directions of equal norm", "re-randomised model, steered in the same way"
ROWS, PROMPT = "difference of the output matrix's rows, equal norm", "prompt"


@dataclass(frozen=True)
class Setting:
    """A steering at a strength. `interventions` is what a run takes."""

    steering: Steering
    strength: float

    @property
    def interventions(self) -> list[Any]:
        return self.steering.interventions(self.strength)


@dataclass(frozen=True, eq=False)
class Dose:
    """One strength of the chosen steering, on the reporting halves. Change of log-odds, nats; side effects a token."""

    strength: float
    effect: Estimate
    kl: Estimate | None
    perplexity: float | None


@dataclass(frozen=True, eq=False, repr=False)
class DoseResponse(Drawn):
    """`chosen` is ready for use: model.run(prompt, interventions=found.chosen.interventions)."""

    model: str
    contrast: str
    chosen: Setting
    doses: tuple[Dose, ...]
    tried: tuple[tuple[str, float, float, float], ...]  # candidate, its best strength, its effect and KL when choosing
    before: Estimate  # log-odds unsteered
    ceiling: Estimate | None  # log-odds after the prompts that were steered towards
    perplexity: float | None  # unsteered
    random: Floats  # [directions]: mean change of log-odds
    random_kl: Floats  # [directions, at most 10]: their side effects; empty without neutral text
    p: float
    budget: float
    evidence: tuple[Evidence, ...]
    prompts: tuple[Any, ...] = ()  # those that the reported figures are of
    samples: tuple[tuple[str, str, str], ...] = ()  # prompt, unsteered, steered
    settings: Mapping[str, Any] = field(default_factory=dict)

    def table(self) -> str:
        rows = [("strength", "log-odds", "change", "95 % interval", "KL elsewhere", "perplexity")]
        plain = "-" if self.perplexity is None else f"{self.perplexity:.2f}"
        rows.append(("none", f"{self.before.value:+.2f}", "", "", "0" if self.perplexity else "-", plain))
        for dose in self.doses:
            mark = " *" if dose.strength == self.chosen.strength else ""
            rows.append(
                (
                    f"{dose.strength:g}{mark}",
                    f"{self.before.value + dose.effect.value:+.2f}",
                    f"{dose.effect.value:+.2f}",
                    str(dose.effect.interval or ""),
                    "-" if dose.kl is None else f"{dose.kl.value:.3g}",
                    "-" if dose.perplexity is None else f"{dose.perplexity:.2f}",
                )
            )
        lines = [
            f"{self.model}: {self.chosen.steering}",
            f"log-odds of  {self.contrast}  (nats, mean over {self.before.n} prompts kept apart)",
            *columns(rows, right=(0, 1, 2, 4, 5)),
            f"  * chosen on other prompts: the largest change with KL elsewhere at most {self.budget:g} nats a token",
        ]
        if len(self.random):
            low, high = np.quantile(self.random, [0.025, 0.975])
            lines.append(
                f"  {len(self.random)} random directions of equal norm change it by {self.random.mean():+.2f} "
                f"({low:+.2f} … {high:+.2f}); share as large or larger, p = {self.p:.3f}"
            )
        if self.ceiling is not None:
            lines.append(f"  for scale: after the prompts steered towards it is {self.ceiling.value:+.2f}")
        if len(self.tried) > 1:
            places = [("where", "strength", "change", "KL elsewhere")]
            for at, s, e, kl in self.tried:
                places.append((at, f"{s:g}", f"{e:+.2f}", f"{kl:.3g}" if math.isfinite(kl) else "-"))
            lines += ["", "where it was tried (on the choosing half)", *columns(places, right=(1, 2, 3))]
        for prompt, plain, steered in self.samples:
            lines += ["", f"{prompt}", f"  unsteered:{plain}", f"  steered:  {steered}"]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        def number(item: Estimate | None) -> Any:
            return None if item is None else item.model_dump(mode="json")

        return {
            "schema": SCHEMA,
            "model": self.model,
            "contrast": self.contrast,
            "steering": self.chosen.steering.to_json(),
            "strength": self.chosen.strength,
            "budget": self.budget,
            "unsteered": {"log_odds": number(self.before), "perplexity": self.perplexity},
            "ceiling": number(self.ceiling),
            "doses": [
                {"strength": d.strength, "effect": number(d.effect), "kl": number(d.kl), "perplexity": d.perplexity}
                for d in self.doses
            ],
            "tried": [
                {"at": at, "strength": s, "effect": e, "kl": kl if math.isfinite(kl) else None}
                for at, s, e, kl in self.tried
            ],
            "random": {"effects": self.random.tolist(), "p": self.p if math.isfinite(self.p) else None},
            "samples": [{"prompt": a, "unsteered": b, "steered": c} for a, b, c in self.samples],
            "settings": dict(self.settings),
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        return "\n\n".join([self.table(), *map(str, self.evidence)])

    __repr__ = __str__


@dataclass(frozen=True, eq=False)
class _Halves:
    choose: list[Any]
    report: list[Any]

    @classmethod
    def of(cls, items: Sequence[Any], seed: int) -> _Halves:
        order = np.random.default_rng(seed).permutation(len(items))
        half = len(items) // 2
        return cls([items[i] for i in order[:half]], [items[i] for i in order[half:]])


def dose_response(
    model: Model,
    candidates: Steering | Sequence[Steering],
    prompts: Sequence[Any],
    contrast: Contrast,
    *,
    strengths: Sequence[float] = STRENGTHS,
    neutral: Sequence[Any] = (),
    budget: float = BUDGET,
    randoms: int = 39,
    relearn: Callable[[Model], Sequence[Steering]] | None = None,
    prompted: Sequence[Any] | None = None,
    ceiling: Sequence[Any] = (),
    seed: int = 0,
) -> DoseResponse:
    """Test steerings of `model` on `prompts`: how far each strength moves `contrast` at the prompts' ends.

    candidates: of several the best is chosen, with its strength. neutral: text (or rows of ids) that should stay as it
    is. budget: the most KL(unsteered || steered) a token on it, nats, for the choice. randoms: how many random
    directions. relearn: makes the candidates again for the re-randomised model (None: that null is not run). prompted:
    the same prompts, in the same order, with an instruction in front: the prompting baseline. ceiling: prompts steered
    towards, for scale.
    Costs (candidates x strengths + strengths + 2 randoms) forwards of half the prompts and half the neutral text; the
    null as much as the choice again. Raises InputError for fewer than four prompts, or no positive strength.
    """
    every = [candidates] if isinstance(candidates, Steering) else list(candidates)
    strengths = sorted({finite(s, "a strength") for s in strengths})
    budget, randoms = finite(budget, "budget, nats a token,", 0.0), whole(randoms, "randoms", 0)
    if not every:
        raise InputError("no steering was given to test.")
    if not any(s > 0 for s in strengths):
        raise InputError(f"at least one strength above zero is needed to choose from; given {strengths}.")
    if len(prompts) < 4:
        raise InputError(
            f"at least four prompts are needed, two to choose by and two to report on; given {len(prompts)}."
        )
    if prompted is not None and len(prompted) != len(prompts):
        raise InputError(f"the prompting baseline needs each prompt again: {len(prompted)} for {len(prompts)}.")
    if len(neutral) == 1:
        raise InputError("one neutral text cannot be split in halves; give two or more.")
    number = list(range(len(prompts)))
    halves, texts = _Halves.of(number, seed), _Halves.of(list(neutral), seed)
    choose, report = [prompts[i] for i in halves.choose], [prompts[i] for i in halves.report]

    chosen, tried = _choose(model, every, strengths, choose, texts.choose, contrast, budget)
    before = log_odds(model, report, contrast)
    plans = [chosen.steering.interventions(s) for s in strengths]
    changes = log_odds_each(model, report, contrast, plans) - before
    kl, _, losses, plain = _elsewhere(model, texts.report, plans)
    at = strengths.index(chosen.strength)
    doses = tuple(
        Dose(
            strength=s,
            effect=bootstrap(changes[i], name=f"change of log-odds at strength {s:g}", over="prompts", unit=" nats"),
            kl=None if kl is None else bootstrap(kl[i], name="KL elsewhere", over="texts", unit=" nats a token"),
            perplexity=None if losses is None else math.exp(min(50.0, float(losses[i].mean()))),
        )
        for i, s in enumerate(strengths)
    )
    effect = changes[at]
    others = [chosen.steering.random(seed * 1000 + i) for i in range(randoms)]
    their_plans = [other.interventions(chosen.strength) for other in others]
    theirs = (log_odds_each(model, report, contrast, their_plans) - before).mean(1) if others else np.zeros(0)
    their_kl = _elsewhere(model, texts.report, their_plans[:RANDOM_TEXTS])[0] if others else None
    p = (1 + int((theirs >= effect.mean()).sum())) / (1 + len(theirs)) if len(theirs) else math.nan

    null = None
    if relearn is not None:
        arm = rerandomise(model, seed=seed)
        theirs_chosen, _ = _choose(arm, relearn(arm), strengths, choose, texts.choose, contrast, budget)
        null = log_odds(arm, report, contrast, theirs_chosen.interventions) - log_odds(arm, report, contrast)
    simple = _rows(model, contrast, chosen)
    by_rows = None if simple is None else log_odds(model, report, contrast, simple.interventions) - before
    by_prompt = None
    if prompted is not None:
        by_prompt = log_odds(model, [prompted[i] for i in halves.report], contrast) - before

    settings = {
        "prompts to choose by": len(choose),
        "prompts to report on": len(report),
        "neutral texts": len(neutral),
        "strengths": strengths,
        "candidates": len(every),
        "chosen": f"{chosen.steering} x {chosen.strength:g}",
    }
    evidence = [_effect(effect, chosen, theirs, p, null, by_rows, by_prompt, settings, seed)]
    if kl is not None:
        evidence.append(_side(kl[at], their_kl, settings, seed))
    reached = log_odds(model, ceiling, contrast) if len(ceiling) else None
    return DoseResponse(
        model=model.name,
        contrast=contrast.describe(model),
        chosen=chosen,
        doses=doses,
        tried=tried,
        before=bootstrap(before, name="log-odds, unsteered", over="prompts", unit=" nats"),
        ceiling=None if reached is None else bootstrap(reached, name="log-odds after the prompts steered towards"),
        perplexity=None if plain is None else math.exp(min(50.0, float(plain.mean()))),
        random=theirs,
        random_kl=np.zeros(0) if their_kl is None else their_kl.mean(1),
        p=p,
        budget=budget,
        evidence=tuple(evidence),
        prompts=tuple(report),
        settings=settings,
    )


def _choose(
    model: Model,
    candidates: Sequence[Steering],
    strengths: Sequence[float],
    prompts: Sequence[Any],
    texts: Sequence[Any],
    contrast: Contrast,
    budget: float,
) -> tuple[Setting, tuple[tuple[str, float, float, float], ...]]:
    """The candidate and strength with the largest mean change whose side effects keep within the budget; where none
    does, the one with the least. And the best of each candidate: (where, strength, change, KL)."""
    positive = [s for s in strengths if s > 0]
    settings = [Setting(candidate, s) for candidate in candidates for s in positive]
    before = log_odds(model, prompts, contrast).mean()
    plans = [one.interventions for one in settings]
    effects = log_odds_each(model, prompts, contrast, plans).mean(1) - before
    kl = _elsewhere(model, texts, plans)[0]
    cost = np.full(len(settings), np.nan) if kl is None else kl.mean(1)

    def best(numbers: Sequence[int]) -> int:
        within = [i for i in numbers if not cost[i] > budget]
        return max(within, key=lambda i: effects[i]) if within else min(numbers, key=lambda i: cost[i])

    tried = []
    for c, candidate in enumerate(candidates):
        i = best(range(c * len(positive), (c + 1) * len(positive)))
        tried.append((candidate.at, settings[i].strength, float(effects[i]), float(cost[i])))
    return settings[best(range(len(settings)))], tuple(tried)


def _elsewhere(model: Model, texts: Sequence[Any], plans: Sequence[Any]) -> tuple[Any, None, Any, Any]:
    """(KL [plans, texts], -, loss [plans, texts], unsteered loss [texts]); None where there is no text."""
    if not len(texts) or not plans:
        return None, None, None, None
    kl, loss, plain = side_effects(model, texts, plans)
    return kl, None, loss, plain


def _rows(model: Model, contrast: Contrast, chosen: Setting) -> Setting | None:
    """The simplest way to raise logits: add the output matrix's rows themselves, at the same place and norm."""
    steering = chosen.steering
    if not isinstance(steering, Direction) or model.refuses("lm_head") is not None:
        return None
    weight, _ = linear_map(model.site("lm_head").module, model.facts.d_model)
    up = weight[list(contrast.target)].float().mean(0)
    down = weight[list(contrast.against)].float().mean(0) if contrast.against else weight.float().mean(0)
    vector = (up - down).cpu()
    if float(vector.norm()) == 0:
        return None
    vector = vector * (steering.norm / vector.norm())
    return Setting(Direction(steering.at, Content(torch.as_tensor(vector)), steering.positions), chosen.strength)


def _effect(
    effect: Floats,
    chosen: Setting,
    theirs: Floats,
    p: float,
    null: Floats | None,
    by_rows: Floats | None,
    by_prompt: Floats | None,
    settings: dict[str, Any],
    seed: int,
) -> Evidence:
    def estimate(name: str, values: Floats) -> Estimate:
        return bootstrap(values, name=name, over="prompts", unit=" nats", seed=seed)

    def beside(name: str, values: Floats) -> Comparison:
        apart = bootstrap_difference(effect, values, paired=True, over="prompts", seed=seed)
        return Comparison(estimate=estimate(name, values), difference=apart)

    nulls, not_done = [], []
    if len(theirs):
        low, high = (float(x) for x in np.quantile(theirs, [0.025, 0.975]))
        method, mean = f"95 % of {len(theirs)} draws", float(effect.mean())
        nulls.append(
            Comparison(
                estimate=Estimate(
                    name=RANDOM,
                    value=float(theirs.mean()),
                    interval=Interval(low=low, high=high, method=method),
                    n=len(theirs),
                    unit=" nats",
                    note=f"share as large or larger: p = {p:.3f}",
                ),
                difference=Interval(low=mean - high, high=mean - low, method=method),
            )
        )
    else:
        not_done.append(NotDone(what=RANDOM, why="none was asked for"))
    if null is not None:
        nulls.append(beside(NULL, null))
    else:
        not_done.append(NotDone(what=NULL, why="not asked for, or the steering was not learnt from prompts"))
    if by_prompt is None:
        not_done.append(NotDone(what=PROMPT, why="no instruction was given to put in front of the prompts"))
    baselines = [] if by_rows is None else [beside(ROWS, by_rows)]
    baselines += [] if by_prompt is None else [beside(PROMPT, by_prompt)]
    return Evidence(
        claim=f"Steering ({chosen.steering}, x {chosen.strength:g}) moves the next token towards the target",
        effect=estimate("change of log-odds", effect),
        nulls=tuple(nulls),
        baselines=tuple(baselines),
        seeds=(seed,),
        how="Place and strength chosen on other prompts and other neutral text. The re-randomised model learns its own "
        "direction from the same prompts and chooses its own place and strength.",
        settings={**settings, "p against random directions": p if math.isfinite(p) else None},
        not_done=tuple(not_done),
    )


def _side(kl: Floats, their_kl: Floats | None, settings: dict[str, Any], seed: int) -> Evidence:
    name = "KL(unsteered || steered) a token of neutral text"
    nulls = []
    if their_kl is not None:
        other = their_kl.mean(0)  # a random direction's side effect on each text
        apart = bootstrap_difference(kl, other, paired=True, over="texts", seed=seed)
        estimate = bootstrap(other, name=RANDOM, over="texts", unit=" nats", seed=seed)
        nulls.append(Comparison(estimate=estimate, difference=apart))
    return Evidence(
        claim="Steering changes other text less than a random direction of its norm does",
        effect=bootstrap(kl, name=name, over="texts", unit=" nats", seed=seed),
        better="lower",
        nulls=tuple(nulls),
        seeds=(seed,),
        how="Text that the strength was not chosen on; zero would be no side effect at all.",
        settings=settings,
    )
