"""Whether a subspace works by what the network reads, and along directions that it uses by itself.

Dormant pathways (Makelov, Lange & Nanda 2023, "Is this the subspace you are looking for?"): a direction can carry a
variable in a part that nothing downstream reads, and act through a part in which the network hardly ever varies. Two
cuts look for it: the part of the subspace in the row space of what reads the place, and the part within the span of the
network's own vectors. Each part is exchanged alone. The first settles it only where the part that is read is also
dormant (the network hardly varies along it): where the next matrix reads a unit only in a sum with others, the
row-space part is another variable, and does less though nothing is dormant (Wu et al. 2024, "A reply to Makelov et
al."). A natural part that does less says that the exchange works where the network does not vary by itself.

Divergence (Grant et al. 2025, "Addressing divergent representations from causal interventions"): how far interchanged
vectors lie from those that the network makes by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.abstraction.data import Data, Spot
from cutaway.abstraction.featurizers import Featurizer, Subspace
from cutaway.core import Estimate
from cutaway.evidence import auroc

NATURAL = 0.999  # of the variance of the network's own vectors: the span in which it varies
FLAT = 1e-4  # of the largest singular value: below it a matrix reads nothing


@dataclass(frozen=True, eq=False)
class Cut:
    """A subspace cut in two by a span of `dims` directions: `inside` of it and `outside` (None where a part is empty).

    `span`: what the span is, in words. `share`: of what an interchange writes, in squared length, that lies outside.
    `activity`: how much sources differ from bases along the inner part, over the average direction of the place (1).
    """

    span: str
    dims: int
    inside: Featurizer | None
    outside: Featurizer | None
    share: float
    activity: float


def read_cut(data: Data, spot: Spot, featurizer: Featurizer, rows: Tensor) -> Cut | None:
    """By the row space of the one matrix that the point goes into (mlp_act, z, a module before an `nn.Linear` of the
    same `nn.Sequential`). None where there is no such matrix (all of a residual stream may be read), or for features
    that are not linear."""
    matrix, name = _next_matrix(data, spot)
    if matrix is None:
        return None
    _, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    return _cut(data, spot, featurizer, rows, v[s > FLAT * s.max()].float(), f"the row space of {name}")


def natural_cut(data: Data, spot: Spot, featurizer: Featurizer, rows: Tensor, known: Tensor) -> Cut | None:
    """By the directions that hold 99.9 % of the variance of the network's own vectors on the items `known`."""
    natural = torch.cat([data.base(spot)[known], spot.source[known]]).flatten(0, 1).double().cpu()
    _, s, v = torch.linalg.svd(natural - natural.mean(0), full_matrices=False)
    variance = (s**2).cumsum(0) / (s**2).sum().clamp(min=1e-30)
    span = v[: int((variance < NATURAL).sum()) + 1].float()
    return _cut(data, spot, featurizer, rows, span, f"{NATURAL:.1%} of the variance of the network's own vectors")


def _cut(data: Data, spot: Spot, featurizer: Featurizer, rows: Tensor, span: Tensor, name: str) -> Cut | None:
    basis = featurizer.rows(spot.width)
    if basis is None or not len(basis):
        return None
    inside = basis @ span.T @ span
    outside = basis - inside
    moved = (spot.source[rows] - data.base(spot)[rows]).float().flatten(0, 1).cpu() @ basis.T
    off = (moved @ outside).pow(2).sum() / (moved @ basis).pow(2).sum().clamp(min=1e-30)
    part = _spanned(inside)
    apart = (spot.source[rows] - data.base(spot)[rows]).float().flatten(0, 1).cpu()
    along = 0.0
    if part is not None:
        average = apart.pow(2).sum() / spot.width
        along = float((apart @ part.basis.T).pow(2).sum() / part.size / average.clamp(min=1e-30))
    return Cut(name, len(span), part, _spanned(outside), float(off), along)


def _spanned(directions: Tensor) -> Subspace | None:
    _, s, v = torch.linalg.svd(directions.double(), full_matrices=False)
    kept = v[s > 1e-3]
    return Subspace(kept.float().contiguous(), "part") if len(kept) else None


def _next_matrix(data: Data, spot: Spot) -> tuple[Tensor | None, str]:
    """[out, width] of the one matrix that a point goes into, and its name."""
    site = data.model.site(spot.address)
    module: Any = None
    if site.name in ("mlp_act", "z") and site.via == "input":
        module = site.module
    elif site.free and (children := data.continuation.children) is not None:
        after = next((i + 1 for i, child in enumerate(children) if child is site.module), len(children))
        module = children[after] if after < len(children) else None
    weight: Tensor | None = getattr(module, "weight", None)
    if weight is None or weight.ndim != 2:
        return None, ""
    if not isinstance(module, nn.Linear):
        if type(module).__name__ != "Conv1D":
            return None, ""
        weight = weight.T  # GPT-2 keeps [in, out]
    matrix = weight.detach().cpu()
    if spot.head is not None:
        shape = data.continuation.read[spot.address].shape
        matrix = matrix.reshape(len(matrix), shape[2], shape[3])[:, list(spot.head)].flatten(1)
    if matrix.shape[1] != spot.width:
        return None, ""
    return matrix, "W_O" if site.name == "z" else "W_down" if site.name == "mlp_act" else "the next layer"


def divergence(
    data: Data, spots: Sequence[Spot], featurizers: Sequence[Featurizer], train: Tensor, test: Tensor
) -> Estimate:
    """AUROC of telling interchanged vectors from natural ones by the distance to the nearest natural vector (of the
    training items): 0.5 where they cannot be told apart, 1 where each lies farther off than all natural ones. The
    largest over the variables."""
    worst: Estimate | None = None
    for spot, featurizer in zip(spots, featurizers):
        base = data.base(spot).float().cpu()
        known = torch.cat([base[train], spot.source[train].float().cpu()]).flatten(0, 1)
        natural = base[test].flatten(0, 1)
        made = featurizer.swap(base[test], spot.source[test].float().cpu()).flatten(0, 1)
        moved = (made - natural).norm(dim=-1) > 1e-6 * natural.norm(dim=-1).clamp(min=1e-12)
        if not bool(moved.any()):
            continue
        distances = torch.cat([torch.cdist(natural, known).amin(1), torch.cdist(made[moved], known).amin(1)])
        labels = torch.cat([torch.zeros(len(natural)), torch.ones(int(moved.sum()))])
        found = auroc(distances.double().numpy(), labels.numpy(), name="divergence from natural vectors (AUROC)")
        worst = found if worst is None or found.value > worst.value else worst
    return worst or Estimate(name="divergence from natural vectors (AUROC)", value=float("nan"), n=0)
