"""Whether a dictionary belongs to a model: by points and shapes, then by how it reconstructs what is computed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, overload

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cutaway.core import InputError
from cutaway.features.circuit_tracer import EXTRA
from cutaway.features.places import Places
from cutaway.features.sae import SAE
from cutaway.features.sites import Sites
from cutaway.features.stream import as_rows, harvest_all, kept_positions
from cutaway.features.transcoders import Transcoders

if TYPE_CHECKING:
    from cutaway.model import Model

SAMPLE_ROWS, SAMPLE_LENGTH = 8, 32


@overload
def check_fit(
    model: Model, dictionary: Transcoders, rows: ArrayLike | Tensor | None = None, seed: int = 0
) -> Transcoders: ...


@overload
def check_fit(model: Model, dictionary: SAE, rows: ArrayLike | Tensor | None = None, seed: int = 0) -> SAE: ...


def check_fit(
    model: Model, dictionary: Transcoders | SAE, rows: ArrayLike | Tensor | None = None, seed: int = 0
) -> Transcoders | SAE:
    """The dictionary, with its points as this model names them; or `InputError` where it is for another model.

    An SAE's hooks are read as this model's family means them. First layers, widths and points; then the error on
    `rows` [rows, position], or, without rows, on text that the model itself writes (8 x 32 tokens, drawn at
    temperature 1). A dictionary is refused where the median token is reconstructed worse than by the mean, averaged
    over layers. Cost: one forward over the rows; writing them takes 32.
    """
    text = own_text(model, seed) if rows is None else rows
    if isinstance(dictionary, SAE):
        dictionary = placed_sae(dictionary, model)
        errors, what = sae_median_error(model, dictionary, text), dictionary.writes_to
    else:
        dictionary = placed(dictionary, model)
        errors, what = median_errors(model, dictionary, text), "the MLPs"
    worst = float(errors.mean())
    if not worst < 1:
        each = ", ".join(f"{error:.2f}" for error in errors.tolist())
        raise InputError(
            f"this dictionary does not fit {model.name}: it reconstructs {what} worse than the mean does (median "
            f"error per token by layer: {each}; 1 is the mean).{_trained_for(dictionary, model)}"
        )
    return dictionary


def placed(dictionary: Transcoders, model: Model) -> Transcoders:
    """The dictionary with its points as this model names them, once its shapes fit. Raises `InputError`."""
    facts, name = model.facts, model.name
    if dictionary.n_layers != facts.n_layers:
        raise InputError(
            f"this dictionary has {dictionary.n_layers} layers and {name} has {facts.n_layers}."
            + _trained_for(dictionary, model)
        )
    for what, width in (("reads", dictionary.d_in), ("writes", dictionary.d_out)):
        if width != facts.d_model:
            raise InputError(
                f"this dictionary {what} {width} numbers a token and {name} has a width of {facts.d_model}."
                + _trained_for(dictionary, model)
            )
    config = dictionary.extra.get(EXTRA)
    if config and model.architecture is not None:
        # A hook name means another point on families with a norm behind the MLP: the model knows.
        points = [
            model.hook_point(str(config[field]), 0, folded=False).partition(".")[0]  # circuit-tracer folds none
            for field in ("feature_input_hook", "feature_output_hook")
            if field in config
        ]
        if len(points) == 2:
            dictionary = dictionary.with_(input_name=points[0], output_name=points[1])
    Sites.of(model, dictionary.input_name, dictionary.output_name)
    return dictionary


def placed_sae(dictionary: SAE, model: Model) -> SAE:
    """An SAE with its points as this model names them, once its widths fit. Raises `InputError`."""
    if not dictionary.point or dictionary.output_point == "?":
        raise InputError(
            "it is not known which point this dictionary reads (its file does not say so in words known here): set it "
            'with dictionary.with_(point="resid_post.2"), and output_point= for a transcoder.'
        )
    at, to = (model.site(point).address for point in (dictionary.point, dictionary.writes_to))
    hook = _hook_of(dictionary)
    if hook is not None and model.architecture is not None:
        at = to = model.hook_point(*hook)
    site = model.site(at)
    same = at == to
    dictionary = dictionary.with_(
        point=at, output_point=None if same and dictionary.output_point is None else to,
        heads=site.heads[0] if site.heads is not None and same else None,
    )  # fmt: skip
    _, _, found = Places.of(model, [at, to], mlps=False).harvest(torch.zeros(1, 2, dtype=torch.long))
    for what, point, width in (("reads", at, dictionary.d_in), ("writes", to, dictionary.d_out)):
        if found[point].shape[-1] != width:
            raise InputError(
                f"this dictionary {what} {width} numbers a token and {point} of {model.name} has "
                f"{found[point].shape[-1]}." + _trained_for(dictionary, model)
            )
    return dictionary


def _hook_of(dictionary: SAE) -> tuple[str, int] | None:
    """(hook, layer) of a name that only the model can read: what hook_mlp_out is depends on the family."""
    metadata = dictionary.extra.get("saelens", {}).get("metadata") or dictionary.extra.get("saelens", {})
    match = re.fullmatch(r"blocks\.(\d+)\.(hook_mlp_out)", str(metadata.get("hook_name") or ""))
    return (match[2], int(match[1])) if match and dictionary.output_point is None else None


@torch.no_grad()
def sae_median_error(model: Model, dictionary: SAE, rows: ArrayLike | Tensor) -> Tensor:
    """Median over tokens of |y - y_hat|^2 / |y - mean|^2, [1]. Raises `InputError` for NaN or infinite values."""
    found = as_rows(rows, model.facts.vocab_size)
    places = Places.of(model, [dictionary.point, dictionary.writes_to], mlps=False)
    batch = harvest_all(places, found, first_position=False)
    return _medians(model, dictionary, batch.at[dictionary.point], batch.at[dictionary.writes_to])[None]


@torch.no_grad()
def median_errors(model: Model, dictionary: Transcoders, rows: ArrayLike | Tensor) -> Tensor:
    """Median over tokens of |y - y_hat|^2 / |y - mean|^2, by layer. Raises `InputError` for NaN or infinite values."""
    found = as_rows(rows, model.facts.vocab_size)
    sites = Sites.of(model, dictionary.input_name, dictionary.output_name)
    x, y = sites.harvest(found.long().clamp_min(0))
    counted = kept_positions(found, first_position=False).to(x.device)
    return _medians(model, dictionary, x[:, counted].float(), y[:, counted].float())


def _medians(model: Model, dictionary: Transcoders | SAE, x: Tensor, y: Tensor) -> Tensor:
    """x, y [..., n, d] -> [...]: medians over tokens."""
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise InputError(f"{model.name} computes NaN or infinite activations: its weights are broken.")
    y_hat, _ = dictionary.reconstruct(x)
    size = (y - y.mean(-2, keepdim=True)).square().sum(-1).clamp_min(1e-20)
    return ((y - y_hat).square().sum(-1) / size).median(-1).values


@torch.no_grad()
def own_text(model: Model, seed: int = 0, rows: int = SAMPLE_ROWS, length: int = SAMPLE_LENGTH) -> Tensor:
    """Rows that the model writes itself, from its beginning of text (or random ids where it has none)."""
    generator = torch.Generator().manual_seed(seed)
    begin = getattr(model.tokenizer, "bos_token_id", None)
    if begin is None:
        ids = torch.randint(model.facts.vocab_size, (rows, 1), generator=generator)
    else:
        ids = torch.full((rows, 1), int(begin))
    length = min(length, model.facts.max_positions or length)
    while ids.shape[1] < length:
        logits = model.run(ids).at("logits").float().cpu()
        if not bool(torch.isfinite(logits).all()):
            raise InputError(f"{model.name} computes NaN or infinite logits: its weights are broken.")
        ids = torch.cat([ids, torch.multinomial(logits.softmax(-1), 1, generator=generator)], 1)
    return ids


def _trained_for(dictionary: Transcoders | SAE, model: Model) -> str:
    name = dictionary.model.name
    return f" It was trained for {name}." if name and name != model.name else ""
