"""How good a dictionary of one point is, on text it was not trained on, beside what needs no training.

    explained variance   1 - sum |y - y_hat|^2 / sum |y - mean|^2           centred; FVU is the rest
    about zero           1 - sum |y - y_hat|^2 / sum |y|^2                  what some report under the same name
    loss recovered       (CE_ablated - CE_spliced) / (CE_ablated - CE)      ablated: the point set to zero, or to its
    mean
Position 0 of a row is never counted, and keeps its own activations when the dictionary takes the point's place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cutaway.core import Comparison, Estimate, Evidence, InputError, NotDone
from cutaway.core.table import columns
from cutaway.features.fit import placed_sae
from cutaway.features.places import Places
from cutaway.features.sae import SAE
from cutaway.features.settings import DictionarySettings
from cutaway.features.statistics import over_rows
from cutaway.features.stream import as_rows, kept_positions
from cutaway.features.train import untrained_sae
from cutaway.model import rewrite

if TYPE_CHECKING:
    from cutaway.model import Model

_ROWS = 32
Change = Callable[[Tensor, Tensor], Tensor]  # what is read and what is written at counted tokens -> what is put there


@dataclass(frozen=True)
class Figures:
    """Of one way to stand in for the point. `cross_entropy_rise` in nats a token; None where it was not measured."""

    name: str
    l0: Estimate
    dead: float | None
    explained_variance: Estimate
    about_zero: float
    median_error: Estimate
    cross_entropy_rise: Estimate | None = None
    recovered_zero: Estimate | None = None
    recovered_mean: Estimate | None = None

    @property
    def fvu(self) -> float:
        """Fraction of variance unexplained."""
        return 1 - self.explained_variance.value

    def to_json(self) -> dict[str, Any]:
        found = {k: v.model_dump(mode="json") if isinstance(v, Estimate) else v for k, v in vars(self).items()}
        return {**found, "fvu": self.fvu}


@dataclass(frozen=True)
class SAEReport:
    """What `evaluate_sae` measured: the dictionary first, then what it stands beside."""

    dictionary: str
    point: str
    n_tokens: int
    n_rows: int
    cross_entropy: Estimate
    rows: tuple[Figures, ...]
    evidence: Evidence

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "cutaway.sae_report/1",
            "dictionary": self.dictionary,
            "point": self.point,
            "n_tokens": self.n_tokens,
            "n_rows": self.n_rows,
            "cross_entropy": self.cross_entropy.model_dump(mode="json"),
            "rows": [row.to_json() for row in self.rows],
            "evidence": self.evidence.to_json(),
        }

    def __str__(self) -> str:
        kept = [["reconstruction", "L0", "never fired", "explained variance", "FVU", "about 0", "median error a token"]]
        used = [["in the point's place", "rise of CE, nats", "loss recovered (zero)", "(mean)"]]
        for r in self.rows:
            dead = "" if r.dead is None else f"{r.dead:.1%}"
            about = [f"{r.fvu:.4f}", f"{r.about_zero:.4f}", _short(r.median_error)]
            kept.append([r.name, f"{r.l0.value:.1f}", dead, _short(r.explained_variance), *about])
            spliced = (r.cross_entropy_rise, r.recovered_zero, r.recovered_mean)
            used.append([r.name, *map(_short, spliced)])
        lines = [
            self.dictionary,
            f"{self.n_tokens:,} held-out tokens in {self.n_rows} rows; position 0 is not counted; "
            "brackets: 95 %, bootstrap over rows",
            f"the model's cross-entropy: {_short(self.cross_entropy)} nats",
            "",
            *columns(kept, right=range(1, len(kept[0]))),
            "",
            *columns(used, right=range(1, len(used[0]))),
            "",
            *(f"  not done: {item.what}: {item.why}" for item in self.evidence.not_done),
            f"  verdict on the explained variance: {self.evidence.verdict_text}",
        ]
        return "\n".join(lines)

    __repr__ = __str__


def evaluate_sae(
    model: Model, dictionary: SAE, rows: ArrayLike | Tensor, *,
    fit_rows: ArrayLike | Tensor | None = None, null: tuple[Model, SAE] | None = None, seed: int = 0,
) -> SAEReport:  # fmt: skip
    """Judge a dictionary of one point on held-out rows of token ids [rows, position] (-1 pads on the right).

    Beside it: PCA with as many components as its L0 (fitted to the same tokens, in its favour), a dictionary whose
    encoder was never trained, its decoders fitted on `fit_rows` (half of the rows where None; the other half is then
    measured on), and `null`, the re-randomised model with a dictionary trained on it.
    Cost: six forwards over the rows and one solve of [F, F]; memory [tokens, d] twice.
    Raises `InputError` where the dictionary does not fit the model.
    """
    found = as_rows(rows, model.facts.vocab_size)
    if fit_rows is None:
        if found.shape[0] < 2:
            raise InputError("one row is too little to judge a dictionary on; give at least two.")
        fit_rows, found = found[: found.shape[0] // 2], found[found.shape[0] // 2 :]
    judge = _Judge(model, placed_sae(dictionary, model), found, seed)
    ours = judge.of("this dictionary", judge.sae.reconstruct)
    l0 = max(1, round(ours.l0.value))
    settings = DictionarySettings.read(
        {
            "name": "untrained", "kind": "sae", "at": judge.sae.point, "to": judge.sae.output_point, "l0": l0,
            "features": max(l0, judge.sae.n_features), "seed": seed,
        }
    )  # fmt: skip
    bare = untrained_sae(model, fit_rows, settings)
    beside = [judge.pca(l0), judge.of("untrained encoder", bare.reconstruct)]
    nulls, missing = [_compared(beside[1])], []
    if null is None:
        missing.append(NotDone(what="null model", why="no dictionary trained on the re-randomised model was given"))
    else:
        twin, theirs = null
        twins = _Judge(twin, placed_sae(theirs, twin), found, seed)
        beside.append(twins.of("re-randomised model's own", twins.sae.reconstruct))
        nulls.append(_compared(beside[-1]))
    evidence = Evidence(
        claim=f"{judge.sae} reconstructs {judge.sae.writes_to} from sparse features",
        effect=ours.explained_variance,
        nulls=tuple(nulls),
        baselines=(_compared(beside[0]),),
        seeds=(seed,),
        how=f"held-out text, {judge.n} tokens; the untrained encoder has the same L0 and fitted decoders",
        not_done=tuple(missing),
    )
    return SAEReport(
        str(judge.sae), judge.sae.writes_to, judge.n, found.shape[0], judge.cross_entropy(), (ours, *beside), evidence
    )


class _Judge:
    """A model's rows, read once: activations at a dictionary's points, the loss as it is and with the point ablated."""

    def __init__(self, model: Model, sae: SAE, rows: Tensor, seed: int) -> None:
        self.model, self.sae, self.rows, self.seed = model, sae, rows, seed
        self.counted = kept_positions(rows, first_position=False)
        if not bool(self.counted.any()):
            raise InputError("the rows hold no token past their first position.")
        places = Places.of(model, [sae.point, sae.writes_to], mlps=False)
        xs, ys = [], []
        for start in range(0, rows.shape[0], _ROWS):
            part = rows[start : start + _ROWS]
            _, _, at = places.harvest(part.long().clamp_min(0))
            kept = self.counted[start : start + _ROWS].to(places.device)
            xs.append(at[sae.point][kept].float())
            ys.append(at[sae.writes_to][kept].float())
        self.x, self.y = torch.cat(xs), torch.cat(ys)
        self.n = self.x.shape[0]
        self.mean = self.y.mean(0)
        self.clean = self._losses(None)
        self.zero = self._losses(lambda x, y: torch.zeros_like(y))
        self.at_mean = self._losses(lambda x, y: self.mean.expand_as(y))

    def of(self, name: str, reconstruct: Callable[[Tensor], tuple[Tensor, Any]]) -> Figures:
        """A stand-in that encodes tokens [n, d] to active pairs."""
        hats, counts, fired = [], [], None
        for start in range(0, self.n, 8192):
            y_hat, active = reconstruct(self.x[start : start + 8192])
            hats.append(y_hat)
            counts.append(active.offsets.diff())
            here = torch.bincount(active.features, minlength=active.n_features)
            fired = here if fired is None else fired + here
        assert fired is not None
        dead = float((fired == 0).float().mean())
        return self._figures(name, torch.cat(hats), torch.cat(counts), dead, lambda x, y: reconstruct(x)[0])

    def pca(self, components: int) -> Figures:
        """The first principal components of the point itself."""
        centred = (self.y - self.mean).double()
        _, vectors = torch.linalg.eigh(centred.T @ centred)  # ascending
        kept = vectors[:, -min(components, vectors.shape[1]) :].to(self.y)

        def change(x: Tensor, y: Tensor) -> Tensor:
            projected: Tensor = (y - self.mean) @ kept @ kept.T
            return self.mean + projected

        counts = torch.full((self.n,), kept.shape[1])
        return self._figures(f"PCA, {kept.shape[1]} components", change(self.x, self.y), counts, None, change)

    def cross_entropy(self) -> Estimate:
        return over_rows(self.clean, np.nanmean, "cross-entropy", seed=self.seed)

    def _figures(self, name: str, y_hat: Tensor, counts: Tensor, dead: float | None, change: Change) -> Figures:
        error = (self.y - y_hat).square().sum(-1)
        size, raw = (self.y - self.mean).square().sum(-1), self.y.square().sum(-1)
        spliced = self._losses(change)
        seed, grid = self.seed, self._grid

        def recovered(ablated: NDArray[np.float64], what: str) -> Estimate:
            return over_rows(np.stack([self.clean, spliced, ablated], -1), _recovered, what, seed=seed)

        return Figures(
            name=name,
            l0=over_rows(grid(counts), np.nanmean, "L0", seed=seed),
            dead=dead,
            explained_variance=over_rows(np.stack([grid(error), grid(size)], -1), _explained, name, seed=seed),
            about_zero=1 - float(error.sum() / raw.sum()),
            median_error=over_rows(grid(error / size.clamp_min(1e-20)), np.nanmedian, "median error", seed=seed),
            cross_entropy_rise=over_rows(spliced - self.clean, np.nanmean, "rise of cross-entropy", seed=seed),
            recovered_zero=recovered(self.zero, "loss recovered, of zero ablation"),
            recovered_mean=recovered(self.at_mean, "loss recovered, of mean ablation"),
        )

    def _grid(self, values: Tensor) -> NDArray[np.float64]:
        """[n] -> [rows, position], NaN elsewhere."""
        out = np.full(self.counted.shape, np.nan)
        out[self.counted.numpy()] = values.double().cpu().numpy()
        return out

    @torch.no_grad()
    def _losses(self, change: Change | None) -> NDArray[np.float64]:
        """-log p of each next token, [rows, position], NaN where there is none; `change` gives what the point holds."""
        out = np.full(self.rows.shape, np.nan)
        given = None if self.sae.output_point is None else self.sae.point
        for start in range(0, self.rows.shape[0], _ROWS):
            part = self.rows[start : start + _ROWS].long()
            kept = self.counted[start : start + _ROWS].to(self.model.device)

            def write(y: Tensor, x: Tensor | None = None, kept: Tensor = kept) -> Tensor:
                assert change is not None
                read = y if x is None else x
                new = change(read.flatten(2)[kept].float(), y.flatten(2)[kept].float())
                return y.flatten(2).index_put((kept,), new.to(y.dtype)).view(y.shape)

            changes = [] if change is None else [rewrite(self.sae.writes_to, write, given=given)]
            logits = self.model.run(part.clamp_min(0), interventions=changes).logits
            right = part[:, 1:].clamp_min(0).to(logits.device)
            nats = -logits[:, :-1].float().log_softmax(-1).gather(-1, right[..., None])[..., 0]
            there = (part[:, 1:] >= 0).numpy()
            out[start : start + _ROWS, :-1][there] = nats.double().cpu().numpy()[there]
        return out


def _explained(v: NDArray[np.float64]) -> float:
    return float(1 - np.nansum(v[..., 0]) / np.nansum(v[..., 1]))


def _recovered(v: NDArray[np.float64]) -> float:
    clean, spliced, ablated = (float(np.nanmean(v[..., i])) for i in range(3))
    return (ablated - spliced) / (ablated - clean) if ablated != clean else float("nan")


def _compared(figures: Figures) -> Comparison:
    return Comparison(estimate=figures.explained_variance)


def _short(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    span = estimate.interval
    return f"{estimate.value:.4f}" + (f" [{span.low:.4f}, {span.high:.4f}]" if span else "")
