"""Metrics are their definitions, item by item, and follow the rows that are asked for."""

from __future__ import annotations

import math

import pytest
import torch

import cutaway as cw
from cutaway.core import InputError
from cutaway.tasks.metrics import METRICS, Target, bind

N, VOCABULARY = 5, 11
LOGITS = torch.randn(N, VOCABULARY, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ANSWERS, WRONG = torch.tensor([0, 3, 3, 7, 10]), torch.tensor([1, 4, 2, 0, 9])
CANDIDATES = torch.tensor([2, 5, 8])
SIGN = torch.tensor([[1, 0, -1], [1, 1, -1], [-1, -1, 1], [0, 1, -1], [-1, 1, 1]])


def by_hand(name: str, row: int, sets: bool) -> float:
    x = LOGITS[row]
    p = x.exp() / x.exp().sum()
    right = [int(ANSWERS[row])]
    bad = [int(WRONG[row])]
    if sets:
        right = [int(c) for c, s in zip(CANDIDATES, SIGN[row]) if s > 0]
        bad = [int(c) for c, s in zip(CANDIDATES, SIGN[row]) if s < 0]
    mass = sum(float(p[i]) for i in right)
    difference = float(x[ANSWERS[row]] - x[WRONG[row]])
    return {
        "logit_difference": difference,
        "probability": mass,
        "log_probability": math.log(mass),
        "accuracy": float(int(x.argmax()) in right),
        "preference": float(difference > 0),
        "mass_difference": mass - sum(float(p[i]) for i in bad),
    }[name]


@pytest.mark.parametrize("sets", [False, True])
@pytest.mark.parametrize("name", sorted(set(METRICS) - {"kl"}))
def test_each_metric_is_its_definition(name: str, sets: bool) -> None:
    target = Target(ANSWERS, WRONG, CANDIDATES, SIGN) if sets else Target(ANSWERS, WRONG)
    values = bind(name, target)(LOGITS)
    assert values.shape == (N,)
    for row in range(N):
        assert float(values[row]) == pytest.approx(by_hand(name, row, sets), abs=1e-5)


def test_kl_is_zero_at_the_reference_and_its_sum_elsewhere() -> None:
    other = torch.randn(N, VOCABULARY, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    p, q = other.softmax(-1), LOGITS.softmax(-1)
    metric = bind("kl", Target(ANSWERS, reference=other.log_softmax(-1)))
    assert metric(other).abs().max() < 1e-6
    assert torch.allclose(metric(LOGITS), (p * (p / q).log()).sum(-1), atol=1e-5)
    assert metric.better == "lower"


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"kl"}))
def test_rows_may_be_chosen_repeated_and_reordered(name: str) -> None:
    metric = bind(name, Target(ANSWERS, WRONG, CANDIDATES, SIGN))
    rows = torch.tensor([4, 0, 0, 2])
    assert torch.equal(metric(LOGITS[rows], rows), metric(LOGITS)[rows])
    assert torch.equal(metric.take(rows)(LOGITS[rows]), metric(LOGITS)[rows])


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"kl", "accuracy", "preference"}))
def test_gradients_are_finite_differences(name: str) -> None:
    metric = bind(name, Target(ANSWERS, WRONG, CANDIDATES, SIGN))
    x = LOGITS.float().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(metric(x).sum(), x)
    step = torch.zeros_like(LOGITS)
    step[2, 5] = 1e-2
    slope = (metric(LOGITS + step).sum() - metric(LOGITS - step).sum()) / 2e-2
    assert float(gradient[2, 5]) == pytest.approx(float(slope), abs=1e-3)


def test_custom_metrics_take_logits_or_logits_and_target() -> None:
    target = Target(ANSWERS, WRONG)
    entropy = bind(lambda x: -(x.softmax(-1) * x.log_softmax(-1)).sum(-1), target)
    assert entropy(LOGITS).shape == (N,)
    assert entropy.name == "custom"
    rows = torch.tensor([3, 1])

    def answer_logit(logits: torch.Tensor, target: Target) -> torch.Tensor:
        return logits.gather(-1, target.answers[:, None])[:, 0]

    metric = bind(answer_logit, target)
    assert metric.name == "answer_logit"
    assert torch.equal(metric(LOGITS[rows], rows), LOGITS[rows][[0, 1], ANSWERS[rows]])


def test_a_metric_of_another_shape_is_an_error() -> None:
    with pytest.raises(InputError, match=r"must give one number an item, \[5\]; it gave \[\]"):
        bind(lambda x: x.mean(), Target(ANSWERS))(LOGITS)
    with pytest.raises(InputError, match=r"the logits at the end, \[5, vocab\]; given \[4, 11\]"):
        bind("probability", Target(ANSWERS))(LOGITS[:4])
    with pytest.raises(InputError, match="needs a wrong answer"):
        bind("logit_difference", Target(ANSWERS))
    with pytest.raises(InputError, match="a metric is a name"):
        bind(3, Target(ANSWERS))  # type: ignore[arg-type]


def test_a_task_keeps_its_metric_through_take(almanac: cw.Model) -> None:
    run_of = lambda task: almanac.run(task.clean)  # noqa: E731
    for name in ("ioi", "greater-than"):
        task = cw.task(name, almanac, n=12)
        values = task.measure(run_of(task))
        part = task.take([7, 2])
        assert torch.allclose(part.measure(run_of(part)), values[[7, 2]], atol=1e-4)
    kl = task.with_metric("kl", reference=run_of(task))
    assert kl.measure(run_of(task)).abs().max() < 1e-5
    assert kl.take([1]).measure(almanac.run(kl.take([1]).counterfactual)) > 1e-3
    with pytest.raises(InputError, match="kl compares with another run"):
        task.with_metric("kl")
    with pytest.raises(InputError, match=r"\[12, vocab\]; given"):
        task.with_metric("kl", reference=torch.zeros(3, 4))
