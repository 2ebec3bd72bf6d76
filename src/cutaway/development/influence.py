"""What covariances over the local posterior say: which items, and which parts of the data, weights answer to.

BIF          B_ij = -Cov(l_i(w), l_j(w)): how the loss of item j moves when item i weighs more (Kreer et al. 2025,
             "Bayesian influence functions for Hessian-free data attribution"); the correlation is its normal form
susceptibility  chi = -n beta Cov(phi(w), l_D'(w) - l_D(w)) with phi = L_n(w) - L_n(w*) over draws that move one
             component alone: how the posterior mean of that component's loss moves when data D' are mixed in
             (Baker et al. 2025, "Structural inference")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.core import Estimate, InputError
from cutaway.core.drawing import Drawn
from cutaway.development.chains import Floats, Setting, sample
from cutaway.development.loss import Loss
from cutaway.evidence import bootstrap


@dataclass(frozen=True, eq=False)
class Influence(Drawn):
    """bif and correlation [items, items], over all chains' draws; losses [chains, draws, items]."""

    bif: Floats
    correlation: Floats
    losses: Floats
    setting: Setting

    def to_json(self) -> dict[str, Any]:
        return {"schema": "cutaway.bif/1", "bif": self.bif.tolist(), "correlation": self.correlation.tolist()}


def items_observed(loss: Loss, rows: Tensor) -> Any:
    """A function of positions [chains, d] -> the losses of those items [chains, items]. Costs a forward a chain."""
    batch = loss.batch(rows)
    return lambda w: torch.stack([loss.items(one, *batch) for one in w])


def bayesian_influence(loss: Loss, setting: Setting, rows: Tensor) -> Influence:
    """The Bayesian influence function between items `rows` of the loss's data.

    Costs the chains, and a forward of the items a draw. Covariances are within chains (a chain's mean is its own).
    """
    drawn = sample(loss, setting, observe={"items": items_observed(loss, rows)})
    losses = drawn.observed["items"].double().cpu().numpy()
    centred = losses - losses.mean(1, keepdims=True)
    flat = centred.reshape(-1, losses.shape[-1])
    covariance = flat.T @ flat / (len(flat) - len(losses))
    scale = np.sqrt(np.diag(covariance))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = covariance / scale[:, None] / scale[None]
    return Influence(-covariance, correlation, losses, setting)


def susceptibilities(loss: Loss, setting: Setting, others: Mapping[str, Loss]) -> dict[str, Estimate]:
    """chi of the weights that `loss` moves, for each data set of `others` (the same module and weights).

    The interval is over chains. Costs the chains, and a forward of each data set a draw.
    Raises InputError where another loss moves other weights.
    """
    for name, other in others.items():
        if other.d != loss.d or not torch.equal(other.origin, loss.origin):
            raise InputError(f"the data set {name!r} must come with a loss of the same module and weights.")
    observe = {name: other.full for name, other in others.items()}
    drawn = sample(loss, setting, observe={**observe, "": loss.full})
    own = drawn.observed[""].double().cpu().numpy()
    found = {}
    for name in others:
        shift = drawn.observed[name].double().cpu().numpy() - own  # [chains, draws]
        covariance = ((own - own.mean(1, keepdims=True)) * (shift - shift.mean(1, keepdims=True))).sum(1) / (
            own.shape[1] - 1
        )
        found[name] = bootstrap(
            -setting.n_beta * covariance, name=f"susceptibility to {name}", over="chains", method="percentile",
            seed=setting.seed,
        )  # fmt: skip
    return found
