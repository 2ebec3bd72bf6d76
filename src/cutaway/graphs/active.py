"""The active features of one prompt, and everything that writes to its residual stream, as vectors in that stream."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.core.protocols import TranscoderSet
from cutaway.graphs.workers import in_order
from cutaway.model.frozen import FrozenPath


@dataclass(frozen=True)
class ActiveFeatures:
    """A features, sorted by (position, layer, feature): an order in which every edge points forward."""

    layer: Tensor  # [A]
    position: Tensor  # [A]
    feature: Tensor  # [A]
    activation: Tensor  # [A]
    pre_activation: Tensor  # [A]

    def __len__(self) -> int:
        return int(self.layer.numel())


@dataclass(frozen=True)
class Writes:
    """What features write at the output of one layer: their vectors, and which of the A features they are.

    Features at position q are rows `starts[q]:starts[q + 1]`, and a run of neighbours among the A features, from
    `first[q]` on: those of position q and of the layers that write here.
    """

    vectors: Tensor  # [S, d], activation included, in the residual stream
    starts: list[int]  # [T + 1]
    first: list[int]  # [T]


@dataclass(frozen=True)
class Skip:
    """A skip connection between the streams at both ends of an MLP, norms folded in: scale * (matrix r)."""

    matrix: Tensor  # [d, d]
    scale: Tensor | None  # [position, 1]

    def transpose(self, gradient: Tensor) -> Tensor:
        """Gradients after the MLP [position, n, d] -> before it."""
        through = gradient @ self.matrix
        return through if self.scale is None else through * self.scale[: len(gradient), :, None]

    def transpose_at(self, gradient: Tensor, position: int) -> Tensor:
        """The same for gradients [n, d] at one position."""
        through = gradient @ self.matrix
        return through if self.scale is None else through * self.scale[position]


@dataclass(frozen=True)
class Sources:
    """Every vector written into the stream on this prompt. L layers, T positions."""

    features: ActiveFeatures
    writes: tuple[Writes, ...]  # per layer written to
    errors: Tensor  # [L, T, d]: what the dictionary leaves of each MLP output
    mlp_bias: Tensor  # [L, T, d]: output biases, the post-norm's, and the constant part of a skip connection
    attn_bias: Tensor  # [L, T, d]
    skips: tuple[Skip | None, ...]  # per layer


def active_features(path: FrozenPath, dictionary: TranscoderSet) -> ActiveFeatures:
    """Which features are active where, with activations and pre-activations. Costs one encoding of every layer."""
    _check_dictionary(path, dictionary)

    @torch.no_grad()
    def encode(layer: int) -> tuple[Tensor, ...]:
        x = path.mlp_input(layer)
        activations = dictionary.activations(layer, x)
        if not torch.isfinite(activations).all():
            raise InputError(f"The dictionary's activations at layer {layer} are not finite.")
        position, feature = activations.nonzero(as_tuple=True)
        at = (position, feature)
        pre = dictionary.pre_activations(layer, x)[at]
        return torch.full_like(position, layer), position, feature, activations[at], pre

    found = list(in_order(encode, range(path.n_layers), on_cpu=path.on_cpu))
    layer_, position_, feature_, activation, pre_ = (torch.cat(parts) for parts in zip(*found))
    width = int(feature_.max()) + 1 if len(feature_) else 1
    order = ((position_ * path.n_layers + layer_) * width + feature_).argsort()
    return ActiveFeatures(layer_[order], position_[order], feature_[order], activation[order], pre_[order])


def collect(path: FrozenPath, dictionary: TranscoderSet, features: ActiveFeatures) -> Sources:
    """The vectors of all sources. Keeps one row of d_model per (active feature, layer that it writes to)."""
    every = torch.arange(path.n_positions, device=features.layer.device)
    by_layer = [(features.layer == layer).nonzero().flatten() for layer in range(path.n_layers)]

    @torch.no_grad()
    def write(to: int) -> tuple[Writes, Tensor, Tensor, Skip | None]:
        writers = [layer for layer in range(path.n_layers) if to in dictionary.writes(layer)]
        index = torch.cat([by_layer[layer] for layer in writers])
        rows = torch.cat([dictionary.decoder_rows(layer, features.feature[by_layer[layer]], to) for layer in writers])
        rows, order = features.activation[index, None] * rows, index.argsort()
        index, rows = index[order], rows[order]
        position = features.position[index]

        bias, skip, x = dictionary.output_bias(to), dictionary.skip(to), path.mlp_input(to)
        error = (path.mlp_output(to) - bias).index_add(0, position, rows, alpha=-1)
        constant = bias.expand(path.n_positions, -1)
        if skip is not None:
            error = error - x @ skip.T
            norm = path.reading_norm(to)
            if norm is not None and norm.bias is not None:
                constant = constant + skip @ norm.bias
        written = path.write(to, constant, every)
        extra = path.write_bias(to)
        written = written if extra is None else written + extra
        grouped = _group(path, path.write(to, rows, position), position, index)
        return grouped, path.write(to, error, every), written, None if skip is None else _skip(path, to, skip)

    found = in_order(write, range(path.n_layers), on_cpu=path.on_cpu)
    writes, errors, mlp_bias, skips = zip(*found)
    return Sources(
        features,
        writes,
        torch.stack(errors),
        torch.stack(mlp_bias),
        torch.stack([layer.attn_bias for layer in path.layers]),
        skips,
    )


def _group(path: FrozenPath, vectors: Tensor, position: Tensor, index: Tensor) -> Writes:
    counts = torch.bincount(position, minlength=path.n_positions)
    starts = [0, *counts.cumsum(0).tolist()]
    head = index.tolist()
    first = [head[start] if start < end else 0 for start, end in pairwise(starts)]
    for start, end, at in zip(starts, starts[1:], first):
        if start < end and head[end - 1] - at != end - start - 1:
            raise InputError(
                "A dictionary's features write to their own layer alone, or to every layer from theirs on; "
                "this one's `writes` are neither."
            )
    return Writes(vectors, starts, first)


def _skip(path: FrozenPath, layer: int, skip: Tensor) -> Skip:
    here, norm = path.layers[layer], path.reading_norm(layer)
    matrix, scale = skip, None  # y = skip x
    if path.output_point == "mlp_out":
        if here.write_norm is not None:
            matrix, scale = here.write_norm.fold_out(matrix.T).T, here.write_norm.scale
        matrix = here.write_multiplier * matrix
    if norm is not None:
        matrix = norm.fold_in(matrix)
        scale = norm.scale if scale is None else scale * norm.scale
    return Skip(matrix, scale)


def _check_dictionary(path: FrozenPath, dictionary: TranscoderSet) -> None:
    if dictionary.n_layers != path.n_layers:
        raise InputError(
            f"The dictionary is for a model of {dictionary.n_layers} layers; this one has {path.n_layers}. "
            "Use a dictionary that was trained on this model."
        )
    for layer in range(path.n_layers):
        x, some = path.mlp_input(layer), torch.zeros(1, dtype=torch.long, device=path.embedding.device)
        d_in = dictionary.encoder_rows(layer, some).shape[-1]
        d_out = dictionary.decoder_rows(layer, some, layer).shape[-1]
        if (d_in, d_out) != (x.shape[-1], path.d_model):
            raise InputError(
                f"The dictionary reads vectors of {d_in} and writes vectors of {d_out} at layer {layer}; "
                f"this model's have {x.shape[-1]} and {path.d_model}. Use a dictionary that was trained on this model."
            )
