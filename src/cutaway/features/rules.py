"""What a feature's firing can be told from without any model: the token it is on, and the one before.

    p1(t)      = (fires at t + m base) / (n of t + m)                      the current-token rule
    p2(s, t)   = (fires at s t + m p1(t)) / (n of s t + m)                 with the previous token, backing off to p1

learned on one half of the texts, scored on the other by the AUROC of "fires here". A feature that a rule tells as well
as this is a token detector; what the previous token adds is the least context that a feature can show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from cutaway.core import InputError

Floats = NDArray[np.float64]
PRIOR = 1.0  # m: pseudo-counts
LEAST = 10  # times that a feature must fire in either half


@dataclass(frozen=True, eq=False)
class Rules:
    """Of S features. token, pair: held-out AUROC [S] of the two rules, NaN where a feature fired too seldom; entropy
    [S], nats, of the tokens that it fires at; tokens [U] and p [U, S]: the current-token rule; base [S]."""

    token: Floats
    pair: Floats
    entropy: Floats
    fired: NDArray[np.int64]
    tokens: NDArray[np.int64]
    p: Floats
    base: Floats

    @property
    def gain(self) -> Floats:
        """What the previous token adds, [S]."""
        return self.pair - self.token


@torch.no_grad()
def fit_rules(tokens: Tensor, previous: Tensor, fires: Tensor, learn: Tensor) -> Rules:
    """tokens, previous [n] ids (-1: none before), fires [n, S] bool, learn [n] bool: which positions the rules are
    learned on; the others score them. Memory: 4 S bytes a distinct pair of tokens.

    Raises `InputError` where either half is empty or shapes disagree.
    """
    n = tokens.shape[0]
    if fires.ndim != 2 or not (n == fires.shape[0] == previous.shape[0] == learn.shape[0]):
        raise InputError(
            f"one row a position: {n} tokens, {list(previous.shape)} before them, {list(fires.shape)} of firing."
        )
    if not bool(learn.any()) or bool(learn.all()):
        raise InputError("a rule is learned on some texts and scored on others: both are needed.")
    held = ~learn
    values = fires.float()
    base = values[learn].mean(0)
    ids, which = torch.unique(tokens, return_inverse=True)
    pairs, of_pair = torch.unique((previous.long() + 1) * (int(tokens.max()) + 1) + tokens.long(), return_inverse=True)

    def rate(group: Tensor, size: int, back_off: Tensor) -> Tensor:
        """[size, S]; back_off: [S], or [size, S]."""
        fired = torch.zeros(size, values.shape[1]).index_add_(0, group[learn], values[learn])
        seen = torch.bincount(group[learn], minlength=size)[:, None]
        return (fired + PRIOR * back_off) / (seen + PRIOR)

    p1 = rate(which, ids.shape[0], base)
    token_of_pair = torch.zeros(pairs.shape[0], dtype=torch.long)
    token_of_pair[of_pair] = which
    p2 = rate(of_pair, pairs.shape[0], p1[token_of_pair])
    truth = fires[held].numpy()
    enough = (truth.sum(0) >= LEAST) & (fires[learn].sum(0).numpy() >= LEAST) & (~truth).any(0)
    return Rules(
        token=_aurocs(p1[which[held]].numpy(), truth, enough),
        pair=_aurocs(p2[of_pair[held]].numpy(), truth, enough),
        entropy=_entropies(which, values, ids.shape[0]),
        fired=fires.sum(0).numpy(),
        tokens=ids.numpy().astype(np.int64),
        p=p1.double().numpy(),
        base=base.double().numpy(),
    )


def _entropies(which: Tensor, values: Tensor, size: int) -> Floats:
    """-sum p log p of the tokens under a feature's firings, [S]; NaN where it never fired."""
    counts = torch.zeros(size, values.shape[1]).index_add_(0, which, values).double()
    total = counts.sum(0)
    p = counts / total
    entropy = -(p * p.clamp_min(1e-300).log()).sum(0)
    return np.asarray(torch.where(total > 0, entropy, torch.nan).numpy(), dtype=np.float64)


def _aurocs(scores: NDArray[np.float32], truth: NDArray[np.bool_], enough: NDArray[np.bool_]) -> Floats:
    """AUROC of each column, [S]: P(score of a firing > score of another) + half the ties."""
    out = np.full(scores.shape[1], np.nan)
    columns = np.flatnonzero(enough)
    if columns.size:
        ranks = stats.rankdata(scores[:, columns], axis=0)
        positive = truth[:, columns]
        m, n = positive.sum(0).astype(float), (~positive).sum(0).astype(float)
        out[columns] = ((ranks * positive).sum(0) - m * (m + 1) / 2) / (m * n)
    return out


def contexts(rows: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the kept positions of rows [rows, position]: their tokens, the tokens before (-1: none) and their row, [n]."""
    before = torch.full_like(rows, -1)
    before[:, 1:] = rows[:, :-1]
    number = torch.arange(rows.shape[0])[:, None].expand_as(rows)
    return rows[kept].long(), before[kept].long(), number[kept]
