"""What each feature of a dictionary is: found in one go, stored as Parquet, read as a table, a card or by search.py.

examples      contexts of the four strongest activations and one from each quarter further down (examples.py)
rules         held-out AUROC of telling from the token, and with the one before, whether it fires (rules.py)
span          the fewest last tokens of its strongest example (after the beginning of text) at which it still has
              half its activation; -1 where it needs more than SPANS holds
effect        KL, nats, of the next token's distribution when the feature is taken out at its strongest example, all
              else kept, the dictionary's error too; beside it the same for a random direction of the same length
clamp         the same with the feature set to CLAMP times its largest activation
logits        direct effect of one unit through the final norm's gain, less the mean over the vocabulary
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cutaway.core import InputError
from cutaway.evidence import random_directions
from cutaway.features.effects import measured_effects, spans
from cutaway.features.examples import BANDS, _layer_tables, _readout
from cutaway.features.fit import placed_sae
from cutaway.features.labels import rule_label
from cutaway.features.places import Places
from cutaway.features.rules import contexts, fit_rules
from cutaway.features.sae import SAE
from cutaway.features.stability import nearest
from cutaway.features.stream import as_rows, harvest_all, kept_positions

if TYPE_CHECKING:
    from cutaway.model import Model

Array = NDArray[Any]
Say = Callable[[str], None]
NEAREST, LOGITS, TOKENS = 6, 8, 6
LOGIT_BINS = 20
_COLUMNS = 256
_STREAM = ("resid_", "mlp_out", "attn_out")  # points whose vectors live in the residual stream


@dataclass(frozen=True, eq=False)
class Described:
    """`features`: a dict of columns, one value a feature; `examples`: a list of rows; `about`: of what and on what."""

    features: dict[str, list[Any]]
    examples: list[dict[str, Any]]
    about: dict[str, Any]

    def __len__(self) -> int:
        return len(self.features["feature"])

    def card(self, feature: int) -> dict[str, Any]:
        """One feature as JSON (`cutaway.feature_card/1`). Raises `InputError` outside."""
        if not 0 <= feature < len(self):
            raise InputError(f"no feature {feature}; there are {len(self)}, from 0.")
        held = {name: column[feature] for name, column in self.features.items() if name != "decoder"}
        shown = [{k: v for k, v in one.items() if k != "feature"} for one in self.examples if one["feature"] == feature]
        return {"schema": "cutaway.feature_card/1", "about": self.about, **held, "examples": shown}

    def __str__(self) -> str:
        alive = sum(f > 0 for f in self.features["frequency"])
        at = [a for a in self.features["token_auroc"] if a is not None]
        gain = [p - t for t, p in zip(self.features["token_auroc"], self.features["pair_auroc"]) if t is not None]
        told = sum(a >= 0.9 for a in at)
        stronger = sum(
            e > n for e, n in zip(self.features["effect"], self.features["effect_random"]) if e is not None
        )  # fmt: skip
        return "\n".join(
            [
                f"{self.about['dictionary']}: {len(self)} features, {alive} alive on {self.about['n_tokens']:,} tokens",
                f"  told by the token they are on (held-out AUROC >= .9): {told} of the {len(at)} that fire often",
                f"  the previous token adds {np.mean(gain) if gain else float('nan'):+.3f} on average",
                f"  taking the feature out changes the next token more than a random direction does: {stronger} of "
                f"{sum(e is not None for e in self.features['effect'])}",
            ]
        )

    __repr__ = __str__


@torch.no_grad()
def describe(
    model: Model, dictionary: SAE, rows: ArrayLike | Tensor, *, seeds: Sequence[SAE] = (),
    narrower: SAE | None = None, wider: SAE | None = None, effects: bool = True, seed: int = 0,
    on: Say = lambda message: None,
) -> Described:  # fmt: skip
    """Describe every feature, on rows of token ids [rows, position] (-1 pads).

    seeds: dictionaries of the same point from other seeds, whose nearest feature is the seed partner (in the first);
    narrower, wider: of other widths, where a feature's parent and children are.
    Cost: a pass over the rows; with `effects` four forwards of each feature's strongest example and six of at most 33
    tokens. Memory: tokens x features x 4 bytes.
    Raises `InputError` where the dictionary does not fit the model, or nothing fires.
    """
    found = as_rows(rows, model.facts.vocab_size)
    sae = placed_sae(dictionary, model)
    kept = kept_positions(found, first_position=False)
    layer = model.site(sae.writes_to).layer
    neurons = _neuron_point(model, layer)
    on("running the model")
    places = Places.of(model, [p for p in (sae.point, neurons) if p], mlps=False)
    at = harvest_all(places, found, first_position=False).at
    a = sae.encode(at[sae.point])
    if not bool((a != 0).any()):
        raise InputError("no feature of this dictionary fires on these rows; is it of this model and point?")
    n, F = a.shape
    where = kept.view(-1).nonzero()[:, 0]
    pairs = (a > 0).nonzero()
    tables = _layer_tables(found, where[pairs[:, 0]].int().numpy(), pairs[:, 1].int().numpy(), a[a > 0].numpy(), F, n)
    spell = _speller(model)
    tokens, previous, row = contexts(found, kept)
    on("learning rules")
    features = {"feature": list(range(F)), **_rules(tokens, previous, row, a, spell)}
    features |= _statistics(a, tables)
    features |= _logits(model, sae, spell)
    features |= _neighbours(sae, seeds, narrower, wider)
    features |= _neurons(a, at[neurons] if neurons else None, neurons)
    top = a.argmax(0)
    peak = a.max(0).values
    if effects:
        on("taking features out, one by one")
        strongest = where[top]
        features |= measured_effects(model, sae, found, strongest, peak, spell, seed)
        features["span"] = spans(model, sae, found, strongest, peak)
    else:
        features |= {name: [None] * F for name in ("effect", "effect_random", "clamp_effect", "span")}
        features |= {name: [[] for _ in range(F)] for name in ("lost", "clamp_raised")}
    features["label"] = [rule_label({k: v[f] for k, v in features.items()}) for f in range(F)]
    unit = torch.nn.functional.normalize(sae.W_dec.float(), dim=1)
    features["decoder"] = [[round(v, 5) for v in one] for one in unit.tolist()]
    about = {
        "model": model.name, "dictionary": str(sae), "point": sae.point, "writes_to": sae.writes_to, "n_tokens": n,
        "n_rows": found.shape[0], "seed": seed, "n_features": F,
    }  # fmt: skip
    return Described(features, _examples(tables, spell, peak), about)


def _speller(model: Model) -> Callable[[int], str]:
    tokenizer = model.tokenizer
    if tokenizer is None:
        return str
    known: dict[int, str] = {}

    def spell(token: int) -> str:
        if token not in known:
            known[token] = str(tokenizer.decode([token]))
        return known[token]

    return spell


def _rules(
    tokens: Tensor, previous: Tensor, row: Tensor, a: Tensor, spell: Callable[[int], str]
) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {
        name: [] for name in ("token_auroc", "pair_auroc", "token_entropy", "rule_tokens", "rule_p")
    }
    for start in range(0, a.shape[1], _COLUMNS):
        fires = a[:, start : start + _COLUMNS] > 0
        rules = fit_rules(tokens, previous, fires, row % 2 == 0)
        out["token_auroc"] += [_number(v) for v in rules.token]
        out["pair_auroc"] += [_number(v) for v in rules.pair]
        out["token_entropy"] += [_number(v) for v in rules.entropy]
        order = np.argsort(-rules.p, axis=0)[:TOKENS]
        for column in range(order.shape[1]):
            alive = rules.fired[column] > 0
            p = rules.p[order[:, column], column]
            some = [i for i in range(len(p)) if alive and p[i] > max(2 * rules.base[column], 0.05)]
            out["rule_tokens"].append([spell(int(rules.tokens[order[i, column]])) for i in some])
            out["rule_p"].append([round(float(p[i]), 3) for i in some])
    return out


def _statistics(a: Tensor, tables: dict[str, Array]) -> dict[str, list[Any]]:
    fired = (a > 0).sum(0)
    mean = a.sum(0) / fired.clamp_min(1)
    return {
        "frequency": [float(v) for v in tables["frequency"]],
        "fired": fired.tolist(),
        "maximum": [round(float(v), 5) for v in tables["maximum"]],
        "mean_active": [round(float(v), 5) for v in mean],
        "histogram": [[int(c) for c in one] for one in tables["histogram"]],
    }


def _logits(model: Model, sae: SAE, spell: Callable[[int], str]) -> dict[str, list[Any]]:
    """Top and bottom logits and a histogram of all, where what the dictionary writes lives in the residual stream."""
    F = sae.n_features
    gain, output = _readout(model)
    names = ("top_logits", "bottom_logits", "logit_histogram", "logit_edges")
    if output is None or not sae.writes_to.startswith(_STREAM):
        return {name: [[] for _ in range(F)] for name in names}
    out: dict[str, list[Any]] = {name: [] for name in names}
    for part in sae.written.split(512):  # type: ignore[no-untyped-call]
        logits = (part * gain) @ output.T
        logits = logits - logits.mean(1, keepdim=True)
        for name, largest in (("top_logits", True), ("bottom_logits", False)):
            values, ids = logits.topk(min(LOGITS, logits.shape[1]), dim=1, largest=largest)
            out[name] += [
                [{"token": spell(t), "value": round(v, 4)} for t, v in zip(i, w)]
                for i, w in zip(ids.tolist(), values.tolist())
            ]
        for one in logits:
            counts, edges = np.histogram(one.numpy(), bins=LOGIT_BINS)
            out["logit_histogram"].append([int(c) for c in counts])
            out["logit_edges"].append([round(float(edges[0]), 4), round(float(edges[-1]), 4)])
    return out


def _neighbours(sae: SAE, seeds: Sequence[SAE], narrower: SAE | None, wider: SAE | None) -> dict[str, list[Any]]:
    W = torch.nn.functional.normalize(sae.W_dec.float(), dim=1)
    F = W.shape[0]
    close, cosines = [], []
    for start in range(0, F, 1024):
        part = W[start : start + 1024] @ W.T
        part[torch.arange(part.shape[0]), torch.arange(start, start + part.shape[0])] = -2
        values, index = part.topk(min(NEAREST, F - 1), dim=1)
        close += index.tolist()
        cosines += [[round(v, 4) for v in one] for one in values.tolist()]
    chance = nearest(random_directions(W, seed=0), sae.W_dec)[0]
    out: dict[str, list[Any]] = {
        "nearest": close, "nearest_cosine": cosines,
        "nearest_by_chance": [round(float(chance.median()), 4)] * F,
        "seed_partner": [None] * F, "seed_cosine": [None] * F, "seed_by_chance": [None] * F,
        "parent": [None] * F, "parent_cosine": [None] * F, "children": [[] for _ in range(F)],
    }  # fmt: skip
    if seeds:
        found = [nearest(sae.W_dec, other.W_dec) for other in seeds]
        out["seed_partner"] = found[0][1].tolist()
        mean = torch.stack([cosine for cosine, _ in found]).mean(0)
        out["seed_cosine"] = [round(v, 4) for v in mean.tolist()]
        random = nearest(random_directions(W, seed=1), seeds[0].W_dec)[0]
        out["seed_by_chance"] = [round(float(random.median()), 4)] * F
    if narrower is not None:
        cosine, index = nearest(sae.W_dec, narrower.W_dec)
        out["parent"], out["parent_cosine"] = index.tolist(), [round(v, 4) for v in cosine.tolist()]
    if wider is not None:
        _, index = nearest(wider.W_dec, sae.W_dec)
        for child, parent in enumerate(index.tolist()):
            out["children"][parent].append(child)
    return out


def _neuron_point(model: Model, layer: int | None) -> str | None:
    if layer is None:
        return None
    point = f"mlp_act.{layer}"
    return point if model.refuses(point) is None else None


def _neurons(a: Tensor, x: Tensor | None, point: str | None) -> dict[str, list[Any]]:
    """The neuron of the same layer's MLP whose activation goes with the feature's most (Pearson), either sign."""
    F = a.shape[1]
    if x is None:
        return {"neuron": [None] * F, "neuron_correlation": [None] * F, "neuron_point": [None] * F}
    da, dx = a - a.mean(0), x - x.mean(0)
    r = (da.T @ dx) / (da.norm(dim=0)[:, None] * dx.norm(dim=0)[None]).clamp_min(1e-12)
    best = r.abs().max(1).indices
    value = r[torch.arange(F), best]
    return {
        "neuron": best.tolist(), "neuron_correlation": [round(v, 4) for v in value.tolist()],
        "neuron_point": [point] * F,
    }  # fmt: skip


def _examples(tables: dict[str, Array], spell: Callable[[int], str], peak: Tensor) -> list[dict[str, Any]]:
    out, offsets = [], np.concatenate([[0], np.cumsum(tables["count"])])
    for feature in range(len(offsets) - 1):
        for e in range(int(offsets[feature]), int(offsets[feature + 1])):
            ids = tables["tokens"][e].tolist()
            real = [i for i, token in enumerate(ids) if token >= 0]
            strength = tables["activations"][e]
            out.append(
                {
                    "feature": feature,
                    "band": BANDS[int(tables["band"][e])],
                    "tokens": [spell(ids[i]) for i in real],
                    "activations": [round(float(strength[i]) / 255 * float(peak[feature]), 4) for i in real],
                    "place": real.index(int(tables["place"][e])),
                }
            )
    return out


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
