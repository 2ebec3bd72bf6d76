"""Metrics: named functions of the logits at the answer position, one value an item.

Each takes logits [n, vocab] and the items' `Target`, and gives [n]. Differentiable, but for accuracy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName

Function = Callable[["Tensor", "Target"], "Tensor"]


@dataclass(frozen=True, eq=False)
class Target:
    """What the metrics of n items compare with.

    `answers` [n], `wrong` [n] or None. Where many tokens are right: `candidates` [c] ids and `sign` [n, c], +1 for a
    right one, -1 for a wrong one, 0 for neither. `reference` [n, vocab]: log-probabilities of another run, for `kl`.
    """

    answers: Tensor
    wrong: Tensor | None = None
    candidates: Tensor | None = None
    sign: Tensor | None = None
    reference: Tensor | None = None

    def __len__(self) -> int:
        return len(self.answers)

    def take(self, rows: Tensor) -> Target:
        def some(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[rows.to(x.device)]

        return Target(self.answers[rows], some(self.wrong), self.candidates, some(self.sign), some(self.reference))

    def to(self, device: Any) -> Target:
        def there(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(device)

        return Target(
            self.answers.to(device), there(self.wrong), there(self.candidates), there(self.sign), there(self.reference)
        )


def logit_difference(logits: Tensor, target: Target) -> Tensor:
    """logit(answer) - logit(wrong)  (Wang et al. 2022, section 2)."""
    if target.wrong is None:
        raise InputError(
            "logit_difference needs a wrong answer for each item, and this task has none; use probability."
        )
    return _of(logits, target.answers) - _of(logits, target.wrong)


def probability(logits: Tensor, target: Target) -> Tensor:
    """P(answer); where many tokens are right, the probability of all of them."""
    p = logits.softmax(-1)
    if target.candidates is None or target.sign is None:
        return _of(p, target.answers)
    return (p[:, target.candidates] * (target.sign > 0)).sum(-1)


def log_probability(logits: Tensor, target: Target) -> Tensor:
    """log P(answer), in nats; where many tokens are right, the logarithm of their sum."""
    logp = logits.log_softmax(-1)
    if target.candidates is None or target.sign is None:
        return _of(logp, target.answers)
    right = logp[:, target.candidates].masked_fill(target.sign <= 0, -torch.inf)
    return right.logsumexp(-1)


def accuracy(logits: Tensor, target: Target) -> Tensor:
    """1 where the likeliest token of the whole vocabulary is right, else 0. Has no gradient."""
    best = logits.argmax(-1)
    if target.candidates is None or target.sign is None:
        return (best == target.answers).to(logits.dtype)
    right = (best[:, None] == target.candidates[None]) & (target.sign > 0)
    return right.any(-1).to(logits.dtype)


def preference(logits: Tensor, target: Target) -> Tensor:
    """1 where the answer's logit is above the wrong answer's, 1/2 where equal, else 0. Has no gradient."""
    d = logit_difference(logits, target)
    return (d > 0).to(logits.dtype) + 0.5 * (d == 0).to(logits.dtype)


def mass_difference(logits: Tensor, target: Target) -> Tensor:
    """P(right tokens) - P(wrong tokens)  (Hanna et al. 2023: years after the start less years up to it)."""
    if target.candidates is None or target.sign is None:
        if target.wrong is None:
            raise InputError("mass_difference needs wrong tokens, and this task has none; use probability.")
        p = logits.softmax(-1)
        return _of(p, target.answers) - _of(p, target.wrong)
    p = logits.softmax(-1)[:, target.candidates]
    return (p * target.sign.to(p.dtype)).sum(-1)


def kl(logits: Tensor, target: Target) -> Tensor:
    """KL(reference || run) over the whole vocabulary, in nats: 0 where the run predicts what the reference does."""
    if target.reference is None:
        raise InputError("kl compares with another run: task.with_metric('kl', reference=run_or_logits).")
    p = target.reference.exp()
    terms = p * (target.reference - logits.log_softmax(-1))
    return torch.where(p > 0, terms, 0.0).sum(-1)  # 0 log 0 = 0


METRICS: Mapping[str, Function] = {
    "logit_difference": logit_difference,
    "probability": probability,
    "log_probability": log_probability,
    "accuracy": accuracy,
    "preference": preference,
    "mass_difference": mass_difference,
    "kl": kl,
}
UNITS = {
    "logit_difference": "logits",
    "probability": "",
    "log_probability": "nats",
    "accuracy": "",
    "preference": "",
    "mass_difference": "",
    "kl": "nats",
}


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric bound to the items of a task: metric(logits at the end [n, vocab]) -> [n].

    `metric(logits, rows)` with rows [m] takes logits [m, vocab] of these items, in any order, repeated or not.
    """

    name: str
    function: Function
    target: Target

    @property
    def unit(self) -> str:
        return UNITS.get(self.name, "")

    @property
    def better(self) -> Literal["higher", "lower"]:
        return "lower" if self.name == "kl" else "higher"

    def __call__(self, logits: Tensor, rows: Tensor | None = None) -> Tensor:
        """Raises InputError: logits of another shape, a custom metric that gives something else than [n] numbers."""
        target = self.target if rows is None else self.target.take(torch.as_tensor(rows))
        if logits.ndim != 2 or logits.shape[0] != len(target):
            raise InputError(
                f"a metric takes the logits at the end, [{len(target)}, vocab]; given {list(logits.shape)}. "
                "(task.at_end(run) reads them.)"
            )
        exact = (
            logits if logits.dtype == torch.float64 else logits.float()
        )  # half precision is too coarse to compare in
        value = self.function(exact, target.to(logits.device))
        if not isinstance(value, Tensor) or value.shape != (len(target),):
            shown = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"the metric {self.name} must give one number an item, [{len(target)}]; it gave {shown}.")
        return value

    def take(self, rows: Tensor) -> Metric:
        return replace(self, target=self.target.take(rows))


def bind(metric: str | Callable[..., Tensor], target: Target, name: str | None = None) -> Metric:
    """A metric by name, or a function of one's own: of (logits [n, vocab]), or of (logits, target).

    One that needs the answers should take them from `target` (`.answers`, `.wrong`), which follows the rows asked for.
    Raises UnknownName, InputError.
    """
    if isinstance(metric, Metric):
        return Metric(name or metric.name, metric.function, target)
    if isinstance(metric, str):
        if metric not in METRICS:
            raise UnknownName("metric", metric, METRICS)
        if metric in ("logit_difference", "preference") and target.wrong is None:
            raise InputError(f"{metric} needs a wrong answer for each item, and this task has none; use probability.")
        return Metric(metric, METRICS[metric], target)
    if not callable(metric):
        raise InputError(f"a metric is a name ({', '.join(METRICS)}) or a function; given {type(metric).__name__}.")
    label = name or getattr(metric, "__name__", "custom").replace("<lambda>", "custom")
    if _arity(metric) >= 2:
        return Metric(label, metric, target)
    alone = metric
    return Metric(label, lambda logits, _target: alone(logits), target)


def _arity(function: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    required = [
        p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    return len(required)


def _of(x: Tensor, ids: Tensor) -> Tensor:
    """[n, vocab], [n] -> [n]."""
    return x.gather(-1, ids[:, None])[:, 0]
