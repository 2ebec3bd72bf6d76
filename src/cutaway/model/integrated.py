"""Integrated gradients at a point (Sundararajan, Taly and Yan 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.core.drawing import Drawn
from cutaway.model.freeze import Frozen
from cutaway.model.interventions import Intervention, patch
from cutaway.model.tokens import Batch

if TYPE_CHECKING:
    from cutaway.model.model import Model
    from cutaway.model.run import Run

SCHEMA = "cutaway.integrated_gradients/1"


@dataclass(frozen=True, eq=False, repr=False)
class IntegratedGradients(Drawn):
    """`attributions` in the shape of the point; `change` [row] is of(clean) less of(clean with the baseline at the
    point), which the attributions of a row sum to in the limit of many steps; `error` [row] is by how much they do
    not. With an `of` that gives one number for all rows there is one entry."""

    at: str
    attributions: Tensor
    change: Tensor
    steps: int
    batch: Batch
    tokens: list[list[str]]

    @property
    def by_position(self) -> Tensor:
        """[batch, position]: summed over the axes after the position."""
        return self.attributions.flatten(2).sum(-1)

    @property
    def error(self) -> Tensor:
        sums = self.attributions.flatten(1).sum(1)
        return (sums if len(self.change) > 1 or len(sums) == 1 else sums.sum()[None]) - self.change

    def __str__(self) -> str:
        lines = [
            f"integrated gradients at {self.at}, {self.steps} steps; each token's share of the change in the metric"
        ]
        for row, (start, length) in enumerate(zip(self.batch.layout.starts, self.batch.layout.lengths)):
            if row == 8:
                lines.append(f"… and {len(self.tokens) - 8} more rows")
                break
            lines.append(f"row {row}")
            for token, share in zip(self.tokens[row], self.by_position[row, start : start + length].tolist()):
                lines.append(f"  {token!r:20} {share:+10.4f}")
        for row, (change, error) in enumerate(zip(self.change.tolist(), self.error.tolist())):
            which = f"row {row}: " if len(self.change) > 1 else ""
            lines.append(
                f"{which}sum {change + error:+.4f}, change of the metric {change:+.4f} (they differ {error:+.1e})"
            )
        return "\n".join(lines)

    __repr__ = __str__

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "at": self.at,
            "steps": self.steps,
            "tokens": self.tokens,
            "by_position": self.by_position.tolist(),
            "change": self.change.tolist(),
            "error": self.error.tolist(),
        }


def integrated_gradients(
    model: Model,
    clean: Any,
    baseline: Any,
    at: str,
    of: Callable[[Tensor], Tensor],
    steps: int = 16,
    *,
    interventions: Sequence[Intervention] = (),
    freeze: Frozen | None = None,
) -> IntegratedGradients:
    """(x - x') times the mean gradient of `of(logits)` on the straight way from x', the baseline's value at `at`, to x.

    sum over k of w_k (x - x') d of / d at (x' + a_k (x - x')), with a_k, w_k the Gauss-Legendre nodes and weights
    on [0, 1]. The attributions add up to of(x) - of(x') (completeness) as closely as `error` says.

    `clean`: a prompt, or a run of it. `baseline`: a prompt of the same shape or its run, a tensor that broadcasts to
    the point, or a number. `of`: logits [batch, position, vocab] -> one number, or one for each row. `interventions`
    are made, and what `freeze` (cw.freeze of a run) holds is held, in every forward. A router switches experts on the
    way, and near a zero baseline a norm turns sharply: there `error` stays large; hold the router, or take a prompt.
    Costs steps + 2 forwards and `steps` backwards; one more forward for a baseline prompt.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"steps must be a whole number of at least 1; given {steps!r}.")
    if freeze is not None and (not isinstance(freeze, Frozen) or freeze.values is None):
        raise InputError("freeze= holds parts at a run's values: cw.freeze(run, 'router'). Detached, nothing adds up.")
    (address,) = model.addresses(at)
    batch = clean.batch if hasattr(clean, "addresses") else model.batch(clean)
    run = model.run(batch, read=[address], interventions=interventions, freeze=freeze)
    x = run[address]
    x0 = _baseline(model, baseline, address, x, batch, interventions)
    total = torch.zeros_like(x)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    for node, weight in zip((nodes + 1) / 2, weights / 2):
        here = [*interventions, patch(address, x0 + float(node) * (x - x0))]
        found = model.run(batch, interventions=here, grad=[address], of=of, freeze=freeze)
        total += float(weight) * found.grad[address]
    start = model.run(batch, interventions=[*interventions, patch(address, x0)], freeze=freeze)
    with torch.no_grad():
        change = (of(run.logits) - of(start.logits)).reshape(-1)
    return IntegratedGradients(
        address, (x - x0) * total, change, steps, batch, [run.token_strings(row) for row in range(len(batch.ids))]
    )


def _baseline(
    model: Model, given: Any, address: str, x: Tensor, batch: Batch, interventions: Sequence[Intervention]
) -> Tensor:
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        return torch.full_like(x, float(given))
    if isinstance(given, Tensor) and given.is_floating_point():
        try:
            return given.to(x).expand(x.shape)
        except RuntimeError as error:
            raise InputError(f"the baseline has shape {list(given.shape)}, {address} {list(x.shape)}.") from error
    run: Run
    if hasattr(given, "addresses"):
        run = given if address in given else given.again(read=[address])
    else:
        run = model.run(given, read=[address], interventions=interventions)
    if run.layout != batch.layout and (run.layout.starts, run.layout.lengths) != (
        batch.layout.starts,
        batch.layout.lengths,
    ):
        raise InputError(
            f"the baseline's rows have {list(run.layout.lengths)} tokens, the clean ones {list(batch.layout.lengths)}; "
            "a straight way between them needs the same tokens at both ends."
        )
    return run.whole(address)
