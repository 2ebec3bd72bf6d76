"""How the error falls with the number of features: a power law over dictionaries of one point.

    FVU(F) = c F^-alpha      log FVU = log c - alpha log F, least squares over widths

Beside it the same law of random dictionaries as wide, at each one's L0: their error falls with F too, since more
directions to choose from help whatever they are. A dictionary learns more with width only as far as its alpha is above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, InputError
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.features.components import random_dictionary
from cutaway.features.fit import placed_sae
from cutaway.features.places import Places
from cutaway.features.sae import SAE
from cutaway.features.statistics import over_rows
from cutaway.features.stream import as_rows, harvest_all, kept_positions

if TYPE_CHECKING:
    from cutaway.model import Model

WIDTHS = 3  # at least, for a law
_ALIKE = 0.2  # L0s further apart than this share of their mean are said to be


@dataclass(frozen=True)
class Scaling(Drawn):
    """fvu, random: fraction of variance unexplained at each width, of the dictionaries and of random ones."""

    point: str
    n_tokens: int
    widths: tuple[int, ...]
    l0: tuple[float, ...]
    fvu: tuple[Estimate, ...]
    random: tuple[Estimate, ...]
    alpha: Estimate
    evidence: Evidence

    def to_json(self) -> dict[str, Any]:
        held = {name: [one.model_dump(mode="json") for one in getattr(self, name)] for name in ("fvu", "random")}
        return {
            "schema": "cutaway.scaling/1", "point": self.point, "n_tokens": self.n_tokens, "widths": list(self.widths),
            "l0": list(self.l0), **held, "alpha": self.alpha.model_dump(mode="json"),
            "evidence": self.evidence.to_json(),
        }  # fmt: skip

    def __str__(self) -> str:
        table = [["features", "L0", "variance unexplained", "random directions"]]
        for i, width in enumerate(self.widths):
            table.append([f"{width:,}", f"{self.l0[i]:.1f}", str(self.fvu[i]), str(self.random[i])])
        apart = max(self.l0) - min(self.l0) > _ALIKE * sum(self.l0) / len(self.l0)
        return "\n".join(
            [
                f"error over widths at {self.point}, {self.n_tokens:,} held-out tokens: unexplained = c F^-alpha",
                *columns(table, right=range(4)),
                f"  alpha {self.alpha}, random directions {self.evidence.nulls[0].estimate}",
                *(["  the L0s differ: part of the slope is theirs"] if apart else []),
                f"  {self.evidence.claim}: {self.evidence.verdict_text}",
            ]
        )

    __repr__ = __str__


@torch.no_grad()
def scaling(model: Model, dictionaries: Sequence[SAE], rows: ArrayLike | Tensor, seed: int = 0) -> Scaling:
    """dictionaries: of one point, at least three widths; rows: held-out token ids [rows, position] (-1 pads).

    Intervals: bootstrap over rows. Cost: one forward over the rows, two passes of each width.
    Raises `InputError` for fewer widths, and for dictionaries of other points.
    """
    saes = sorted((placed_sae(one, model) for one in dictionaries), key=lambda one: one.n_features)
    if len({one.n_features for one in saes}) < WIDTHS:
        raise InputError(f"a law over widths needs {WIDTHS} widths; {len({s.n_features for s in saes})} were given.")
    if len({(one.point, one.writes_to) for one in saes}) != 1:
        raise InputError("a law over widths is of dictionaries of one point.")
    found = as_rows(rows, model.facts.vocab_size)
    at = harvest_all(Places.of(model, [saes[0].point, saes[0].writes_to], mlps=False), found, first_position=False).at
    x, y = at[saes[0].point], at[saes[0].writes_to]
    kept = kept_positions(found, first_position=False)
    size = _by_row((y - y.mean(0)).square().sum(-1), kept)
    errors: dict[str, list[NDArray[np.float64]]] = {"fvu": [], "random": []}
    l0 = []
    for sae in saes:
        y_hat, active = sae.reconstruct(x)
        l0.append(len(active) / len(x))
        blind, _ = random_dictionary(y, max(1, round(l0[-1])), sae.n_features, seed).reconstruct(y)
        for name, hat in (("fvu", y_hat), ("random", blind)):
            errors[name].append(_by_row((y - hat).square().sum(-1), kept))
    widths = tuple(one.n_features for one in saes)

    def ratios(name: str) -> tuple[Estimate, ...]:
        return tuple(
            over_rows(
                np.stack([e, size], -1), lambda v: v[:, 0].sum() / v[:, 1].sum(), "variance unexplained", seed=seed
            )
            for e in errors[name]
        )

    def slope(name: str, what: str) -> Estimate:
        def alpha(v: NDArray[np.float64]) -> float:
            return -float(np.polyfit(np.log(widths), np.log(v[:, :-1].sum(0) / v[:, -1].sum()), 1)[0])

        return over_rows(np.stack([*errors[name], size], -1), alpha, what, seed=seed)

    ours = slope("fvu", "alpha")
    evidence = Evidence(
        claim="wider dictionaries explain more than wider random ones do",
        effect=ours, nulls=(Comparison(estimate=slope("random", "random directions as many")),), seeds=(seed,),
        how=f"least squares in logarithms over {len(widths)} widths; bootstrap over rows, the dictionaries as they are",
    )  # fmt: skip
    return Scaling(
        saes[0].writes_to, len(x), widths, tuple(l0), ratios("fvu"), ratios("random"), ours, evidence
    )  # fmt: skip


def _by_row(values: Tensor, kept: Tensor) -> NDArray[np.float64]:
    """Values at the kept positions [n] -> their sums a row, [rows]."""
    row = kept.nonzero()[:, 0].to(values.device)
    return torch.zeros(kept.shape[0], dtype=torch.float64).index_add_(0, row.cpu(), values.double().cpu()).numpy()
