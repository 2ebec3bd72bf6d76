"""Whether a model does a task at all: its accuracy and metric on clean and counterfactual, beside its nulls."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, InputError, NotDone
from cutaway.core.drawing import Drawn
from cutaway.evidence import bootstrap, bootstrap_difference, proportion, rerandomise
from cutaway.model import Model
from cutaway.model.tokens import Batch
from cutaway.tasks.checks import named, shorten, warn
from cutaway.tasks.metrics import bind
from cutaway.tasks.task import Task

DONE, FLAT = 0.9, 1e-6
COMMONEST = "always the commonest answer"
Does = Literal["yes", "partly", "no"]


@dataclass(frozen=True, eq=False, repr=False)
class Competence(Drawn):
    """What `task.check(model)` gives. Prints as a table; `evidence` has each row with its null and interval.

    clean, counterfactual: the metric of each item [n]. correct, correct_counterfactual: whether the likeliest token is
    right [n] (None where the counterfactual determines no answer). does: "yes" where it is right on 90 % of the clean
    prompts and above its null, "partly" where it surely puts the right answer above the wrong one more often than not
    (where there is no wrong one: is right on half), else "no". Where many tokens are right an item, the probabilities
    must follow the change to the counterfactual too.
    """

    model: str
    task: dict[str, Any]
    clean: Tensor
    counterfactual: Tensor
    correct: Tensor
    correct_counterfactual: Tensor | None
    does: Does
    evidence: tuple[Evidence, ...]
    templates: tuple[tuple[str, int, float], ...]  # text, n, accuracy
    but: str = ""  # what stands against "yes"

    @property
    def accuracy(self) -> float:
        return float(self.correct.double().mean())

    @property
    def verdict(self) -> str:
        name, share = (
            self.task["name"],
            f"its likeliest token is right on {100 * self.accuracy:.0f} % of the clean prompts",
        )
        if self.does == "yes":
            return f"{self.model} does {name}: {share}."
        if self.does == "partly":
            return f"{self.model} does {name} in part: {self.but}; {share}."
        return (
            f"{self.model} DOES NOT DO {name}: {share}{', but ' + self.but if self.but else ''}. "
            "How it does the task cannot be found out from it."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.competence/1",
            "model": self.model,
            "task": self.task,
            "does": self.does,
            "verdict": self.verdict,
            "evidence": [e.to_json() for e in self.evidence],
            "templates": [{"template": text, "n": n, "accuracy": share} for text, n, share in self.templates],
            "items": {
                "metric_clean": [_finite(v) for v in self.clean.tolist()],
                "metric_counterfactual": [_finite(v) for v in self.counterfactual.tolist()],
                "correct": self.correct.bool().tolist(),
                "correct_counterfactual": None
                if self.correct_counterfactual is None
                else self.correct_counterfactual.bool().tolist(),
            },
        }

    def __str__(self) -> str:
        head = ("", "", "null: re-randomised", COMMONEST)
        rows = [head]
        for e in self.evidence:
            null = e.nulls[0].estimate if e.nulls else None
            base = e.baselines[0].estimate if e.baselines else None
            unit = f" ({e.effect.unit})" if e.effect.unit else ""
            rows.append((e.effect.name + unit, _cell(e.effect), _cell(null), _cell(base)))
        if not any(r[3] for r in rows[1:]):
            rows = [r[:3] for r in rows]  # type: ignore[misc]
        widths = [max(len(r[c]) for r in rows) for c in range(len(rows[0]))]
        lines = ["  " + "  ".join(cell.ljust(w) for cell, w in zip(r, widths)).rstrip() for r in rows]
        how = f"{self.task['n']} items, 95 % intervals"
        worst = [f"  {share:4.0%} of {n}: {shorten(text)!r}" for text, n, share in self.templates if share < DONE]
        if worst and len(self.templates) > 1:
            lines += ["  templates on which it is right on fewer than 90 %:", *worst]
        missing = [f"  not done: {d.what} ({d.why})" for d in self.evidence[0].not_done]
        return "\n".join([f"{self.task['name']} on {self.model}, {how}", *lines, *missing, self.verdict])

    __repr__ = __str__


def check(task: Task, model: Model, *, null: bool = True, seeds: Sequence[int] = (0,), batch: int = 64) -> Competence:
    """How well a model does a task: accuracy, preference and metric, on clean and counterfactual prompts.

    Accuracy: the likeliest token of the whole vocabulary is right. Preference: the right answer's logit is above the
    wrong one's. Intervals: Wilson's for shares, BCa bootstrap over items for the metric, 95 %.
    null: the same on the model re-randomised with each of `seeds`, embeddings kept (the first is printed, all are in
    the evidence). A task that the model does not do is a warning as well as a verdict.
    Costs 2 ceil(n / batch) forwards, and as many and a copy of the model for each seed.
    Raises InputError for a metric that has one value everywhere; items that it does not tell apart are a warning.
    """
    at_clean, at_other = _logits(task, model, task.clean, batch), _logits(task, model, task.counterfactual, batch)
    clean, other = task.metric(at_clean).detach(), task.metric(at_other).detach()
    _telling(task, clean, other)
    nulls = []
    for seed in seeds if null else ():
        twin = rerandomise(model, seed=seed)
        nulls.append(
            (twin.name, _logits(task, twin, task.clean, batch), _logits(task, twin, task.counterfactual, batch))
        )
    settings = {**task.summary(), "null_seeds": list(seeds) if null else [], "model": model.name}
    not_done = () if null else (NotDone(what="null: re-randomised model", why="null=False"),)
    made = _Making(task, model.name, tuple(seeds) if null else (), settings, not_done)

    right = bind("accuracy", task.target)
    correct = right(at_clean)
    evidence = [
        made.share("accuracy, clean", correct, [(n, right(a)) for n, a, _ in nulls], commonest=True),
    ]
    correct_other = None
    if task.counterfactual_answers is not None:
        correct_other = (at_other.argmax(-1).cpu() == task.counterfactual_answers).float()
        told = [(n, (b.argmax(-1).cpu() == task.counterfactual_answers).float()) for n, _, b in nulls]
        evidence.append(made.share("accuracy, counterfactual", correct_other, told))
    preferred = None
    if task.wrong is not None:
        prefer = bind("preference", task.target)
        preferred = prefer(at_clean)
        evidence.append(made.share("right above wrong, clean", preferred, [(n, prefer(a)) for n, a, _ in nulls]))
    metric = task.metric
    called = f"metric {metric.name}" if metric.name in ("accuracy", "preference") else metric.name
    # On the counterfactual the metric, which is of the clean answer, should be worse.
    null_clean = [(n, metric(a).detach()) for n, a, _ in nulls]
    null_other = [(n, metric(b).detach()) for n, _, b in nulls]
    apart = [(n, a - b) for (n, a), (_, b) in zip(null_clean, null_other)]
    evidence.append(made.mean(f"{called}, clean", clean, null_clean))
    evidence.append(made.mean(f"{called}, counterfactual", other, null_other, worse=True))
    evidence.append(made.mean(f"{called}, clean - counterfactual", clean - other, apart))
    does = _does(evidence[0], None if preferred is None else evidence[1 + (correct_other is not None)])
    but = ""
    if does == "partly":
        but = "it puts the right answer above the wrong one more often than not"
        but = "it is right more often than not" if preferred is None else but
    if task.target.sign is not None and does != "no":
        # One token may be right on every item (a late year): then being right says little, and what must show is that
        # the probabilities follow what the counterfactual changes.
        mass = bind("mass_difference", task.target)
        moved = _estimate("mass difference", (mass(at_clean) - mass(at_other)).detach())
        if moved.interval is None or moved.interval.low <= 0:
            does = "partly" if moved.value > 0 else "no"
            surely = "surely " if moved.value > 0 else ""
            share = f"one token is right on {100 * made.constant:.0f} %"
            but = f"{share}, and the probabilities do not {surely}follow the prompt"
    groups = []
    for number in sorted(set(task.template.tolist())):
        of = task.template == number
        like = task.items[int(of.nonzero()[0])].clean
        text = task.templates[number] if number < len(task.templates) else f"such as: {like}"
        groups.append((text, int(of.sum()), float(correct.cpu()[of].mean())))
    found = Competence(
        model.name, task.summary(), clean.cpu(), other.cpu(), correct.cpu(), correct_other, does, tuple(evidence),
        tuple(groups), but,
    )  # fmt: skip
    if does == "no":
        warn(found.verdict)
    return found


def _commonest(task: Task) -> int:
    """On how many items the one token is right that is right most often."""
    if task.target.sign is not None:
        return int((task.target.sign > 0).sum(0).max())
    return Counter(task.answers.tolist()).most_common(1)[0][1]


def _does(accuracy: Evidence, preference: Evidence | None) -> Does:
    beats = accuracy.verdict in ("distinguishable from null", "no null was run")
    if accuracy.effect.value >= DONE and beats:
        return "yes"
    if preference is None:
        interval = accuracy.effect.interval
        return "partly" if beats and interval is not None and accuracy.effect.value >= 0.5 else "no"
    interval = preference.effect.interval
    above = interval is not None and interval.low > 0.5
    apart = preference.verdict in ("distinguishable from null", "no null was run")
    return "partly" if above and apart else "no"


def _logits(task: Task, model: Model, prompts: Batch, size: int) -> Tensor:
    """[n, vocab] at the end of each prompt."""
    out, ends = [], task.columns("end")
    for start in range(0, len(task), size):
        ids, mask = prompts.ids[start : start + size], prompts.mask[start : start + size]
        width = int(mask.sum(-1).max())
        logits = model.run(Batch(ids[:, :width], mask[:, :width])).logits
        end = ends[start : start + size].to(logits.device)
        out.append(logits[torch.arange(len(end), device=logits.device), end])
    logits = torch.cat(out)
    if not bool(torch.isfinite(logits).all()):
        bad = [(i, shorten(task.items[i].clean)) for i in (~torch.isfinite(logits).all(-1)).nonzero()[:, 0].tolist()]
        raise InputError(named(bad, len(task), f"give logits of {model.name} that are not finite"))
    if int(task.answers.max()) >= logits.shape[1]:
        raise InputError(
            f"{task.name} has answers up to id {int(task.answers.max())}, {model.name} {logits.shape[1]} logits: "
            "it was made for another model."
        )
    return logits


def _telling(task: Task, clean: Tensor, other: Tensor) -> None:
    """A metric that is constant tells nothing; items on which clean and counterfactual have one value tell nothing."""
    name = task.metric.name
    spread = float(torch.cat([clean, other]).double().max() - torch.cat([clean, other]).double().min())
    scale = float(torch.cat([clean, other]).abs().max())
    if not math.isfinite(spread):
        bad = [(i, f"{clean[i]:.3g} and {other[i]:.3g}") for i in range(len(task))
               if not (math.isfinite(clean[i]) and math.isfinite(other[i]))]  # fmt: skip
        raise InputError(named(bad, len(task), f"have a {name} that is not finite"))
    if spread <= FLAT * scale or spread == 0:
        raise InputError(
            f"the metric {name} is {clean[0]:.4g} on every item, clean and counterfactual: it is constant and tells "
            "nothing."
        )
    if name == "accuracy" or name == "preference":
        return
    flat = ((clean - other).abs() <= FLAT * scale).nonzero()[:, 0].tolist()
    if flat:
        rows = [(i, f"{clean[i]:.4g} on both, {shorten(task.items[i].clean)!r}") for i in flat]
        warn(named(rows, len(task), f"have the same {name} on clean and counterfactual, so no patch can move it"))


@dataclass(frozen=True)
class _Making:
    """Makes the evidence of one check: what all its records share."""

    task: Task
    model: str
    seeds: tuple[int, ...]
    settings: dict[str, Any]
    not_done: tuple[NotDone, ...]

    @property
    def constant(self) -> float:
        """The share of items on which the one token is right that is right most often."""
        return _commonest(self.task) / len(self.task)

    def share(
        self, name: str, values: Tensor, nulls: Sequence[tuple[str, Tensor]], commonest: bool = False
    ) -> Evidence:
        baselines: tuple[Comparison, ...] = ()
        if commonest:
            count = _commonest(self.task)
            baselines = (Comparison(estimate=proportion(count, len(self.task), name=COMMONEST)),)
        others = [(n, _estimate(n, v), v) for n, v in nulls]
        return self._evidence(name, _estimate(name, values), values, others, baselines)

    def mean(self, name: str, values: Tensor, nulls: Sequence[tuple[str, Tensor]], worse: bool = False) -> Evidence:
        unit, lower = self.task.metric.unit, (self.task.metric.better == "lower") != worse
        others = [(n, _estimate(n, v, unit), v) for n, v in nulls]
        return self._evidence(name, _estimate(name, values, unit), values, others, (), lower=lower)

    def _evidence(
        self,
        name: str,
        effect: Estimate,
        values: Tensor,
        nulls: Sequence[tuple[str, Estimate, Tensor]],
        baselines: tuple[Comparison, ...],
        lower: bool = False,
    ) -> Evidence:
        compared = tuple(
            Comparison(
                estimate=estimate,
                difference=bootstrap_difference(_array(values), _array(v), paired=True, over="items"),
            )
            for _, estimate, v in nulls
        )
        return Evidence(
            claim=f"{self.model} does {self.task.name}: {name}",
            effect=effect,
            better="lower" if lower else "higher",
            nulls=compared,
            baselines=baselines,
            seeds=self.seeds,
            how="one forward of each prompt; logits at its last token",
            settings=self.settings,
            not_done=self.not_done,
        )


def _estimate(name: str, values: Tensor, unit: str = "") -> Estimate:
    """The mean over items: with Wilson's interval where each is 0 or 1, else with a bootstrap's."""
    if not unit and bool(((values == 0) | (values == 1)).all()):
        return proportion(int(values.sum()), len(values), name=name)
    return bootstrap(_array(values), name=name, over="items", unit=unit)


def _array(values: Tensor) -> Any:
    return np.asarray(values.detach().cpu(), dtype=np.float64)


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    span = f" {estimate.interval}" if estimate.interval else ""
    return f"{estimate.value:.3g}{span}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
