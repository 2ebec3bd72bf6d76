"""How far one head reads what an earlier one writes: Q-, K- and V-composition (Elhage et al. 2021).

    Q: |W_QK^T W_OV'|     K: |W_QK W_OV'|     V: |W_OV W_OV'|     each over the product of the two Frobenius norms

with W_QK = W_Q^T W_K and W_OV = W_O W_V of the later head, W_OV' of the earlier. All are [d_model, d_model] of rank
d_head; only [d_head, d_head] products are formed.

Null: the earlier head's output turned by a uniformly random rotation, which keeps both heads' spectra. There the mean
square is exactly 1 / d_model (E |A R B|^2 = |A|^2 |B|^2 / d); draws give its spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.core import Estimate, Evidence, InputError
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import rerandomise
from cutaway.model import Model
from cutaway.readouts.head_weights import HeadWeights, head_weights
from cutaway.readouts.seeds import beside_seeds

SCHEMA = "cutaway.composition/1"
KINDS = ("Q", "K", "V")


@dataclass(frozen=True, eq=False, repr=False)
class Composition(Drawn):
    """scores[kind] [heads, heads]: the later head's row, the earlier head's column; zero where not earlier.

    draws[kind] [n]: the largest score over all pairs in each random draw. `expected` = 1 / sqrt(d_model).
    """

    model: str
    places: tuple[tuple[int, int], ...]
    scores: dict[str, Tensor]
    draws: dict[str, Tensor]
    expected: float
    said: tuple[str, ...]
    evidence: tuple[Evidence, ...]

    def top(self, kind: str, k: int = 10) -> list[tuple[tuple[int, int], tuple[int, int], float]]:
        """(later head, earlier head, score), largest first."""
        if kind not in KINDS:
            raise InputError(f"composition is of kind Q, K or V; {kind!r} was given.")
        flat = self.scores[kind].flatten()
        chosen = flat.topk(min(k, int((flat > 0).sum())))
        n = len(self.places)
        return [
            (self.places[i // n], self.places[i % n], v)
            for i, v in zip(chosen.indices.tolist(), chosen.values.tolist())
        ]

    def table(self, k: int = 6) -> str:
        rows = [("kind", "reads", "what writes", "score", "above chance", "p (any pair)")]
        for kind in KINDS:
            for later, earlier, value in self.top(kind, k):
                p = (1 + int((self.draws[kind] >= value).sum())) / (1 + len(self.draws[kind]))
                rows.append(
                    (kind, _name(later), _name(earlier), f"{value:.3f}", f"{value / self.expected:.1f}x", f"{p:.3f}")
                )
        return "\n".join(
            [
                f"composition of heads in {self.model} (chance {self.expected:.3f} = 1/sqrt(d_model); p: share of "
                f"{len(self.draws['Q'])} random rotations in which any pair scores as high)",
                *columns(rows, right=(3, 4, 5)),
                *(f"  left out: {item}" for item in self.said),
            ]
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "heads": [_name(place) for place in self.places],
            "scores": {kind: x.tolist() for kind, x in self.scores.items()},
            "largest_in_random_draws": {kind: x.tolist() for kind, x in self.draws.items()},
            "expected": self.expected,
            "left_out": list(self.said),
            "evidence": [item.to_json() for item in self.evidence],
        }

    def __str__(self) -> str:
        return "\n\n".join([self.table(), *map(str, self.evidence)])

    __repr__ = __str__


def composition(
    model: Model, *, draws: int | None = None, null_seeds: Sequence[int] = (0, 1, 2, 3, 4), seed: int = 0
) -> Composition:
    """Composition scores of all pairs of heads in different layers, beside random rotations and re-randomised models.

    draws: of rotations; by default 40, or 8 for models of more than 100 heads.
    Costs (1 + draws + seeds) x heads^2 products [d_head, d_model] x [d_model, d_head]. Raises InputError for a model of
    one layer, and where the head weights cannot be read.
    """
    if model.facts.n_layers < 2:
        raise InputError(f"{model.name} has one layer: no head comes after another, so nothing composes.")
    w = head_weights(model)
    draws = (40 if len(w.places) <= 100 else 8) if draws is None else draws
    layer = torch.tensor([place[0] for place in w.places])
    later = layer[:, None] > layer[None, :]
    generator = torch.Generator().manual_seed(seed)
    sides = _sides(w)
    random: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for null_seed in null_seeds:
        r = head_weights(rerandomise(model, seed=null_seed))
        for kind, side in _sides(r).items():
            random[kind].append(float(_scores(*side, r.o, r.v, later).max()))
    scores = {kind: _scores(*sides[kind], w.o, w.v, later) for kind in KINDS}
    largest: dict[str, list[float]] = {kind: [] for kind in KINDS}
    left, s, right = torch.linalg.svd(w.o.double(), full_matrices=False)
    for _ in range(draws):
        noise = torch.randn(left.shape, generator=generator, dtype=torch.float64).to(left.device)
        turned = (torch.linalg.qr(noise).Q * s[:, None, :] @ right).float()  # W_O with its spectrum, in a random place
        for kind in KINDS:
            largest[kind].append(float(_scores(*sides[kind], turned, w.v, later).max()))
    found = {kind: torch.tensor(values) for kind, values in largest.items()}
    expected = 1 / math.sqrt(model.facts.d_model)
    pairs = int(later.sum())
    records = tuple(_evidence(kind, scores[kind], found[kind], random[kind], expected, pairs, seed) for kind in KINDS)
    return Composition(model.name, w.places, scores, found, expected, w.said, records)


def _sides(w: HeadWeights) -> dict[str, tuple[Tensor, Tensor]]:
    """Each kind's later matrix as left^T right: what it does with the stream (right [h, d_head, d]) and the rest."""
    return {"Q": (w.k, w.q), "K": (w.q, w.k), "V": (w.o.transpose(1, 2), w.v)}


def _scores(left: Tensor, right: Tensor, o: Tensor, v: Tensor, later: Tensor) -> Tensor:
    """|left^T right o' v'| / (|left^T right| |o' v'|) for all pairs: [heads, heads], zero where not `later`.

    |L^T X V|^2 = tr(X^T (L L^T) X (V V^T)) with X = right o', [d_head, d_head].
    """
    gram_left = left @ left.transpose(1, 2)  # [h, c, c]
    gram_v = v @ v.transpose(1, 2)
    own = torch.einsum("hij,hji->h", gram_left, right @ right.transpose(1, 2)).clamp(min=0).sqrt()
    written = torch.einsum("hij,hji->h", o.transpose(1, 2) @ o, gram_v).clamp(min=0).sqrt()
    out = torch.zeros(later.shape)
    for h in range(len(left)):  # one later head at a time bounds the memory
        (earlier,) = torch.nonzero(later[h], as_tuple=True)
        if not len(earlier):
            continue
        x = right[h] @ o[earlier]  # [e, c, c]
        square = ((gram_left[h] @ x) * (x @ gram_v[earlier])).sum((1, 2)).clamp(min=0)
        out[h, earlier] = (square.sqrt() / (own[h] * written[earlier]).clamp(min=1e-30)).cpu()
    return out


def _evidence(
    kind: str, scores: Tensor, draws: Tensor, random: list[float], expected: float, pairs: int, seed: int
) -> Evidence:
    largest = float(scores.max())
    effect = Estimate(name=f"largest {kind}-composition of {pairs} pairs", value=largest, n=pairs)
    null = beside_seeds(effect, draws.tolist(), "largest of all pairs, earlier heads turned at random", exact=True)
    other = beside_seeds(effect, random, "largest of all pairs, re-randomised model", exact=True)
    return Evidence(
        claim=f"Some head's {kind} reads what an earlier head writes",
        effect=effect,
        nulls=(null, other) if random else (null,),
        seeds=(seed,),
        how="Frobenius norm of the product over the product of norms. The nulls' largest are taken over as many pairs, "
        "so the search is part of them. A rotation keeps each head's spectrum, the re-randomised model each "
        "matrix's mean.",
        settings={"expected of one random pair": expected},
    )


def _name(place: tuple[int, int]) -> str:
    return f"{place[0]}.{place[1]}"
