"""The replacement model: every MLP's output computed by the dictionary, all at once, errors and all.

What a dictionary explains is worth as much as the model that it makes: KL to the true next-token distribution, how
often both name the same token, and which behaviours survive ("Circuit Tracing", on the replacement model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core import Estimate, InputError
from cutaway.evidence import proportion
from cutaway.features.sites import Sites
from cutaway.features.statistics import over_rows
from cutaway.features.stream import kept_positions
from cutaway.features.transcoders import Transcoders

if TYPE_CHECKING:
    from cutaway.model import Model

_ROWS = 16
DECIDED = 0.1


@dataclass(frozen=True)
class Task:
    """A prompt as ids, and the ids that are right after it."""

    prompt: tuple[int, ...]
    right: tuple[int, ...]


@dataclass(frozen=True)
class Kept:
    """A behaviour's accuracy (the top token is right): of the model and of the replacement model, on the same items."""

    model: Estimate
    replacement: Estimate

    @property
    def share(self) -> float:
        """Of the model's accuracy; NaN where it has none."""
        return self.replacement.value / self.model.value if self.model.value else float("nan")

    def to_json(self) -> dict[str, Any]:
        share = self.share
        return {
            "model": self.model.model_dump(mode="json"),
            "replacement": self.replacement.model_dump(mode="json"),
            "share_kept": share if share == share else None,
        }


@dataclass(frozen=True)
class Replacement:
    """KL in nats a token, top-1 agreement, the rise of the cross-entropy; behaviours where items were given.

    Where text has drawn at random (a name, a number), the model's best tokens are near ties, and which of them is the
    top is noise: `decided` is the agreement on tokens whose top two differ by more than `DECIDED` nats.
    """

    kl: Estimate
    agreement: Estimate
    decided: Estimate
    cross_entropy: Estimate
    cross_entropy_rise: Estimate
    behaviours: Mapping[str, Kept]

    def to_json(self) -> dict[str, Any]:
        numbers = ("kl", "agreement", "decided", "cross_entropy", "cross_entropy_rise")
        return {
            **{name: getattr(self, name).model_dump(mode="json") for name in numbers},
            "behaviours": {name: kept.to_json() for name, kept in self.behaviours.items()},
        }


def replaces_first_position(dictionary: Transcoders) -> bool:
    """Whether position 0 is replaced too. Dictionaries that were not trained on it (all that do not say) leave it."""
    run = dictionary.training.get("run", {})
    return bool(run.get("first_position", False)) if isinstance(run, Mapping) else False


@torch.no_grad()
def replaced_logits(sites: Sites, dictionary: Transcoders, rows: Tensor) -> Tensor:
    """Logits [rows, position, vocab] of the replacement model on ids [rows, position] (-1 pads on the right)."""
    kept = kept_positions(rows, replaces_first_position(dictionary)).to(sites.device)
    parts: dict[int, Tensor] = {}

    def substitute(layer: int, x: Tensor, own: Tensor) -> Tensor:
        here = x[kept].float()
        active, values = dictionary.sparse(layer, here)
        for m, part in dictionary.written(layer, active, values).items():
            parts[m] = parts[m] + part if m in parts else part
        out = own.clone()
        out[kept] = (dictionary.constant(layer, here) + parts.pop(layer)).to(own.dtype)
        return out

    return sites.replaced(rows.long().clamp_min(0), substitute)


@torch.no_grad()
def compare(
    model: Model,
    dictionary: Transcoders,
    rows: Tensor,
    tasks: Mapping[str, Sequence[Task]] | None = None,
    seed: int = 0,
) -> Replacement:
    """The replacement model on held-out rows [rows, position], and on the tasks of each behaviour.

    Position 0 is never counted. Intervals: bootstrap over rows, Wilson for accuracies.
    Cost: two forwards of the model and one pass of the dictionary over rows and prompts.
    """
    sites = Sites.of(model, dictionary.input_name, dictionary.output_name)
    kls, same, decided, loss, rise = [], [], [], [], []
    for start in range(0, rows.shape[0], _ROWS):
        part = rows[start : start + _ROWS]
        ids = part.long().clamp_min(0).to(sites.device)
        true = model.run(ids).logits.float().log_softmax(-1)
        other = replaced_logits(sites, dictionary, part).float().log_softmax(-1)
        counted = kept_positions(part, first_position=False).to(ids.device)
        kls.append(_nan(((true.exp() * (true - other)).sum(-1)), counted))
        agrees = (true.argmax(-1) == other.argmax(-1)).float()
        same.append(_nan(agrees, counted))
        best = true.topk(2, dim=-1).values
        decided.append(_nan(agrees, counted & (best[..., 0] - best[..., 1] > DECIDED)))
        # The last position's next token is unknown.
        follows = torch.zeros_like(counted)
        follows[:, 1:-1] = counted[:, 2:]
        target = ids.roll(-1, 1)[..., None]
        own, its = (-p.gather(-1, target)[..., 0] for p in (true, other))
        loss.append(_nan(own, follows))
        rise.append(_nan(its - own, follows))
    behaviours = {name: kept(sites, dictionary, items) for name, items in (tasks or {}).items()}
    return Replacement(
        kl=over_rows(_all(kls), np.nanmean, "KL to the model", unit=" nats", seed=seed),
        agreement=over_rows(_all(same), np.nanmean, "top-1 agreement", seed=seed),
        decided=over_rows(_all(decided), np.nanmean, f"top-1 agreement, top two > {DECIDED} nats apart", seed=seed),
        cross_entropy=over_rows(_all(loss), np.nanmean, "cross-entropy of the model", unit=" nats", seed=seed),
        cross_entropy_rise=over_rows(_all(rise), np.nanmean, "rise of the cross-entropy", unit=" nats", seed=seed),
        behaviours=behaviours,
    )


def kept(sites: Sites, dictionary: Transcoders, tasks: Sequence[Task]) -> Kept:
    """Accuracy of the model and of the replacement model on the same items."""
    if not tasks:
        raise InputError("a behaviour needs at least one item to be measured on.")
    width = max(len(task.prompt) for task in tasks)
    rows = torch.full((len(tasks), width), -1, dtype=torch.int32)
    for i, task in enumerate(tasks):
        rows[i, : len(task.prompt)] = torch.tensor(task.prompt, dtype=torch.int32)
    right = [0, 0]
    for start in range(0, len(tasks), 4 * _ROWS):
        part, items = rows[start : start + 4 * _ROWS], tasks[start : start + 4 * _ROWS]
        ids = part.long().clamp_min(0).to(sites.device)
        with torch.no_grad():
            both = sites.model.run(ids).logits, replaced_logits(sites, dictionary, part)
        at = torch.tensor([len(task.prompt) - 1 for task in items], device=ids.device)
        for which, logits in enumerate(both):
            top = logits[torch.arange(len(items), device=ids.device), at].argmax(-1).tolist()
            right[which] += sum(token in task.right for token, task in zip(top, items))
    return Kept(
        proportion(right[0], len(tasks), name="accuracy of the model"),
        proportion(right[1], len(tasks), name="accuracy of the replacement model"),
    )


def _nan(values: Tensor, counted: Tensor) -> NDArray[np.float64]:
    """[rows, position], NaN where not counted."""
    return torch.where(counted, values.double(), torch.nan).cpu().numpy()


def _all(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate(parts)
