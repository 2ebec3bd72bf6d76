"""Exercises on reading a transformer: what writes the answer, what heads look at, what a patch restores."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

import cutaway as cw
from cutaway.exercises.exercise import Answer, Case, Exercise, Finding

FRAMEWORK = "Elhage et al. 2021, A Mathematical Framework for Transformer Circuits"
INDUCTION = "Olsson et al. 2022, In-context Learning and Induction Heads"
IOI = "Wang et al. 2022, Interpretability in the Wild"
_TASK, _ITEMS = "ioi", 16


def direct_effects(parts: Tensor, scale: Tensor, weight: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
    """Direct logit attribution: how much each part that wrote to the last position's residual stream adds to
    logit(right) - logit(wrong). The final norm divides the stream by one number and multiplies it by a weight; with
    that number held as it was, the effects of all parts add up to the difference.

    parts: [part, d], what the embedding, each attention and each MLP wrote; they sum to the stream. scale: what the
    final RMSNorm divided by, a scalar. weight: [d], its weight. right, wrong: [d], the unembedding's rows of the two
    answers.
    Return [part].
    """
    return (parts / scale * weight) @ (right - wrong)


def induction_scores(pattern: Tensor, period: int) -> Tensor:
    """How much each head attends as an induction head does, on a text that is a random sequence said twice: from a
    token of the second half it looks at the token that followed the same token in the first half.

    pattern: [head, query, key], attention from query to key, over 2 x period tokens. period: the length of the
    sequence. Return the mean over the queries of the second half, [head]."""
    queries = torch.arange(period, 2 * period)
    return pattern[:, queries, queries - period + 1].mean(dim=1)


def copying_score(circuit: Tensor) -> Tensor:
    """How much a head copies: of its whole OV circuit, from a token that it attends to, to the logits of each token,
    the sum of the eigenvalues over the sum of their absolute values. 1 where all are positive (a token raises
    itself), -1 where it lowers itself.

    circuit: [token, token], W_E W_V W_O W_U of one head; not symmetric, so eigenvalues may be complex.
    Return a scalar tensor, between -1 and 1.
    """
    values = torch.linalg.eigvals(circuit)
    return values.sum().real / values.abs().sum()


def without_edge(scores: Tensor, query: int, key: int) -> Tensor:
    """An attention pattern with one edge knocked out: the query no longer looks at the key, and what it gave to it
    goes to the others in proportion, so that each row still sums to 1.

    scores: [query, key], before the softmax; what lies in the future is -inf.
    Return the pattern, [query, key].
    """
    cut = scores.clone()
    cut[query, key] = -torch.inf
    return cut.softmax(dim=1)


def restored(clean: float, corrupted: float, patched: float) -> float:
    """What a patch restores: run the model on the corrupted prompt with one activation taken from the clean one, and
    ask how far the metric goes from where the corrupted run leaves it (0) to where the clean run has it (1).

    clean, corrupted, patched: the metric, say a difference of logits, in the three runs.
    Return a number; it may be below 0 or above 1.
    """
    return (patched - corrupted) / (clean - corrupted)


def most_restoring_head(model: Any, task: Any) -> tuple[int, int]:
    """Activation patching with this library: the head whose output, taken from the clean prompts into the
    counterfactual ones at every position, restores the most of the logit difference.

    model: a cutaway Model; model.facts.n_layers and .n_heads say how many there are. task: a cutaway Task. clean =
    model.run(task.clean, read=["z.*"]) reads every head, and cw.patch("z.2", from_=clean["z.2"], head=1) is the
    intervention; model.run(task.counterfactual, interventions=[...]).logits[:, -1] goes to task.metric(...), which
    gives the difference of each item. Return (layer, head)."""
    clean = model.run(task.clean, read=["z.*"])
    effects = {}
    for layer in range(model.facts.n_layers):
        for head in range(model.facts.n_heads):
            change = cw.patch(f"z.{layer}", from_=clean[f"z.{layer}"], head=head)
            logits = model.run(task.counterfactual, interventions=[change]).logits[:, -1]
            effects[layer, head] = task.metric(logits).mean().item()
    return max(effects, key=lambda place: effects[place])


@cache
def _subject() -> tuple[Any, Any]:
    model = cw.load("almanac")
    return model, cw.task(_TASK, model, n=_ITEMS, seed=0)


def _written() -> list[Case]:
    """One prompt of the shipped model: what each part wrote at the last position, and what reads it."""
    model, task = _subject()
    layers = range(model.facts.n_layers)
    points = ["resid_pre.0", *(f"{kind}.{i}" for i in layers for kind in ("attn_out", "mlp_out"))]
    prompt = task.clean.ids[:1]
    run = model.run(prompt, read=points)
    parts = torch.stack([run[p][0, -1] for p in points])
    norm = model.hf.model.norm
    scale = (parts.sum(dim=0).square().mean() + norm.variance_epsilon).sqrt()
    table = model.hf.lm_head.weight.detach()
    answers = table[task.answers[0]], table[task.wrong[0]]
    return [Case("the 9 parts of the shipped model, on a prompt", (parts, scale, norm.weight.detach(), *answers))]


def _patterns() -> list[Case]:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(3, 12, 12, generator=generator)
    scores[1, range(6, 12), range(1, 7)] += 5  # an induction head
    scores[2, range(6, 12), range(6)] += 5  # a duplicate-token head
    scores = scores.masked_fill(torch.ones(12, 12, dtype=torch.bool).triu(1), -torch.inf)
    return [Case("a random head, an induction head, a duplicate-token head", (scores.softmax(dim=2), 6))]


def _scores() -> Tensor:
    scores = torch.randn(6, 6, generator=torch.Generator().manual_seed(4))
    return scores.masked_fill(torch.ones(6, 6, dtype=torch.bool).triu(1), -torch.inf)


def _ov() -> list[Case]:
    generator = torch.Generator().manual_seed(6)
    turned = torch.randn(20, 4, generator=generator) @ torch.randn(4, 20, generator=generator)
    copies = torch.randn(20, 4, generator=generator)
    return [Case("a random circuit of rank 4", (turned,)), Case("one that copies", (copies @ copies.T,))]


def _head_laws(answer: Answer) -> Iterator[Finding]:
    model, task = _subject()
    found = answer(model, task)
    layers, heads = model.facts.n_layers, model.facts.n_heads
    fits = isinstance(found, tuple) and len(found) == 2 and found[0] in range(layers) and found[1] in range(heads)
    why = "" if fits else f"it gives {found!r}; expected (layer, head), below ({layers}, {heads})."
    yield Finding("it gives (layer, head)", fits, why)
    if not fits:
        return

    def metric(change: list[Any]) -> float:
        return float(task.metric(model.run(task.counterfactual, interventions=change).logits[:, -1]).mean())

    run = model.run(task.clean, read=["z.*"])
    clean, corrupted = float(task.metric(run.logits[:, -1]).mean()), metric([])
    shares = {
        (i, h): restored(clean, corrupted, metric([cw.patch(f"z.{i}", from_=run[f"z.{i}"], head=h)]))
        for i in range(layers)
        for h in range(heads)
    }
    best = max(shares, key=lambda place: shares[place])
    own, most = shares[int(found[0]), int(found[1])], shares[best]
    why = f"yours restores {own:.2f} of the difference; another restores {most:.2f}."
    yield Finding(f"no head restores more than {most:.2f} (n {_ITEMS})", own == most, "" if own == most else why)


EXERCISES = (
    Exercise(
        "direct-effects",
        "Direct logit attribution",
        FRAMEWORK,
        direct_effects,
        cases=_written,
        mistakes={
            "the final norm's scale is left out.": lambda p, s, w, a, b: (p * w) @ (a - b),
            "the final norm's weight is left out.": lambda p, s, w, a, b: p / s @ (a - b),
            "each part is divided by its own size; all of them are divided by the stream's.": lambda p, s, w, a, b: (
                (p / p.square().mean(dim=1, keepdim=True).sqrt() * w) @ (a - b)
            ),
            "that is the right answer's logit alone.": lambda p, s, w, a, b: (p / s * w) @ a,
        },
    ),
    Exercise(
        "induction-scores",
        "Find induction heads",
        INDUCTION,
        induction_scores,
        cases=_patterns,
        mistakes={
            "it looks at the same token in the first half (a duplicate-token head); look at the one that followed.": (
                lambda a, t: a[:, range(t, 2 * t), range(t)].mean(dim=1)
            ),
            "it looks at the token before the same token; look at the one after.": (
                lambda a, t: a[:, range(t + 1, 2 * t), range(t - 1)].mean(dim=1)
            ),
            "query and key are the wrong way round.": lambda a, t: induction_scores(a.mT, t),
        },
    ),
    Exercise(
        "copying-score",
        "Does a head copy?",
        FRAMEWORK,
        copying_score,
        cases=_ov,
        mistakes={
            "it divides by the real parts' sizes; a complex eigenvalue's is its absolute value.": lambda c: (
                torch.linalg.eigvals(c).real.sum() / torch.linalg.eigvals(c).real.abs().sum()
            ),
            "these are singular values, which are never negative.": lambda c: torch.tensor(1.0),
            "that is the share of positive entries on the diagonal.": lambda c: (c.diagonal() > 0).float().mean(),
        },
    ),
    Exercise(
        "without-edge",
        "Knock out an edge of attention",
        "Geva et al. 2023, Dissecting Recall of Factual Associations",
        without_edge,
        cases=lambda: [Case("query 4, key 1 of six", (_scores(), 4, 1))],
        mistakes={
            "the row no longer sums to 1: cut before the softmax.": lambda s, q, k: (
                s.softmax(dim=1) * (1 - torch.eye(len(s))[q][:, None] * torch.eye(len(s))[k])
            ),
            "query and key are the wrong way round.": lambda s, q, k: without_edge(s, k, q),
            "the score is set to 0; after the softmax that is no zero.": lambda s, q, k: (
                s.masked_fill(torch.eye(len(s))[q][:, None] * torch.eye(len(s))[k] > 0, 0.0)
            ).softmax(dim=1),
        },
    ),
    Exercise(
        "restored",
        "What a patch restores",
        "Heimersheim and Nanda 2024, How to use and interpret activation patching",
        restored,
        cases=lambda: [
            Case("clean 3, corrupted -2, patched 1", (3.0, -2.0, 1.0)),
            Case("a patch that hurts is negative", (3.0, -2.0, -3.0)),
        ],
        mistakes={
            "that is what is still missing; ask what is restored.": lambda c, x, p: (c - p) / (c - x),
            "that is a ratio to the clean run; where the corrupted run leaves it is 0.": lambda c, x, p: p / c,
            "it is clipped; a patch may hurt, or do too much.": lambda c, x, p: min(1.0, max(0.0, (p - x) / (c - x))),
        },
    ),
    Exercise(
        "most-restoring-head",
        "Activation patching, on the shipped model",
        IOI,
        most_restoring_head,
        laws=_head_laws,
        imports=("from typing import Any", "", "import cutaway as cw"),
    ),
)
