"""Crosscoders (Lindsey et al. 2024): one set of features for several sources of the same tokens: layers of a model, or
one point of two models.

    a     = act(sum over sources s of W_enc^s (x^s - mean^s) / scale^s + b_enc)
    y^s   = b_dec^s + scale^s W_dec^s,T a
    share of a feature in source s   |W_dec^s| / sum over sources |W_dec^.|      (in each source's own units)

Trained as a dictionary of the sources laid side by side, each in its own units, so that every architecture of
`features.architectures` serves. With BatchTopK no L1 pushes a shared feature to one side, which is what made many
"exclusive" features of L1 crosscoders spurious (Minder et al. 2025).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cutaway.core import Comparison, Evidence, InputError
from cutaway.core.drawing import Drawn
from cutaway.core.table import columns
from cutaway.evidence import explained_variance, proportion
from cutaway.features.fit_rows import fit_rows
from cutaway.features.places import Places
from cutaway.features.sae import SAE
from cutaway.features.settings import TrainSettings
from cutaway.features.stream import as_rows, harvest_all

if TYPE_CHECKING:
    from cutaway.model import Model

EXTRA = "crosscoder"
OWN = 0.9  # share from which a feature counts as a source's own


@dataclass(frozen=True, eq=False)
class Crosscoder:
    """`joint` reads and writes the sources side by side, in their units; names, widths, mean, scale of each source."""

    joint: SAE
    names: tuple[str, ...]
    widths: tuple[int, ...]
    mean: tuple[Tensor, ...]
    scale: tuple[float, ...]

    @property
    def n_features(self) -> int:
        return self.joint.n_features

    def encode(self, x: Mapping[str, Tensor]) -> Tensor:
        """{source: [..., d]} -> [..., F]. Raises `InputError` where a source is missing."""
        return self.joint.encode(self._side_by_side(x))

    def decode(self, a: Tensor) -> dict[str, Tensor]:
        """[..., F] -> {source: [..., d]}."""
        parts = torch.split(self.joint.decode(a), list(self.widths), -1)
        return {name: part * s + m for name, part, s, m in zip(self.names, parts, self.scale, self.mean)}

    def decoder(self, source: str) -> Tensor:
        """[F, d] of one source, in its own activations' units."""
        i = self._index(source)
        part: Tensor = torch.split(self.joint.W_dec, list(self.widths), 1)[i]
        return part * self.scale[i]

    @property
    def shares(self) -> Tensor:
        """[F, sources]: how a feature's decoder is spread over them; rows sum to 1."""
        norms = torch.stack(
            [part.norm(dim=1) for part in torch.split(self.joint.W_dec.float(), list(self.widths), 1)], 1
        )
        return norms / norms.sum(1, keepdim=True).clamp_min(1e-12)

    def _side_by_side(self, x: Mapping[str, Tensor]) -> Tensor:
        if missing := [name for name in self.names if name not in x]:
            raise InputError(f"this crosscoder reads {', '.join(self.names)}; {', '.join(missing)} is missing.")
        return torch.cat([(x[n].float() - m) / s for n, m, s in zip(self.names, self.mean, self.scale)], -1)

    def _index(self, source: str) -> int:
        if source not in self.names:
            raise InputError(f"this crosscoder has no source {source!r}; it has {', '.join(self.names)}.")
        return self.names.index(source)

    def as_sae(self) -> SAE:
        """What `save` writes and `of` reads: the joint dictionary with its sources written in `extra`."""
        held = {
            "names": list(self.names), "widths": list(self.widths), "scale": list(self.scale),
            "mean": [[float(v) for v in m] for m in self.mean],
        }  # fmt: skip
        return self.joint.with_(extra={**self.joint.extra, EXTRA: held})

    @classmethod
    def of(cls, sae: SAE) -> Crosscoder:
        """From what `as_sae` gave. Raises `InputError` for another dictionary."""
        held = sae.extra.get(EXTRA)
        if held is None:
            raise InputError("this dictionary is no crosscoder: its file names no sources.")
        means = tuple(torch.tensor(m) for m in held["mean"])
        return cls(sae, tuple(held["names"]), tuple(held["widths"]), means, tuple(held["scale"]))


def fit_crosscoder(sources: Mapping[str, Tensor], settings: TrainSettings) -> Crosscoder:
    """sources: name -> [n, d_s], row i of each the same token; settings of one dictionary (kind sae).

    Cost as `fit_rows` on the widths together. Raises `InputError` for one source, rows that differ in number, constant
    or non-finite activations.
    """
    if len(sources) < 2:
        raise InputError("a crosscoder has two sources or more; one is a dictionary of a point.")
    if len(settings.dictionaries) != 1:
        raise InputError(f"one crosscoder is trained at a time; {len(settings.dictionaries)} were asked for.")
    if len({len(x) for x in sources.values()}) != 1:
        raise InputError("row i of each source is the same token: they have one number of rows.")
    means, scales, parts = [], [], []
    for name, x in sources.items():
        x = x.float()
        if not bool(torch.isfinite(x).all()):
            raise InputError(f"{name} holds NaN or infinite values.")
        mean = x.mean(0)
        scale = float((x - mean).square().sum(1).median().div(x.shape[1]).sqrt())
        if scale <= 1e-6 * float(mean.square().mean().sqrt()):
            raise InputError(f"{name} is the same for every token: nothing to learn there.")
        means.append(mean)
        scales.append(scale)
        parts.append((x - mean) / scale)
    one = settings.dictionaries[0].model_copy(update={"normalise": "none"})
    joint = fit_rows(torch.cat(parts, 1), settings.model_copy(update={"dictionaries": (one,)}))[one.name]
    widths = tuple(part.shape[1] for part in parts)
    return Crosscoder(joint, tuple(sources), widths, tuple(means), tuple(scales))


@dataclass(frozen=True)
class Diff(Drawn):
    """Two models by one crosscoder. shares: histogram (10 bins from 0, the first alone, to 1, the second alone)."""

    names: tuple[str, str]
    point: str
    n_features: int
    histogram: tuple[int, ...]
    own: tuple[int, int]
    explained: Mapping[str, float]
    evidence: Evidence

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.model_diff/1", "names": list(self.names), "point": self.point,
            "n_features": self.n_features, "histogram": list(self.histogram), "own": list(self.own), "own_from": OWN,
            "explained_variance": dict(self.explained), "evidence": self.evidence.to_json(),
        }  # fmt: skip

    def __str__(self) -> str:
        most = max(*self.histogram, 1)
        bars = [[f"{i / 10:.1f} to {(i + 1) / 10:.1f}", str(n), "█" * round(30 * n / most)] for i, n in
                enumerate(self.histogram)]  # fmt: skip
        first, second = self.names
        return "\n".join(
            [
                f"{first} and {second} at {self.point}: {self.n_features} features that fired; explained variance "
                + ", ".join(f"{name} {value:.3f}" for name, value in self.explained.items()),
                f"share of a feature's decoder in {second}:",
                *columns(bars, right=(1,)),
                f"  {self.own[0]} of {first} alone, {self.own[1]} of {second} alone (share over {OWN})",
                f"  {self.evidence.claim}: {self.evidence.verdict_text}",
            ]
        )

    __repr__ = __str__


def diff_models(
    first: Model, second: Model, token_rows: ArrayLike | Tensor, point: str, settings: TrainSettings
) -> tuple[Crosscoder, Diff]:
    """Which features two models share at a point, and which each has alone. They must read the same ids.

    Beside it the same crosscoder of the first model with itself, on two halves of the text (its own activations on the
    same tokens, with noise of a hundredth of their size): what "alone" is by chance. Cost: a pass of both models, two
    crosscoders.
    """
    if first.facts.vocab_size != second.facts.vocab_size:
        raise InputError("two models are compared on the same ids: their vocabularies differ in size.")
    rows = as_rows(token_rows, first.facts.vocab_size)
    x, y = (
        harvest_all(Places.of(m, [point], mlps=False), rows, first_position=False).at[m.site(point).address]
        for m in (first, second)
    )
    names = (first.name, second.name if second.name != first.name else f"{second.name} (second)")
    made = fit_crosscoder({names[0]: x, names[1]: y}, settings)
    g = torch.Generator().manual_seed(settings.seed)
    again = x + 0.01 * x.std() * torch.randn(x.shape, generator=g)
    null = fit_crosscoder({"a": x, "b": again}, settings)
    alive = _alive(made, {names[0]: x, names[1]: y})
    shares = made.shares[alive, 1]
    alone = int(((shares > OWN) | (shares < 1 - OWN)).sum())
    null_shares = null.shares[_alive(null, {"a": x, "b": again}), 1]
    by_chance = int(((null_shares > OWN) | (null_shares < 1 - OWN)).sum())
    evidence = Evidence(
        claim="the two models have features of their own",
        effect=proportion(alone, len(shares), name="features of one model alone"),
        nulls=(
            Comparison(estimate=proportion(by_chance, len(null_shares), name=f"{first.name} with itself")),
        ),
        seeds=(settings.seed,),
        how="share of the decoder's norm, each model in its own units; features that fired",
    )  # fmt: skip
    back = made.decode(made.encode({names[0]: x, names[1]: y}))
    counts = torch.histc(shares, bins=10, min=0, max=1)
    return made, Diff(
        names, point, len(shares), tuple(int(c) for c in counts),
        (int((shares < 1 - OWN).sum()), int((shares > OWN).sum())),
        {names[0]: explained_variance(x, back[names[0]]), names[1]: explained_variance(y, back[names[1]])}, evidence,
    )  # fmt: skip


def _alive(made: Crosscoder, sources: Mapping[str, Tensor]) -> Tensor:
    return (made.encode({name: x[:8192] for name, x in sources.items()}) > 0).any(0)


@dataclass(frozen=True)
class Spans(Drawn):
    """What a crosscoder of several layers found. own: features of each source alone; evidence: that they span, beside
    the same crosscoder on sources whose tokens do not go together."""

    names: tuple[str, ...]
    n_features: int
    own: tuple[int, ...]
    mean_share: tuple[float, ...]
    explained: Mapping[str, float]
    explained_null: Mapping[str, float]
    evidence: Evidence

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.crosscoder/1", "names": list(self.names), "n_features": self.n_features,
            "own": list(self.own), "own_from": OWN, "mean_share": list(self.mean_share),
            "explained_variance": dict(self.explained), "explained_variance_null": dict(self.explained_null),
            "evidence": self.evidence.to_json(),
        }  # fmt: skip

    def __str__(self) -> str:
        table = [["source", "explained variance", "null's", "mean share", f"alone (share over {OWN})"]]
        for i, name in enumerate(self.names):
            table.append([name, f"{self.explained[name]:.3f}", f"{self.explained_null[name]:.3f}",
                          f"{self.mean_share[i]:.2f}", str(self.own[i])])  # fmt: skip
        return "\n".join(
            [
                f"one dictionary of {', '.join(self.names)}: {self.n_features} features that fired",
                *columns(table, right=range(1, 5)),
                "  share: of a feature's decoder that lies in the source; null: the sources' tokens do not go together",
                f"  {self.evidence.claim}: {self.evidence.verdict_text}",
            ]
        )

    __repr__ = __str__


def span_layers(
    model: Model, token_rows: ArrayLike | Tensor, points: Sequence[str], settings: TrainSettings
) -> tuple[Crosscoder, Spans]:
    """One set of features for several points of a model, and how many of them are in more than one.

    The null: the same crosscoder with each source's tokens in an order of their own, so that no feature has a reason to
    span. Cost: a pass of the model, two crosscoders. Raises `InputError` as `fit_crosscoder`.
    """
    rows = as_rows(token_rows, model.facts.vocab_size)
    places = Places.of(model, points, mlps=False)
    at = harvest_all(places, rows, first_position=False).at
    x = {places.address(point): at[places.address(point)] for point in points}
    g = torch.Generator().manual_seed(settings.seed)
    apart = {name: value[torch.randperm(len(value), generator=g)] for name, value in x.items()}
    made, null = fit_crosscoder(x, settings), fit_crosscoder(apart, settings)
    shares, by_chance = made.shares[_alive(made, x)], null.shares[_alive(null, apart)]
    spans, spans_null = (proportion(int((one.amax(1) <= OWN).sum()), len(one), name=name) for one, name in
                         ((shares, "features in several"), (by_chance, "tokens that do not go together")))  # fmt: skip
    evidence = Evidence(
        claim="features span the sources", effect=spans, nulls=(Comparison(estimate=spans_null),),
        seeds=(settings.seed,), how=f"no source has more than {OWN} of the decoder's norm; features that fired",
    )  # fmt: skip
    explained = [
        {name: explained_variance(held[name], back) for name, back in one.decode(one.encode(held)).items()}
        for one, held in ((made, x), (null, apart))
    ]
    own = tuple(int((shares[:, i] > OWN).sum()) for i in range(len(x)))
    mean = tuple(float(v) for v in shares.mean(0))
    return made, Spans(tuple(x), len(shares), own, mean, explained[0], explained[1], evidence)
