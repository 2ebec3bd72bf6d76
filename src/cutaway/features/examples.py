"""Where each feature fires and what it writes to the logits: found once, stored compactly beside the weights.

    examples.safetensors.gz (gzip of safetensors), for all features in the order layer x F + feature
      tokens [E, 16] (-1 pads), activations [E, 16] uint8 (of 255 x the feature's maximum), place [E] (which of the 16
      is the example's own token), band [E] (index into BANDS), offsets [features + 1]: examples of a feature
      maximum, minimum [features]: of the non-zero activations;  frequency [features]: share of tokens
      histogram [features, 16]: counts of non-zero activations between 0 and the maximum
      n_tokens: that were looked at
      top_ids, top_values, bottom_ids, bottom_values [features, 8]: the direct effect of one unit on the logits

Examples are the four highest activations and one from each quarter further down, so that a feature is not judged by its
top alone; contexts whose last four tokens agree are shown once.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from torch import Tensor

from cutaway.core import InputError, atomic_path
from cutaway.features.sites import Sites
from cutaway.features.stream import as_rows, kept_positions
from cutaway.features.transcoders import Transcoders

if TYPE_CHECKING:
    from cutaway.model import Model

Array = NDArray[Any]
FILE = "examples.safetensors.gz"
BANDS = ("Top activations", "75th percentile", "Median", "25th percentile")
WINDOW, BEFORE, TOP, BINS, LOGITS = 16, 11, 4, 16, 8
_CONTEXT = 4  # tokens that tell two examples apart
_ROWS = 32


@dataclass(frozen=True, eq=False)
class Examples:
    """The tables of this file's docstring."""

    tables: dict[str, Tensor]
    n_features: int

    @property
    def n_tokens(self) -> int:
        """Tokens that were looked at."""
        return int(self.tables["n_tokens"])

    def feature(self, layer: int, feature: int, spell: Callable[[int], str]) -> dict[str, Any]:
        """One feature as circuit-tracer's feature JSON; `spell` gives a token's text. Raises `InputError` outside."""
        n_layers = (self.tables["offsets"].shape[0] - 1) // self.n_features
        if not (0 <= layer < n_layers and 0 <= feature < self.n_features):
            raise InputError(
                f"no feature {feature} of layer {layer}; there are {n_layers} layers of {self.n_features}."
            )
        at = layer * self.n_features + feature
        first, last = self.tables["offsets"][at : at + 2].tolist()
        peak = float(self.tables["maximum"][at])
        quantiles = []
        for band, name in enumerate(BANDS):
            shown = [self._example(e, peak, spell) for e in range(first, last) if int(self.tables["band"][e]) == band]
            if shown:
                quantiles.append({"quantile_name": name, "examples": shown})
        return {
            "transcoder_id": f"layer_{layer}",
            "index": feature,
            "examples_quantiles": quantiles,
            "top_logits": self._logits("top", at, spell),
            "bottom_logits": self._logits("bottom", at, spell),
            "act_min": float(self.tables["minimum"][at]),
            "act_max": peak,
            "quantile_values": [peak * i / BINS for i in range(BINS + 1)],
            "histogram": self.tables["histogram"][at].tolist(),
            "activation_frequency": float(self.tables["frequency"][at]),
        }

    def _example(self, e: int, peak: float, spell: Callable[[int], str]) -> dict[str, Any]:
        ids = self.tables["tokens"][e].tolist()
        real = [i for i, token in enumerate(ids) if token >= 0]
        activations = self.tables["activations"][e]
        return {
            "tokens": [spell(ids[i]) for i in real],
            "tokens_acts_list": [round(float(activations[i]) / 255 * peak, 4) for i in real],
            "train_token_ind": real.index(int(self.tables["place"][e])),
            "is_repeated_datapoint": False,
        }

    def _logits(self, which: str, at: int, spell: Callable[[int], str]) -> list[list[Any]]:
        ids, values = self.tables[f"{which}_ids"][at].tolist(), self.tables[f"{which}_values"][at].tolist()
        return [[spell(token), round(value, 4)] for token, value in zip(ids, values) if token >= 0]

    def save(self, folder: str | Path) -> Path:
        path = Path(folder) / FILE
        with atomic_path(path) as temporary:
            # No time stamp: the same tables are the same bytes.
            temporary.write_bytes(gzip.compress(safetensors.torch.save(self.tables), compresslevel=9, mtime=0))
        return path


def read_examples(folder: str | Path, n_features: int) -> Examples | None:
    """What `save` wrote, or None where there is none. Raises `InputError` for a broken file."""
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        return Examples(safetensors.torch.load(gzip.decompress(path.read_bytes())), n_features)
    except (OSError, EOFError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error}): cut short or altered.") from error


@torch.no_grad()
def find_examples(model: Model, dictionary: Transcoders, rows: ArrayLike | Tensor) -> Examples:
    """From rows of token ids [rows, position]: a pass of the model and of the dictionary over them.

    Memory: 16 bytes an active pair of one layer, [tokens, d] a layer.
    """
    found = as_rows(rows, model.facts.vocab_size)
    sites = Sites.of(model, dictionary.input_name, dictionary.output_name)
    kept = kept_positions(found, first_position=False)
    pairs: list[list[tuple[Tensor, Tensor, Tensor]]] = [[] for _ in range(dictionary.n_layers)]
    place = kept.view(-1).nonzero()[:, 0].int()  # of each counted token, in rows laid end to end
    done = 0
    for start in range(0, found.shape[0], _ROWS):
        part = found[start : start + _ROWS]
        x, _ = sites.harvest(part.long().clamp_min(0))
        x = x[:, kept[start : start + _ROWS].to(x.device)].float()
        for layer in range(dictionary.n_layers):
            active, values = dictionary.sparse(layer, x[layer])
            at = place[done : done + x.shape[1]].to(active.tokens.device)
            pairs[layer].append((at[active.tokens].cpu(), active.features.int().cpu(), values.cpu()))
        done += x.shape[1]
    parts = []
    for layer in range(dictionary.n_layers):
        columns = [torch.cat(column).numpy() for column in zip(*pairs[layer])]
        parts.append(_layer_tables(found, columns[0], columns[1], columns[2], dictionary.n_features, done))
        pairs[layer].clear()
    tables = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    counts = tables.pop("count").long()
    tables["n_tokens"] = torch.tensor(done)
    tables["offsets"] = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
    narrow = torch.int16 if model.facts.vocab_size < 2**15 else torch.int32
    tables["tokens"] = tables["tokens"].to(narrow)
    tables |= _logit_tables(model, dictionary, narrow)
    return Examples(tables, dictionary.n_features)


def _layer_tables(
    rows: Tensor, at: Array, features: Array, values: Array, n_features: int, n_tokens: int
) -> dict[str, Array]:
    """Pairs of one layer (place in rows laid end to end, feature, activation) -> its part of the tables."""
    length = rows.shape[1]
    flat = rows.numpy().reshape(-1).astype(np.int64)
    order = np.lexsort((-values, features))
    at, features, values = at[order].astype(np.int64), features[order].astype(np.int64), values[order]
    counts = np.bincount(features, minlength=n_features)
    starts = np.concatenate([[0], np.cumsum(counts)])
    alive = counts > 0
    maximum, minimum = np.zeros(n_features, np.float32), np.zeros(n_features, np.float32)
    maximum[alive] = values[starts[:-1][alive]]
    minimum[alive] = values[starts[1:][alive] - 1]
    bins = np.minimum(values / maximum[features] * BINS, BINS - 1).astype(np.int64)
    histogram = np.bincount(features * BINS + bins, minlength=n_features * BINS).reshape(n_features, BINS)

    # Of pairs whose last tokens agree, the strongest.
    context = np.zeros(len(at), np.int64)
    for back in range(_CONTEXT):
        inside = at % length >= back
        context = context * 1_000_003 + np.where(inside, flat[at - back * inside], -1)
    _, first = np.unique(features * np.int64(2**40) + context % np.int64(2**40), return_index=True)
    distinct = np.sort(first)
    of = features[distinct]
    n = np.bincount(of, minlength=n_features)
    begin = np.concatenate([[0], np.cumsum(n)])
    rank = np.arange(len(distinct)) - begin[of]
    band = np.where(rank < TOP, 0, -1)
    for i, share in enumerate((0.25, 0.5, 0.75), 1):
        chosen = np.maximum(TOP + i - 1, (n * share).astype(np.int64))
        band = np.where((rank == chosen[of]) & (band < 0), i, band)
    picked = distinct[band >= 0]
    windows = (at[picked] % length)[:, None] - BEFORE + np.arange(WINDOW)
    inside = (windows >= 0) & (windows < length)
    where = np.where(inside, (at[picked] // length * length)[:, None] + windows, 0)
    tokens = np.where(inside, flat[where], -1)
    # The feature's activation at every token of the window: pairs looked up in one sorted list.
    keys = features * len(flat) + at
    by_key = np.argsort(keys)
    wanted = features[picked][:, None] * len(flat) + where
    found = np.minimum(np.searchsorted(keys[by_key], wanted), len(keys) - 1) if len(keys) else np.zeros_like(wanted)
    hit = inside & (keys[by_key][found] == wanted) if len(keys) else np.zeros_like(inside)
    strength = np.where(hit, values[by_key][found] if len(keys) else 0.0, 0.0) / maximum[features[picked]][:, None]
    return {
        "tokens": tokens.astype(np.int32),
        "activations": np.ceil(strength * 255).clip(0, 255).astype(np.uint8),  # an active token is never shown as zero
        "place": np.full(len(picked), BEFORE, np.uint8),
        "band": band[band >= 0].astype(np.uint8),
        "count": np.bincount(features[picked], minlength=n_features),
        "maximum": maximum,
        "minimum": minimum,
        "frequency": (counts / max(n_tokens, 1)).astype(np.float32),
        "histogram": histogram.astype(np.int32),
    }


def _logit_tables(model: Model, dictionary: Transcoders, ids: torch.dtype) -> dict[str, Tensor]:
    """The highest and lowest direct effects on the logits of one unit of each feature, through the final norm's gain.

    A direction only: the norm's denominator is left out, and so is the mean over the vocabulary.
    """
    gain, output = _readout(model)
    out: dict[str, list[Tensor]] = {f"{which}_{what}": [] for which in ("top", "bottom") for what in ("ids", "values")}
    for layer in dictionary.working:
        for part in layer.W_dec.sum(1).split(1024):  # type: ignore[no-untyped-call]
            if output is None:
                logits = torch.zeros(part.shape[0], 0)
            else:
                logits = (part * gain) @ output.T
                logits = logits - logits.mean(1, keepdim=True)
            k = min(LOGITS, logits.shape[1])
            for which, largest in (("top", True), ("bottom", False)):
                values, tokens = logits.topk(k, dim=1, largest=largest)
                out[f"{which}_ids"].append(_padded(tokens.to(ids), -1))
                out[f"{which}_values"].append(_padded(values.half(), 0))
    return {name: torch.cat(parts) for name, parts in out.items()}


def _readout(model: Model) -> tuple[Tensor | float, Tensor | None]:
    """The final norm's gain and W_U [vocab, d]; (1, None) where the model has no such parts."""
    find = getattr(model.hf, "get_output_embeddings", None)
    head = find() if find is not None else None
    if head is None:
        return 1.0, None
    parts = model.norms.get("final_norm_scale")
    gain = parts.gain.detach() if parts is not None and parts.gain is not None else 1.0
    output = head.weight.detach().float()
    if parts is not None and parts.centred:  # W_U (x - mean x) = (W_U - its mean over d) x
        scaled = output * gain
        return 1.0, scaled - scaled.mean(1, keepdim=True)
    return gain, output


def _padded(values: Tensor, with_: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, LOGITS - values.shape[1]), value=with_).cpu()
