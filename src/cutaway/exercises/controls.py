"""Exercises on controls: what a finding must be set beside before it is believed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cutaway.exercises.exercise import Answer, Case, Exercise, Finding

HEAP = "Heap et al. 2025, Sparse autoencoders can interpret randomly initialized transformers"
ABSTRACTION = "Geiger et al. 2021, Causal Abstractions of Neural Networks"


def p_value(observed: float, null: Tensor) -> float:
    """The one-sided p-value of a permutation test: how often the null does as well as what was observed or better, the
    observed one counted among the draws. So it is never 0: with 99 draws it is at least 1/100.

    observed: a number. null: [draw], the same statistic under the null.
    Return a number in (0, 1].
    """
    return (1 + int((null >= observed).sum())) / (1 + len(null))


def interval(values: Tensor, draws: int, seed: int) -> tuple[float, float]:
    """A 95 % bootstrap interval of a mean: draw as many values as there are, with replacement, take their mean, do
    that many times over, and give the 2.5th and 97.5th percentile.

    values: [n]. draws: how often. seed: of the draws.
    Return (low, high).
    """
    generator = torch.Generator().manual_seed(seed)
    means = values[torch.randint(len(values), (draws, len(values)), generator=generator)].mean(dim=1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975])).tolist()
    return low, high


def rerandomised(weights: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The null of Heap et al.: a network that learnt nothing but has each matrix's mean and spread. Draw every matrix
    anew from a normal distribution with the mean and standard deviation of its own entries; keep embeddings (names
    that contain "embed") and vectors (norms, biases) as they are.

    weights: by name. They must not be changed. seed: of the draws; the same seed gives the same network.
    Return a new dictionary of the same names and shapes.
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        name: w.clone()
        if w.ndim < 2 or "embed" in name
        else w.mean() + w.std() * torch.randn(w.shape, generator=generator)
        for name, w in weights.items()
    }


def interchange_accuracy(given: Tensor, expected: Tensor, base: Tensor) -> float:
    """Interchange intervention accuracy: of the pairs in which the causal model says that the interchange changes the
    answer, the share in which the network gives the answer that the causal model expects. Pairs in which it should
    change nothing say nothing: a network in which the interchange does nothing would get them all right.

    given: [pair], the network's answers under the interchange. expected: [pair], the causal model's. base: [pair], the
    causal model's without the interchange. All are token ids.
    Return a number in [0, 1].
    """
    changed = expected != base
    return float((given == expected)[changed].float().mean())


def excess(trained: Tensor, null: Tensor) -> float:
    """By how much a score beats its null, as a share of what was left to win: (trained - null) / (1 - null), of the
    means. A dictionary whose features look interpretable at .95 on a trained network and at .94 on an untrained one
    has an excess of .17, not .95.

    trained, null: [seed], scores whose best is 1.
    Return a number: 0 where the null does as well, 1 where the score is perfect, negative where the null does better.
    """
    return float((trained.mean() - null.mean()) / (1 - null.mean()))


def _interval_laws(answer: Answer) -> Iterator[Finding]:
    generator = torch.Generator().manual_seed(8)
    for n in (50, 800):
        values = 3 + 2 * torch.randn(n, generator=generator)
        low, high = answer(values.clone(), 2000, 0)
        theory = 2 * 1.96 * float(values.std()) / n**0.5
        ordered = low < float(values.mean()) < high
        yield Finding(f"of {n} values, it holds the mean", ordered, "" if ordered else f"[{low:.3g}, {high:.3g}]")
        ratio = (high - low) / theory
        right = abs(ratio - 1) < 0.12
        why = f"it is {ratio:.2f} times as wide as 2 x 1.96 standard errors."
        if not right and abs((high - low) / (float(values.std()) * 3.92) - 1) < 0.2:
            why = "that is where the values lie, not where their mean lies."
        yield Finding(f"of {n} values, it is as wide as theory says, within 12 %", right, "" if right else why)
    values = torch.rand(40, generator=generator)
    same = tuple(answer(values.clone(), 500, 3)) == tuple(answer(values.clone(), 500, 3))
    yield Finding("the same seed gives the same interval", same)


def _network() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(9)
    return {
        "embed.weight": torch.randn(40, 16, generator=generator),
        "layers.0.mlp.weight": 0.2 * torch.randn(64, 16, generator=generator) + 0.05,
        "layers.0.mlp.bias": torch.randn(64, generator=generator),
        "layers.1.attn.weight": 0.02 * torch.randn(48, 48, generator=generator),
        "norm.weight": 1 + 0.1 * torch.randn(16, generator=generator),
    }


def _network_laws(answer: Answer) -> Iterator[Finding]:
    weights, given = _network(), _network()
    made = answer(given, 0)
    untouched = all(torch.equal(given[name], w) for name, w in weights.items())
    yield Finding("the weights given are not changed", untouched)
    alike = isinstance(made, dict) and {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in weights.items()}
    yield Finding("it has the same names and shapes", alike)
    if not alike:
        return
    kept = [name for name, w in weights.items() if w.ndim < 2 or "embed" in name]
    lost = [name for name in kept if not torch.equal(made[name], weights[name])]
    yield Finding("embeddings and vectors are kept", not lost, f"changed: {', '.join(lost)}." if lost else "")
    for name in (n for n in weights if n not in kept):
        old, new = weights[name], made[name]
        moments = abs(new.mean() - old.mean()) < 0.1 * old.std() and abs(new.std() / old.std() - 1) < 0.1
        why = f"mean {new.mean():.3g} and deviation {new.std():.3g}; they were {old.mean():.3g} and {old.std():.3g}."
        yield Finding(f"{name} has its mean and deviation", bool(moments), "" if moments else why)
        shared = torch.isin(new, old).float().mean()
        rows = float(torch.corrcoef(torch.stack([new.flatten(), old.flatten()]))[0, 1])
        fresh = bool(shared < 0.01) and abs(rows) < 0.2
        why = (
            "its entries are the old ones in another order; draw new ones."
            if shared >= 0.01
            else f"it correlates {rows:.2f}."
        )
        yield Finding(f"{name} is drawn anew", fresh, "" if fresh else why)
    again, other = answer(_network(), 0), answer(_network(), 1)
    yield Finding("the same seed gives the same network", all(torch.equal(again[k], made[k]) for k in made))
    drawn = all(not torch.equal(other[k], made[k]) for k in made if k not in kept)
    yield Finding("another seed gives another network", drawn)


def _pairs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    base, expected, given = (torch.randint(4, (60,), generator=generator) for _ in range(3))
    given[:30] = expected[:30]
    given[30:45] = base[30:45]
    return given, expected, base


EXERCISES = (
    Exercise(
        "p-value",
        "A permutation test",
        "Phipson and Smyth 2010, Permutation P-values should never be zero",
        p_value,
        cases=lambda: [
            Case("better than all of 99 draws", (9.0, torch.arange(99) / 99)),
            Case("in the middle of 99 draws", (0.5, torch.arange(99) / 99)),
            Case("ties with some draws", (3.0, torch.tensor([1.0, 2.0, 3.0, 3.0, 4.0]))),
        ],
        mistakes={
            "the observed one is not counted among the draws, so it can be 0.": lambda o, n: float(
                (n >= o).sum() / len(n)
            ),
            "a draw that does as well is not counted.": lambda o, n: (1 + int((n > o).sum())) / (1 + len(n)),
            "it counts the draws that do worse.": lambda o, n: (1 + int((n <= o).sum())) / (1 + len(n)),
        },
    ),
    Exercise(
        "interval",
        "A bootstrap interval",
        "Efron and Tibshirani 1993, An Introduction to the Bootstrap",
        interval,
        laws=_interval_laws,
    ),
    Exercise("rerandomised", "A network that learnt nothing", HEAP, rerandomised, laws=_network_laws),
    Exercise(
        "interchange-accuracy",
        "Does the network run this algorithm?",
        ABSTRACTION,
        interchange_accuracy,
        cases=lambda: [Case("sixty pairs, four answers", _pairs())],
        mistakes={
            "pairs in which the answer should not change are counted, too.": lambda g, e, b: float(
                (g == e).float().mean()
            ),
            "it asks whether the answer changes, not whether it becomes the expected one.": lambda g, e, b: float(
                (g != b)[e != b].float().mean()
            ),
            "right answers are divided by all pairs; divide by those whose answer should change.": lambda g, e, b: (
                float(((g == e) & (e != b)).float().mean())
            ),
        },
    ),
    Exercise(
        "excess",
        "How much better than nothing?",
        HEAP,
        excess,
        cases=lambda: [
            Case("three seeds each", (torch.tensor([0.95, 0.96, 0.94]), torch.tensor([0.94, 0.93, 0.95]))),
            Case("the null does better", (torch.tensor([0.6, 0.62, 0.61]), torch.tensor([0.7, 0.72, 0.71]))),
        ],
        mistakes={
            "that is the plain difference; divide by what was left to win.": lambda t, n: float(t.mean() - n.mean()),
            "that is relative to the null; divide by what was left to win.": lambda t, n: float(
                (t.mean() - n.mean()) / n.mean()
            ),
            "it is clipped; a null that does better is a finding.": lambda t, n: max(
                0.0, float((t.mean() - n.mean()) / (1 - n.mean()))
            ),
        },
    ),
)
