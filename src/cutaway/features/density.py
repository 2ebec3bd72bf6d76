"""How often features fire: the density histogram, where dead and dense ones show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from cutaway.features.sparse import Active

EDGES = (-5.0, -4.5, -4.0, -3.5, -3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0)  # of log10 of the share of tokens
DENSE = 0.1


class _Reconstructs(Protocol):
    @property
    def n_features(self) -> int: ...

    def reconstruct(self, x: Tensor, /) -> tuple[Tensor, Active]: ...


@dataclass(frozen=True)
class Density:
    """counts [10]: features whose log10 share of tokens lies between two EDGES; dead: never; dense: over a tenth."""

    n_tokens: int
    counts: tuple[int, ...]
    dead: int
    dense: int
    n_features: int

    @classmethod
    @torch.no_grad()
    def of(cls, dictionary: _Reconstructs, x: Tensor) -> Density:
        """On rows x [n, d]."""
        fired = torch.zeros(dictionary.n_features, dtype=torch.long)
        for part in x.split(8192):  # type: ignore[no-untyped-call]
            fired += torch.bincount(dictionary.reconstruct(part)[1].features, minlength=dictionary.n_features).cpu()
        share = fired.double() / x.shape[0]
        logs = share[fired > 0].log10().clamp(EDGES[0], -1e-9)
        counts = torch.histogram(logs, torch.tensor(EDGES, dtype=torch.float64)).hist
        return cls(
            x.shape[0], tuple(int(c) for c in counts), int((fired == 0).sum()), int((share > DENSE).sum()),
            dictionary.n_features,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return {"edges": list(EDGES), "edges_are": "log10 of the share of tokens", **vars(self)}

    def __str__(self) -> str:
        most = max(*self.counts, 1)
        lines = [
            f"density of its {self.n_features} features on {self.n_tokens:,} tokens: {self.dead} never fired, "
            f"{self.dense} on more than {DENSE:.0%} of tokens"
        ]
        for low, high, n in zip(EDGES, EDGES[1:], self.counts):
            if n:
                lines.append(f"  {10**low:8.1e} to {10**high:7.1e} {n:6d} {'█' * max(1, round(30 * n / most))}")
        return "\n".join(lines)
