"""What a dictionary knows of known concepts, in one go: coverage, sparse probing, absorption, on one set of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.features.absorption import Absorption, absorption
from cutaway.features.components import random_dictionary
from cutaway.features.concepts import LETTER, Concepts
from cutaway.features.detectors import Coverage, coverage
from cutaway.features.fit import placed_sae
from cutaway.features.places import Places
from cutaway.features.probing import SparseProbing, sparse_probing
from cutaway.features.sae import SAE
from cutaway.features.stream import harvest_all

if TYPE_CHECKING:
    from cutaway.model import Model

LEAST_ROWS = 8  # of either half, that a concept must hold of, and fail to


@dataclass(frozen=True)
class Knowledge:
    """coverage: of tokens; documents: of whole rows, for concepts that hold of all of a row or of none, activations
    pooled by their maximum or mean (None where no concept is such); absorption: None without first letters."""

    coverage: Coverage
    documents: Coverage | None
    probing: SparseProbing
    absorption: Absorption | None

    def to_json(self) -> dict[str, Any]:
        return {
            "coverage": self.coverage.to_json(),
            "documents": None if self.documents is None else self.documents.to_json(),
            "probing": self.probing.to_json(),
            "absorption": None if self.absorption is None else self.absorption.to_json(),
        }

    def __str__(self) -> str:
        parts = (self.coverage, self.documents, self.probing, self.absorption)
        return "\n\n".join(str(part) for part in parts if part is not None)

    __repr__ = __str__


@torch.no_grad()
def knowledge(model: Model, dictionary: SAE, concepts: Concepts, seed: int = 0) -> Knowledge:
    """Every other row is learned on; the rest are scored.

    Cost: one pass of the model over the rows, ranks of every feature on at most 6,000 of their tokens, a few logistic
    regressions a concept. Memory: tokens x features x 4 bytes.
    Raises `InputError` where no concept holds often enough.
    """
    concepts = concepts.enough()
    sae = placed_sae(dictionary, model)
    places = Places.of(model, [sae.point], mlps=False)
    x = harvest_all(places, concepts.rows, first_position=False).at[sae.point]
    kept = concepts.kept
    labels = concepts.labels[kept]
    row = torch.arange(concepts.rows.shape[0])[:, None].expand_as(concepts.rows)[kept]
    learn = row % 2 == 0
    a = sae.encode(x)
    l0 = max(1, round(float((a != 0).float().sum(1).mean())))
    random = random_dictionary(x, l0, sae.n_features, seed)
    beside = {"neurons": x, "random directions": random.encode(x)}
    letters = [i for i, name in enumerate(concepts.names) if name.startswith(LETTER)]
    found = coverage(a, beside, labels, concepts.names, learn, source=concepts.source, x=x, seed=seed)
    probed = sparse_probing({"features": a, **beside}, x, labels, learn, seed)
    absorbed = None
    if letters and sae.output_point is None:
        names = [concepts.names[i] for i in letters]
        absorbed = absorption(sae, random, x, labels[:, letters], names, learn)
    return Knowledge(found, _of_documents(a, beside, x, labels, row, concepts, seed), probed, absorbed)


def _of_documents(
    a: Tensor, beside: Mapping[str, Tensor], x: Tensor, labels: Tensor, row: Tensor, concepts: Concepts, seed: int
) -> Coverage | None:
    """Coverage of whole rows: each coordinate's maximum and mean over the row's tokens are candidates."""
    numbers, which = torch.unique(row, return_inverse=True)
    count = torch.bincount(which)[:, None]

    def mean(values: Tensor) -> Tensor:
        return torch.zeros(len(numbers), values.shape[1]).index_add_(0, which, values.float()) / count

    def pooled(values: Tensor) -> Tensor:
        top = torch.full((len(numbers), values.shape[1]), -torch.inf)
        top.scatter_reduce_(0, which[:, None].expand_as(values), values.float(), "amax")
        return torch.cat([top, mean(values)], 1)

    share = mean(labels)
    whole = ((share == 0) | (share == 1)).all(0)
    holds = share > 0.5
    for side in (numbers % 2 == 0, numbers % 2 == 1):
        found = holds[side].sum(0)
        whole &= (found >= LEAST_ROWS) & (found <= int(side.sum()) - LEAST_ROWS)
    if not bool(whole.any()):
        return None
    names = tuple(name for name, keep in zip(concepts.names, whole.tolist()) if keep)
    made = coverage(
        pooled(a), {name: pooled(value) for name, value in beside.items()}, holds[:, whole], names, numbers % 2 == 0,
        source=f"{concepts.source}; whole documents, pooled by maximum or mean", x=mean(x), seed=seed,
        units="documents",
    )  # fmt: skip
    # The second half of the candidates are means of the same features.
    return replace(made, found=tuple(replace(one, feature=one.feature % a.shape[1]) for one in made.found))
