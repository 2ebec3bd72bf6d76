"""What a feature does where it is strongest: taken out, clamped, and with less and less context before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.evidence import random_directions
from cutaway.features.places import Places
from cutaway.features.sae import SAE
from cutaway.model import rewrite

if TYPE_CHECKING:
    from cutaway.model import Model

CLAMP = 3.0
SPANS = (1, 2, 4, 8, 16, 32)
_ROWS = 64
_SHOWN = 5


@torch.no_grad()
def measured_effects(
    model: Model, sae: SAE, rows: Tensor, strongest: Tensor, peak: Tensor, spell: Callable[[int], str], seed: int
) -> dict[str, list[Any]]:
    """strongest [F]: where each feature peaks, in rows laid end to end; peak [F]: how strongly. What is added at that
    position alone: -peak d (taken out), a random direction of that length, (CLAMP - 1) peak d (clamped).

    `lost`: tokens that taking it out makes less likely; `clamp_raised`: those that clamping makes more likely (log
    probability, most changed first). None for features that never fire. Cost: four forwards of F rows.
    """
    F, width = peak.shape[0], rows.shape[1]
    out: dict[str, list[Any]] = {name: [None] * F for name in ("effect", "effect_random", "clamp_effect")}
    out |= {name: [[] for _ in range(F)] for name in ("lost", "clamp_raised")}
    alive = (peak > 0).nonzero()[:, 0]
    order = alive[(strongest[alive] % width).argsort()]  # rows of like length go together
    d = sae.written
    for part in order.split(_ROWS):  # type: ignore[no-untyped-call]
        place = strongest[part] % width
        ids = rows[strongest[part] // width, : int(place.max()) + 1].long().clamp_min(0)
        clean, x = _after(model, sae, ids, place, None)
        away = -peak[part][:, None] * sae.gain(x) * d[part]
        changes = {
            "effect": away,
            "effect_random": random_directions(away, seed=seed),
            "clamp_effect": -away * (CLAMP - 1),
        }
        logs = {name: _after(model, sae, ids, place, change)[0] for name, change in changes.items()}
        for name, changed in logs.items():
            kl = (clean.exp() * (clean - changed)).sum(-1)
            for f, value in zip(part.tolist(), kl.tolist()):
                out[name][f] = round(max(value, 0.0), 6)
        for name, moved in (("lost", clean - logs["effect"]), ("clamp_raised", logs["clamp_effect"] - clean)):
            values, tokens = moved.topk(min(_SHOWN, moved.shape[1]), dim=1)
            for f, v, t in zip(part.tolist(), values.tolist(), tokens.tolist()):
                out[name][f] = [{"token": spell(i), "value": round(w, 4)} for i, w in zip(t, v) if w > 0]
    return out


def _after(model: Model, sae: SAE, ids: Tensor, place: Tensor, change: Tensor | None) -> tuple[Tensor, Tensor]:
    """Log probabilities [rows, vocab] after `place`, with `change` [rows, d] added to the point there; and what the
    dictionary reads there, [rows, d_in]."""
    row = torch.arange(ids.shape[0])

    def add(y: Tensor) -> Tensor:
        flat = y.flatten(2).clone()
        assert change is not None
        flat[row, place] += change.to(flat)
        return flat.view(y.shape)

    made = [] if change is None else [rewrite(sae.writes_to, add)]
    run = model.run(ids, read=[sae.point], interventions=made)
    logs: Tensor = run.logits[row, place].float().log_softmax(-1).cpu()
    return logs, run[sae.point].flatten(2)[row, place].float()


@torch.no_grad()
def spans(model: Model, sae: SAE, rows: Tensor, strongest: Tensor, peak: Tensor) -> list[int | None]:
    """[F] the fewest of SPANS last tokens, after the row's first, with half the activation; -1: more than they hold.
    None for features that never fire. Cost: F rows of each of SPANS lengths."""
    F, width = peak.shape[0], rows.shape[1]
    out: list[int | None] = [None if p <= 0 else -1 for p in peak.tolist()]
    left = (peak > 0).nonzero()[:, 0]
    places = Places.of(model, [sae.point], mlps=False)
    for m in SPANS:
        if not len(left):
            break
        done = []
        for part in left.split(512):  # type: ignore[no-untyped-call]
            row, place = strongest[part] // width, strongest[part] % width
            # The row's first token, then the last m; shorter prefixes are whole already and repeat nothing.
            take = (place[:, None] - torch.arange(m - 1, -1, -1)).clamp_min(1)
            ids = torch.cat([rows[row, :1], rows[row[:, None], take]], 1).long().clamp_min(0)
            _, _, at = places.harvest(ids)
            a = sae.encode(at[sae.point][:, -1].float())[torch.arange(len(part)), part]
            enough = (a >= peak[part] / 2) & (place >= m)
            whole = place < m  # nothing is left out any more
            for f in part[enough | whole].tolist():
                out[f] = m
            done.append(~(enough | whole))
        left = left[torch.cat(done)]
    assert len(out) == F
    return out
