"""Progress measures of modular addition (Nanda et al. 2023, "Progress measures for grokking via mechanistic
interpretability"), from the logits of all pairs: logits[a, b, c], [p, p, p].

In the network that generalises, logits over (a, b) lie in the span of cos(w(a + b)) and sin(w(a + b)) for a few
w = 2 pi k / p. Key frequencies are those whose span holds at least 1 % of the logits' variance over (a, b), each pair's
logits less their mean over c first, which no probability depends on.

restricted loss   of the logits' mean over (a, b) plus their part in the key spans: what the algorithm alone would lose
excluded loss     of the logits less that part, on the training pairs: what is left to memorisation
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.core import InputError


@dataclass(frozen=True, eq=False)
class Progress:
    """key: frequencies in order of their share; shares [(p - 1) / 2] of every frequency 1, 2, …; losses in nats."""

    key: tuple[int, ...]
    shares: Tensor
    explained: float
    restricted: float
    excluded: float
    train: float
    test: float
    accuracy: float

    def __str__(self) -> str:
        return (
            f"key frequencies {', '.join(map(str, self.key))} hold {self.explained:.3f} of the logits' variance; loss "
            f"{self.train:.2e} on training pairs, {self.test:.2e} on others ({self.accuracy:.4f} right), restricted "
            f"{self.restricted:.2e}, excluded {self.excluded:.2e}"
        )


def waves(p: int, k: int) -> Tensor:
    """cos and sin of 2 pi k (a + b) / p over all pairs, orthonormal: [2, p * p], float64."""
    total = torch.arange(p, dtype=torch.float64)
    angle = 2 * math.pi * k * ((total[:, None] + total[None]) % p) / p
    return torch.stack([angle.cos(), angle.sin()]).reshape(2, -1) * (2**0.5 / p)


def frequency_shares(logits: Tensor) -> Tensor:
    """Of the variance of logits [p, p, p] over pairs (a, b), all c together, the share in each frequency's span."""
    p = _modulus(logits)
    x = _centred(logits)
    x = x - x.mean(0)
    total = x.square().sum().clamp(min=1e-300)
    return torch.stack([(waves(p, k).to(x.device) @ x).square().sum() / total for k in range(1, (p - 1) // 2 + 1)])


def key_frequencies(shares: Tensor, least: float = 0.01) -> tuple[int, ...]:
    """The frequencies with at least that share of the variance, the largest first."""
    return tuple(int(k) + 1 for k in shares.argsort(descending=True) if shares[k] >= least)


def progress(logits: Tensor, train: Tensor | None = None, key: Sequence[int] | None = None) -> Progress:
    """Progress measures of logits [p, p, p] for a + b mod p.

    train: indices of the training pairs in [0, p^2), all by default. key: the frequencies to restrict to and exclude
    (those of the finished network, for a timeline); found from these logits by default.
    Costs (p - 1) / 2 products of [2, p^2] and [p^2, p].
    """
    p = _modulus(logits)
    shares = frequency_shares(logits)
    found = tuple(key) if key is not None else key_frequencies(shares)
    if any(not 1 <= k <= (p - 1) // 2 for k in found):
        raise InputError(f"frequencies lie between 1 and {(p - 1) // 2}; {list(found)} were given.")
    x = _centred(logits)
    mean = x.mean(0)
    part = torch.zeros_like(x)
    for k in found:
        basis = waves(p, k).to(x.device)
        part += basis.T @ (basis @ (x - mean))
    a = torch.arange(p * p, device=x.device)
    answers = (a // p + a % p) % p
    inside = torch.ones(p * p, dtype=torch.bool, device=x.device)
    if train is not None:
        inside = torch.zeros_like(inside).index_fill(0, train.to(x.device), True)
    outside = ~inside if bool((~inside).any()) else inside

    def loss(values: Tensor, rows: Tensor) -> float:
        return float(torch.nn.functional.cross_entropy(values[rows], answers[rows]))

    every = torch.ones_like(inside)
    return Progress(
        key=found,
        shares=shares.cpu(),
        explained=float(shares[[k - 1 for k in found]].sum()) if found else 0.0,
        restricted=loss(mean + part, every),
        excluded=loss(x - part, inside),
        train=loss(x, inside),
        test=loss(x, outside),
        accuracy=float((x.argmax(-1) == answers)[outside].double().mean()),
    )


def _centred(logits: Tensor) -> Tensor:
    """[p, p, p] -> [p^2, p], each row less its mean."""
    x = logits.reshape(-1, logits.shape[-1]).double()
    return x - x.mean(1, keepdim=True)


def _modulus(logits: Tensor) -> int:
    p = logits.shape[0]
    if logits.shape != (p, p, p) or p < 3:
        raise InputError(f"logits of all pairs are [p, p, p]; shape {tuple(logits.shape)} was given.")
    if not bool(logits.isfinite().all()):
        raise InputError("logits are NaN or infinite.")
    return p
