"""How good a dictionary is, on text it was not trained on, beside what the simplest method does with as many numbers.

The error of a token is |y - y_hat|^2 / |y - mean|^2, the mean over the tokens measured. A few tokens can hold nearly
all variance of an MLP's output, so the global ratio alone says little: the median and quartiles over tokens stand
first, then the same without the 1 % largest tokens, then the global ratio (1 - explained variance). PCA keeps as many
components of the true output as the dictionary has active features, fitted to the same tokens, which favours it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cutaway.core import Estimate, InputError
from cutaway.features.replacement import DECIDED, Replacement, Task, compare
from cutaway.features.sites import Sites
from cutaway.features.statistics import over_rows
from cutaway.features.stream import as_rows, kept_positions
from cutaway.features.transcoders import Transcoders

if TYPE_CHECKING:
    from cutaway.model import Model

LARGEST = 0.01
_ROWS = 32


@dataclass(frozen=True)
class Errors:
    """Of one output or of all: quartiles of the error per token, of all and without the 1 % largest; global ratios."""

    median: Estimate
    lower_quartile: float
    upper_quartile: float
    trimmed_median: float
    trimmed_lower_quartile: float
    trimmed_upper_quartile: float
    normalised_mse: float
    trimmed_normalised_mse: float

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "median": self.median.model_dump(mode="json")}


@dataclass(frozen=True)
class LayerReport:
    """l0: mean active features a token; dead: share that never fired on the tokens measured."""

    layer: int
    l0: float
    dead: float
    errors: Errors
    pca: Errors


@dataclass(frozen=True)
class Report:
    """What `evaluate` measured. `errors` and `pca` pool the tokens of all layers (each layer by its own mean)."""

    dictionary: str
    n_tokens: int
    n_rows: int
    l0: Estimate
    dead: float
    errors: Errors
    pca: Errors
    layers: tuple[LayerReport, ...]
    replacement: Replacement | None

    def to_json(self) -> dict[str, Any]:
        return {
            "dictionary": self.dictionary,
            "n_tokens": self.n_tokens,
            "n_rows": self.n_rows,
            "l0": self.l0.model_dump(mode="json"),
            "dead": self.dead,
            "errors": self.errors.to_json(),
            "pca": self.pca.to_json(),
            "layers": [
                {**vars(layer), "errors": layer.errors.to_json(), "pca": layer.pca.to_json()} for layer in self.layers
            ],
            "replacement": self.replacement.to_json() if self.replacement else None,
        }

    def __str__(self) -> str:
        return _table(self)


def evaluate(
    model: Model,
    dictionary: Transcoders,
    rows: ArrayLike | Tensor,
    tasks: Mapping[str, Sequence[Task]] | None = None,
    *,
    replacement: bool = True,
    seed: int = 0,
) -> Report:
    """Judge a dictionary on held-out rows of token ids [rows, position] (-1 pads on the right).

    Position 0 of each row is never counted. tasks: items by behaviour, answered by the model and by its replacement.
    Cost: three forwards of the model and two passes of the dictionary over the rows; memory [layers, tokens, d] twice.
    Raises `InputError` where the dictionary does not fit the model.
    """
    from cutaway.features.fit import placed

    dictionary = placed(dictionary, model)
    found = as_rows(rows, model.facts.vocab_size)
    sites = Sites.of(model, dictionary.input_name, dictionary.output_name)
    counted = kept_positions(found, first_position=False)
    if not bool(counted.any()):
        raise InputError("the rows hold no token past their first position.")
    y, y_hat, active, fired = _reconstructed(sites, dictionary, found, counted)
    cells = counted.numpy()
    layers, every, every_pca, l0s = [], [], [], []
    for layer in range(dictionary.n_layers):
        centred = y[layer] - y[layer].mean(0)
        size = centred.square().sum(-1)
        squared = (y[layer] - y_hat[layer]).square().sum(-1)
        l0 = float(active[layer].float().mean())
        pca_squared = _pca_error(centred, round(l0))
        figures = [_errors(e, size, cells, seed) for e in (squared, pca_squared)]
        layers.append(LayerReport(layer, l0, float((fired[layer] == 0).float().mean()), *figures))
        every.append((squared, size))
        every_pca.append((pca_squared, size))
        l0s.append(_grid(active[layer].double(), cells))
    errors, pca = (
        _errors(torch.stack([e / s.sum() for e, s in both]), torch.stack([s / s.sum() for _, s in both]), cells, seed)
        for both in (every, every_pca)
    )
    return Report(
        dictionary=str(dictionary),
        n_tokens=int(counted.sum()),
        n_rows=found.shape[0],
        l0=over_rows(np.stack(l0s, -1), np.nanmean, "L0 a layer", seed=seed),
        dead=float((fired == 0).float().mean()),
        errors=errors,
        pca=pca,
        layers=tuple(layers),
        replacement=compare(model, dictionary, found, tasks, seed) if replacement else None,
    )


@torch.no_grad()
def _reconstructed(
    sites: Sites, dictionary: Transcoders, rows: Tensor, counted: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, y_hat [layers, n, d]; active features a token [layers, n]; firings a feature [layers, F]."""
    ys, hats, counts = [], [], []
    fired = torch.zeros(dictionary.n_layers, dictionary.n_features, dtype=torch.long)
    for start in range(0, rows.shape[0], _ROWS):
        part = rows[start : start + _ROWS]
        x, y = sites.harvest(part.long().clamp_min(0))
        here = counted[start : start + _ROWS].to(x.device)
        x, y = x[:, here].float(), y[:, here].float()
        y_hat, active = dictionary.reconstruct(x)
        ys.append(y.cpu())
        hats.append(y_hat.cpu())
        counts.append(torch.stack([a.offsets.diff() for a in active]).cpu())
        for layer, a in enumerate(active):
            fired[layer] += torch.bincount(a.features, minlength=dictionary.n_features).cpu()
    return torch.cat(ys, 1), torch.cat(hats, 1), torch.cat(counts, 1), fired


def _pca_error(centred: Tensor, components: int) -> Tensor:
    """[n, d] -> the squared error of each token kept by its first principal components, [n]."""
    if components >= centred.shape[1]:
        return torch.zeros(centred.shape[0])
    _, vectors = torch.linalg.eigh((centred.T @ centred).double())  # ascending
    left: Tensor = centred @ vectors[:, : centred.shape[1] - components].to(centred)
    return left.square().sum(-1)


def _errors(squared: Tensor, size: Tensor, cells: NDArray[np.bool_], seed: int) -> Errors:
    """Squared errors and distances from the mean, [n] or [layers, n]; cells [rows, position] holds the n tokens."""
    ratio = (squared / size.clamp_min(1e-20)).numpy().astype(np.float64)
    # The largest tokens of each layer apart.
    cut = torch.quantile(size.double(), 1 - LARGEST, dim=-1, keepdim=True)
    small = size.double() <= cut
    trimmed = np.quantile(ratio[small.numpy()], [0.25, 0.5, 0.75])
    low, high = np.quantile(ratio, [0.25, 0.75])
    grid = np.stack([_grid(torch.from_numpy(r), cells) for r in np.atleast_2d(ratio)], -1)
    return Errors(
        median=over_rows(grid, np.nanmedian, "median error per token", seed=seed),
        lower_quartile=float(low),
        upper_quartile=float(high),
        trimmed_median=float(trimmed[1]),
        trimmed_lower_quartile=float(trimmed[0]),
        trimmed_upper_quartile=float(trimmed[2]),
        normalised_mse=float(squared.sum() / size.sum()),
        trimmed_normalised_mse=float(squared[small].sum() / size[small].sum()),
    )


def _grid(values: Tensor, cells: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[n] -> [rows, position], NaN elsewhere."""
    out = np.full(cells.shape, np.nan)
    out[cells] = values.double().numpy()
    return out


def _table(report: Report) -> str:
    lines = [
        report.dictionary,
        f"{report.n_tokens:,} held-out tokens in {report.n_rows} rows; position 0 is not counted",
        "",
        "                            error per token        without 1 % largest      global      never",
        "layer   L0      what        median  quartiles      median  quartiles      normalised MSE  fired",
    ]
    rows: list[tuple[str, float, float, Errors, Errors]] = [
        (str(x.layer), x.l0, x.dead, x.errors, x.pca) for x in report.layers
    ]
    rows.append(("all", report.l0.value, report.dead, report.errors, report.pca))
    for name, l0, dead, errors, pca in rows:
        lines.append(f"{name:>5} {l0:6.1f}  dictionary  {_figures(errors)}   {dead:6.2%}")
        lines.append(f"{'':12}  {f'PCA {round(l0)}':10}  {_figures(pca)}")
    lines.append(f"  median error, all layers: {report.errors.median}")
    if report.replacement is not None:
        r = report.replacement
        lines += [
            "",
            "replacement model (every MLP replaced at once)",
            f"  KL to the model            {r.kl}",
            f"  same top token             {r.agreement}",
            f"    where it is no near tie  {r.decided} (top two more than {DECIDED} nats apart)",
            f"  cross-entropy              {r.cross_entropy}, rises by {r.cross_entropy_rise}",
        ]
        for name, kept in r.behaviours.items():
            lines.append(
                f"  {name:20} model {kept.model.value:.3f}   replacement {kept.replacement}   kept {kept.share:.3f}"
            )
    return "\n".join(lines)


def _figures(e: Errors) -> str:
    return (
        f"{e.median.value:6.3f}  {e.lower_quartile:.3f}-{e.upper_quartile:.3f}   "
        f"{e.trimmed_median:9.3f}  {e.trimmed_lower_quartile:.3f}-{e.trimmed_upper_quartile:.3f}   "
        f"{e.normalised_mse:8.3f} ({e.trimmed_normalised_mse:.3f})"
    )
