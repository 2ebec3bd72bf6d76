"""Activations x = sum_i a_i d_i + b of features that are known, after SynthSAEBench (Chanin & Garriga-Alonso 2026).

    d_i      unit vectors [F, d], F > d: random, then pushed apart by gradient steps on sum_{i != j} (d_i . d_j)^2
    p_i      how often each fires: i^-exponent, stretched from p_max to p_min
    roots    and features outside the hierarchy fire by a Gaussian copula of low rank: z = U e + sqrt(1 - |U_i|^2) n,
             fires where Phi(z) > 1 - p
    children fire only with their parent, at most one of a parent's at a time: child c with probability p_c / p_parent
    a_i      where it fires max(0, m_i + s_i n), m falling linearly with the rank, s_i = |N(.5, .5)|; a child's is
             multiplied by its parent's over that one's mean

The published benchmark is `SyntheticSettings.published()` (16,384 features in 768 dimensions); the default is its shape
at a size for one core. Two differences, so that the frequencies are exact: siblings are drawn at once instead of by
exclusion afterwards, and where they would not fit under their parent they are made rarer (p says how rare).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cutaway.core import InputError

_DRAWN = 4_194_304  # numbers drawn at a time
_ROOM = 0.9  # of its parent's firings, what all children of one may take


@dataclass(frozen=True)
class SyntheticSettings:
    """What to draw. roots: features that have children, `branching` each, down to `depth` generations of them.

    rank, correlation: of the copula; 0 for independent features. push: gradient steps apart (Adam, rate 3e-4).
    """

    features: int = 512
    d: int = 64
    exponent: float = 0.5
    p_max: float = 0.4
    p_min: float = 5e-4
    roots: int = 4
    branching: int = 4
    depth: int = 3
    rank: int = 25
    correlation: float = 0.1
    push: int = 100
    magnitude: tuple[float, float] = (5.0, 4.0)
    spread: tuple[float, float] = (0.5, 0.5)
    bias: float = 1.0
    seed: int = 0

    @classmethod
    def published(cls, seed: int = 0) -> SyntheticSettings:
        """SynthSAEBench-16k."""
        return cls(features=16_384, d=768, p_max=0.4, roots=128, seed=seed)

    @classmethod
    def plain(cls, seed: int = 0) -> SyntheticSettings:
        """As many orthogonal features as dimensions, independent, no hierarchy: what any dictionary should find."""
        return cls(features=64, d=64, p_max=0.1, p_min=0.05, roots=0, rank=0, push=0, seed=seed)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Sample:
    """x [n, d], and the features that made it, a [n, F]."""

    x: Tensor
    a: Tensor


@dataclass(frozen=True, eq=False)
class Synthetic:
    """directions [F, d], p [F] (marginal, exact), parent [F] (-1: none), order of generation by depth."""

    settings: SyntheticSettings
    directions: Tensor
    p: Tensor
    parent: Tensor
    depth: Tensor
    loadings: Tensor
    mean: Tensor
    spread: Tensor
    bias: Tensor

    @property
    def l0(self) -> float:
        """Features active a sample, on average."""
        return float(self.p.sum())

    def sample(self, n: int, seed: int) -> Sample:
        """n samples. Memory: 4 F bytes each, and 100 MB while they are drawn."""
        if n < 1:
            raise InputError(f"at least one sample is drawn; {n} were asked for.")
        g = torch.Generator().manual_seed(seed)
        at_once = max(1, _DRAWN // self.settings.features)
        a = torch.cat([self._draw(min(at_once, n - at), g) for at in range(0, n, at_once)])
        return Sample(self.write(a) + self.bias, a)

    def _draw(self, n: int, g: torch.Generator) -> Tensor:
        F = self.settings.features
        z = torch.randn(n, F, generator=g)
        if self.loadings.shape[1]:
            alone = (1 - self.loadings.square().sum(1)).sqrt()
            z = torch.addcmul(torch.randn(n, self.loadings.shape[1], generator=g) @ self.loadings.T, alone, z)
        fires = z > -torch.special.ndtri(self.p.double()).float()
        fires[:, self.parent >= 0] = False
        for level in range(1, int(self.depth.max()) + 1):
            self._children(fires, level, g)
        a: Tensor = (self.mean + self.spread * torch.randn(n, F, generator=g)).relu_() * fires
        for level in range(1, int(self.depth.max()) + 1):
            of = (self.depth == level).nonzero()[:, 0]
            above = self.parent[of]
            a[:, of] *= a[:, above] / self.mean[above]
        return a

    def write(self, a: Tensor) -> Tensor:
        """sum_i a_i d_i, [n, d], over the few features that are active."""
        at = a.nonzero()
        before = torch.bincount(at[:, 0], minlength=len(a)).cumsum(0).roll(1)
        before[0] = 0
        x: Tensor = torch.nn.functional.embedding_bag(
            at[:, 1], self.directions, before, mode="sum", per_sample_weights=a[at[:, 0], at[:, 1]]
        )
        return x

    def _children(self, fires: Tensor, level: int, g: torch.Generator) -> None:
        """Siblings of one generation at once: one uniform number a family says which child fires, if any."""
        of = (self.depth == level).nonzero()[:, 0]
        share = (self.p[of] / self.p[self.parent[of]]).view(self.settings.branching, -1)  # [child, family], as in _tree
        high = share.cumsum(0)
        u = torch.rand(len(fires), 1, share.shape[1], generator=g)
        chosen = ((u < high) & (u >= high - share)).view(len(fires), -1)
        fires[:, of] = fires[:, self.parent[of]] & chosen


def synthetic(settings: SyntheticSettings | None = None, **changes: Any) -> Synthetic:
    """Draw the features of `settings` (or of the default with `changes`).

    Raises `InputError` for a hierarchy that needs more features than there are, and for settings that are no
    probabilities. Cost: `push` products of [d, F] by [F, d] and their gradients: a minute for the published size.
    """
    s = replace(settings or SyntheticSettings(), **changes)
    if not 0 < s.p_min <= s.p_max < 1:
        raise InputError(f"frequencies lie between 0 and 1, p_min <= p_max; {s.p_min} and {s.p_max} were given.")
    if s.features < 2 or s.d < 1:
        raise InputError(f"at least two features and a dimension; {s.features} in {s.d} were asked for.")
    g = torch.Generator().manual_seed(s.seed)
    parent, depth = _tree(s)
    rank = torch.arange(1, s.features + 1, dtype=torch.float64) ** -s.exponent
    p = s.p_min + (s.p_max - s.p_min) * (rank - rank[-1]) / (rank[0] - rank[-1])
    for level in range(1, int(depth.max()) + 1):
        of = (depth == level).nonzero()[:, 0]
        taken = torch.zeros(s.features, dtype=torch.float64).index_add_(0, parent[of], p[of])
        p[of] *= (_ROOM * p[parent[of]] / taken[parent[of]]).clamp(max=1)
    loadings = s.correlation * torch.randn(s.features, s.rank, generator=g)
    loadings *= (0.95 / loadings.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp(max=1)
    start, end = s.magnitude
    bias = torch.randn(s.d, generator=g)
    return Synthetic(
        settings=s,
        directions=_directions(s, g),
        p=p.float(),
        parent=parent,
        depth=depth,
        loadings=loadings,
        mean=torch.linspace(start, end, s.features),
        spread=(s.spread[0] + s.spread[1] * torch.randn(s.features, generator=g)).abs(),
        bias=s.bias * bias / bias.norm(),
    )


def _tree(s: SyntheticSettings) -> tuple[Tensor, Tensor]:
    """(parent, depth) [F]. The roots are the most frequent; each generation follows, by rank."""
    parent, depth = torch.full((s.features,), -1), torch.zeros(s.features, dtype=torch.long)
    above = torch.arange(s.roots)
    used = s.roots
    for level in range(1, s.depth + 1 if s.roots else 1):
        n = len(above) * s.branching
        if used + n > s.features:
            raise InputError(
                f"{s.roots} roots of {s.branching} children down to depth {s.depth} need more than the {s.features} "
                "features there are."
            )
        here = torch.arange(used, used + n)
        parent[here] = above.repeat(s.branching)
        depth[here] = level
        above, used = here, used + n
    return parent, depth


def _directions(s: SyntheticSettings, g: torch.Generator) -> Tensor:
    """[F, d] of length 1: orthogonal where they fit, else random and pushed apart."""
    W = torch.randn(s.features, s.d, generator=g)
    if s.features <= s.d:
        orthogonal: Tensor = torch.linalg.qr(W.T).Q.T.contiguous()
        return orthogonal
    W = torch.nn.functional.normalize(W, dim=1).requires_grad_(True)
    optimiser = torch.optim.Adam([W], lr=3e-4)
    for _ in range(s.push):
        unit = torch.nn.functional.normalize(W, dim=1)
        # the sum over all pairs of (d_i . d_j)^2 is |D^T D|^2, d by d in place of F by F
        loss = ((unit.T @ unit).square().sum() - unit.square().sum(1).square().sum()) / 2
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    found: Tensor = torch.nn.functional.normalize(W.detach(), dim=1)
    return found
