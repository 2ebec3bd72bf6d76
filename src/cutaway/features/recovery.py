"""How much of what is known a dictionary found, on synthetic features (SynthSAEBench's measures).

MCC         mean |cosine| of decoder rows and true directions, matched one to one (Hungarian)
F1          of each feature as a detector of the true one it lies closest to (|cosine|), mean over features; 0 where
            undefined, dead features included
uniqueness  true features that are some feature's closest, a feature
EV          explained variance, about the mean
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Protocol

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from cutaway.evidence import explained_variance
from cutaway.features.sparse import Active

_ROWS = 4096


class Reconstructs(Protocol):
    """A dictionary, or what stands beside one."""

    @property
    def W_dec(self) -> Tensor: ...

    def reconstruct(self, x: Tensor, /) -> tuple[Tensor, Active]: ...


@dataclass(frozen=True)
class Recovery:
    """Of one dictionary. precision, recall: means as F1's."""

    f1: float
    precision: float
    recall: float
    mcc: float
    uniqueness: float
    explained_variance: float
    l0: float
    dead: float

    def to_json(self) -> dict[str, float]:
        return asdict(self)


@torch.no_grad()
def recovery(found: Reconstructs, directions: Tensor, x: Tensor, a: Tensor) -> Recovery:
    """found against true directions [T, d], on samples x [n, d] made of a [n, T]. Cost: F x T cosines and a matching
    of min(F, T)^3 at worst."""
    cosines = _cosines(found.W_dec, directions)
    closest = cosines.argmax(1)
    F = closest.shape[0]
    both, ours, theirs = torch.zeros(F), torch.zeros(F), torch.zeros(F)
    hats = []
    for start in range(0, x.shape[0], _ROWS):
        y_hat, active = found.reconstruct(x[start : start + _ROWS])
        hats.append(y_hat)
        true = (a[start : start + _ROWS] > 0)[:, closest]
        ours += torch.bincount(active.features, minlength=F)
        theirs += true.sum(0)
        both += torch.bincount(active.features[true[active.tokens, active.features]], minlength=F)
    precision, recall = _ratio(both, ours), _ratio(both, theirs)
    f1 = _ratio(2 * precision * recall, precision + recall)
    return Recovery(
        f1=float(f1.mean()), precision=float(precision.mean()), recall=float(recall.mean()), mcc=mcc(cosines),
        uniqueness=float(torch.unique(closest).shape[0]) / F,
        explained_variance=explained_variance(x, torch.cat(hats)), l0=float(ours.sum()) / x.shape[0],
        dead=float((ours == 0).float().mean()),
    )  # fmt: skip


def mcc(cosines: Tensor) -> float:
    """|cosines| [F, T], matched one to one: the mean of the matched."""
    rows, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    return float(cosines[rows, columns].mean())


def _cosines(left: Tensor, right: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize
    return (unit(left.float(), dim=1) @ unit(right.float(), dim=1).T).abs()


def _ratio(top: Tensor, bottom: Tensor) -> Tensor:
    return torch.where(bottom > 0, top / bottom.clamp_min(1e-30), torch.zeros_like(top))
