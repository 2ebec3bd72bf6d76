"""What a way to stand in for a point is measured by: how it reconstructs, and what the model does with it in place.

Position 0 of a row is never counted, and keeps its own activations when something takes the point's place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core import Estimate, InputError
from cutaway.evidence import explained_variance
from cutaway.features.components import Components
from cutaway.features.places import Places
from cutaway.features.sae import SAE
from cutaway.features.statistics import over_rows
from cutaway.features.stream import kept_positions
from cutaway.model import rewrite

if TYPE_CHECKING:
    from cutaway.model import Model

_ROWS = 32
Change = Callable[[Tensor, Tensor], Tensor]  # what is read and what is written at counted tokens -> what is put there


@dataclass(frozen=True)
class Figures:
    """Of one way to stand in for the point. after_token: explained variance of what the token's identity leaves.
    kl and cross_entropy_rise in nats a token; None where it was not put in the point's place."""

    name: str
    l0: Estimate
    dead: float | None
    explained_variance: Estimate
    about_zero: float
    median_error: Estimate
    after_token: float = math.nan
    kl: Estimate | None = None
    cross_entropy_rise: Estimate | None = None
    recovered_zero: Estimate | None = None
    recovered_mean: Estimate | None = None

    @property
    def fvu(self) -> float:
        """Fraction of variance unexplained."""
        return 1 - self.explained_variance.value

    def to_json(self) -> dict[str, Any]:
        found = {k: v.model_dump(mode="json") if isinstance(v, Estimate) else v for k, v in vars(self).items()}
        return {**found, "after_token": _finite(self.after_token), "fvu": self.fvu}


class Judge:
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
        self.tokens = rows[self.counted].long()
        self.mean = self.y.mean(0)
        self.clean, _ = self._losses(None)
        self.zero, _ = self._losses(lambda x, y: torch.zeros_like(y))
        self.at_mean, _ = self._losses(lambda x, y: self.mean.expand_as(y))

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

    def beside(self, name: str, components: Components) -> Figures:
        """What reconstructs the point from itself: components of what is written there."""
        y_hat, active = components.reconstruct(self.y)
        counts = active.offsets.diff()
        return self._figures(name, y_hat, counts, None, lambda x, y: components.reconstruct(y)[0])

    def cross_entropy(self) -> Estimate:
        return over_rows(self.clean, np.nanmean, "cross-entropy", seed=self.seed)

    def _figures(self, name: str, y_hat: Tensor, counts: Tensor, dead: float | None, change: Change) -> Figures:
        error = (self.y - y_hat).square().sum(-1)
        size, raw = (self.y - self.mean).square().sum(-1), self.y.square().sum(-1)
        spliced, kl = self._losses(change)
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
            after_token=explained_variance(self.y, y_hat, "token", self.tokens),
            kl=over_rows(kl, np.nanmean, "KL to the model", seed=seed),
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
    def _losses(self, change: Change | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """-log p of each next token, [rows, position], NaN where there is none, and KL(model || changed) there (zero
        without `change`, which gives what the point holds). Cost: a forward, two with a change."""
        out, kl = np.full(self.rows.shape, np.nan), np.full(self.rows.shape, np.nan)
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
            log_q = logits[:, :-1].float().log_softmax(-1)
            nats = -log_q.gather(-1, right[..., None])[..., 0]
            there = (part[:, 1:] >= 0).numpy()
            apart = torch.zeros_like(nats)
            if change is not None:
                log_p = self.model.run(part.clamp_min(0)).logits[:, :-1].float().log_softmax(-1)
                apart = (log_p.exp() * (log_p - log_q)).sum(-1)
            kl[start : start + _ROWS, :-1][there] = apart.double().cpu().numpy()[there]
            out[start : start + _ROWS, :-1][there] = nats.double().cpu().numpy()[there]
        return out, kl


def _explained(v: NDArray[np.float64]) -> float:
    return float(1 - np.nansum(v[..., 0]) / np.nansum(v[..., 1]))


def _recovered(v: NDArray[np.float64]) -> float:
    clean, spliced, ablated = (float(np.nanmean(v[..., i])) for i in range(3))
    return (ablated - spliced) / (ablated - clean) if ablated != clean else float("nan")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
