"""Transcoders for every MLP of a model: per-layer sets and cross-layer transcoders, as trained and as read from disk.

    a^l = act(W_enc^l x^l + b_enc^l)
    y_hat^m = b_dec^m + sum over layers l that write to m of W_dec^{l->m} a^l  (+ W_skip^m x^m)

Definitions: Dunefsky et al. 2024 (transcoders), Paulo et al. 2025 (skip), Ameisen et al. 2025, "Circuit Tracing" (CLT).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.core import InputError, UnknownName
from cutaway.features.activations import Inference, above, activate
from cutaway.features.settings import Kind
from cutaway.features.sparse import Active, decode

if TYPE_CHECKING:
    from cutaway.features.examples import Examples


@dataclass(frozen=True)
class Layer:
    """One layer's weights, in the model's units.

    W_enc [F, d_in], b_enc [F], W_dec [F, outputs, d_out] (outputs: the layer itself, or all from it on), b_dec [d_out],
    threshold [F] for JumpReLU, W_skip [d_out, d_in].
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    threshold: Tensor | None = None
    W_skip: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if value is not None}

    def map(self, change: Callable[[Tensor], Tensor]) -> Layer:
        return Layer(**{name: change(value) for name, value in self.tensors().items()})


@dataclass(frozen=True)
class ModelFacts:
    """The model a dictionary was trained for. `fingerprint` is of its weights; empty where it is not known."""

    name: str = ""
    fingerprint: str = ""
    n_layers: int = 0
    d_model: int = 0


@dataclass(frozen=True, eq=False)
class Transcoders:
    """A trained set, satisfying `cutaway.core.protocols.TranscoderSet`. Immutable; `to` gives another.

    `layers` keep the precision they are stored in, so that saving loses nothing; half precision is computed with in
    float32.
    `input_name`, `output_name`: points without their layer (`mlp_in`, `mlp_out`). `rule` and `k`: the activation.
    `training`, `metrics`: how it was made and how well it does, as JSON. `extra`: fields of another format, kept.
    Raises `InputError` where shapes disagree or weights are not finite.
    """

    kind: Kind
    rule: Inference
    layers: tuple[Layer, ...]
    k: int | None = None
    model: ModelFacts = field(default_factory=ModelFacts)
    input_name: str = "mlp_in"
    output_name: str = "mlp_out"
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not self.layers:
            raise InputError("a transcoder set needs at least one layer.")
        if self.rule == "topk" and not self.k:
            raise InputError("a TopK dictionary needs k, and none is given.")
        for layer in range(self.n_layers):
            _check(self, layer)

    @cached_property
    def working(self) -> tuple[Layer, ...]:
        """The layers in the precision that is computed with."""
        held = self.layers[0].W_enc.dtype
        if held not in (torch.float16, torch.bfloat16):
            return self.layers
        return tuple(layer.map(Tensor.float) for layer in self.layers)

    # ------------------------------------------------------------------------------------------------- protocol

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @property
    def n_features(self) -> int:
        """Of one layer."""
        return self.layers[0].W_enc.shape[0]

    @property
    def d_in(self) -> int:
        return self.layers[0].W_enc.shape[1]

    @property
    def d_out(self) -> int:
        return self.layers[0].W_dec.shape[2]

    def input_point(self, layer: int) -> str:
        return f"{self.input_name}.{self._valid(layer)}"

    def output_point(self, layer: int) -> str:
        return f"{self.output_name}.{self._valid(layer)}"

    def writes(self, layer: int) -> tuple[int, ...]:
        self._valid(layer)
        return tuple(range(layer, self.n_layers)) if self.kind == "clt" else (layer,)

    def pre_activations(self, layer: int, x: Tensor) -> Tensor:
        """[..., d_in] -> [..., F]."""
        held = self._at(layer)
        return torch.nn.functional.linear(self._fits(x), held.W_enc, held.b_enc)

    def activations(self, layer: int, x: Tensor) -> Tensor:
        """[..., d_in] -> [..., F], zero where inactive."""
        return activate(self.pre_activations(layer, x), self.rule, self._at(layer).threshold, self.k)

    def encoder_rows(self, layer: int, features: Tensor) -> Tensor:
        return self._at(layer).W_enc[features]

    def encoder_bias(self, layer: int, features: Tensor) -> Tensor:
        return self._at(layer).b_enc[features]

    def decoder_rows(self, layer: int, features: Tensor, to: int) -> Tensor:
        """[k] -> [k, d_out]. Raises `InputError` where the layer does not write to `to`."""
        if to not in self.writes(layer):
            raise InputError(
                f"features of layer {layer} of this {self.kind} write to {self.writes(layer)}, not to {to}."
            )
        return self._at(layer).W_dec[features, to - layer]

    def output_bias(self, layer: int) -> Tensor:
        return self._at(layer).b_dec

    def skip(self, layer: int) -> Tensor | None:
        return self._at(layer).W_skip

    # ------------------------------------------------------------------------------------------- whole passes

    def sparse(self, layer: int, x: Tensor) -> tuple[Active, Tensor]:
        """[n, d_in] -> the active (token, feature) pairs, and the activations there [nnz]."""
        a = self.activations(layer, x)
        active = above(a, 0.0)
        return active, a[active.tokens, active.features]

    def written(self, layer: int, active: Active, values: Tensor) -> dict[int, Tensor]:
        """What a layer's active features write to each output: {m: [n, d_out]}."""
        out = decode(values, self._at(layer).W_dec.flatten(1), active).view(active.n_tokens, -1, self.d_out)
        return dict(zip(self.writes(layer), out.unbind(1)))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> tuple[Tensor, list[Active]]:
        """[layers, n, d_in] -> y_hat [layers, n, d_out] and what was active a layer."""
        y_hat = torch.stack([self.constant(layer, x[layer]) for layer in range(self.n_layers)])
        found = []
        for layer in range(self.n_layers):
            active, values = self.sparse(layer, x[layer])
            for m, part in self.written(layer, active, values).items():
                y_hat[m] += part
            found.append(active)
        return y_hat, found

    def constant(self, layer: int, x: Tensor) -> Tensor:
        """What an output has without any feature: its bias, and the skip connection's part. [n, d_in] -> [n, d_out]."""
        held = self._at(layer)
        out = held.b_dec.expand(x.shape[0], -1)
        return out if held.W_skip is None else out + self._fits(x) @ held.W_skip.T

    def encode(self, x: Tensor) -> Tensor:
        """Inputs of all MLPs [..., layers, d_in] -> activations [..., layers, F]."""
        self._all_layers(x)
        return torch.stack([self.activations(layer, x[..., layer, :]) for layer in range(self.n_layers)], dim=-2)

    def decode(self, a: Tensor, x: Tensor | None = None) -> Tensor:
        """Activations [..., layers, F] -> outputs [..., layers, d_out]. A skip set needs the inputs x as well."""
        self._all_layers(a)
        out = []
        for m in range(self.n_layers):
            held = self.working[m]
            y = held.b_dec.expand(*a.shape[:-2], -1)
            for layer in range(m + 1):
                if m in self.writes(layer):
                    y = y + a[..., layer, :] @ self.working[layer].W_dec[:, m - layer]
            if held.W_skip is not None:
                if x is None:
                    raise InputError("a skip transcoder decodes with its inputs: decode(a, x).")
                y = y + x[..., m, :] @ held.W_skip.T
            out.append(y)
        return torch.stack(out, dim=-2)

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Transcoders:
        """The same set in another precision or place."""
        return replace(self, layers=tuple(held.map(lambda t: t.to(device=device, dtype=dtype)) for held in self.layers))

    def with_(self, **changes: Any) -> Transcoders:
        return replace(self, **changes)

    def save(self, folder: str | Path) -> None:
        """Write in our format (docs/dictionaries.md), in the precision that the weights have."""
        from cutaway.features.formats import save

        save(self, folder)

    @property
    def examples(self) -> Examples | None:
        """Where each feature fires and what it writes to the logits, if that was stored beside the weights."""
        from cutaway.features.examples import read_examples

        return read_examples(self.folder, self.n_features) if self.folder is not None else None

    def __str__(self) -> str:
        act = {"jumprelu": "JumpReLU", "relu": "ReLU", "topk": f"TopK {self.k}"}[self.rule]
        what = "cross-layer transcoder" if self.kind == "clt" else "per-layer transcoders"
        of = f" of {self.model.name}" if self.model.name else ""
        return f"{what}{of}: {self.n_layers} layers x {self.n_features} features, d {self.d_in} -> {self.d_out}, {act}"

    __repr__ = __str__

    # --------------------------------------------------------------------------------------------------- checks

    def _valid(self, layer: int) -> int:
        if not 0 <= layer < self.n_layers:
            raise UnknownName("layer of this dictionary", str(layer), [str(i) for i in range(self.n_layers)])
        return layer

    def _at(self, layer: int) -> Layer:
        return self.working[self._valid(layer)]

    def _fits(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.d_in:
            raise InputError(f"this dictionary reads {self.d_in} numbers a token; {list(x.shape)} were given.")
        return x.to(self.working[0].W_enc.dtype)

    def _all_layers(self, x: Tensor) -> None:
        if x.ndim < 2 or x.shape[-2] != self.n_layers:
            raise InputError(
                f"encode and decode take [..., {self.n_layers} layers, width]; {list(x.shape)} were given."
            )


def _check(dictionary: Transcoders, layer: int) -> None:
    held, first = dictionary.layers[layer], dictionary.layers[0]
    if held.W_enc.ndim != 2 or held.W_dec.ndim != 3:
        raise InputError(f"layer {layer}: W_enc is [F, d_in] and W_dec [F, outputs, d_out]; "
                         f"{list(held.W_enc.shape)} and {list(held.W_dec.shape)} were given.")  # fmt: skip
    features, d_in = first.W_enc.shape
    d_out, outputs = first.W_dec.shape[2], len(dictionary.writes(layer))
    expected: Sequence[tuple[str, tuple[int, ...]]] = (
        ("W_enc", (features, d_in)), ("b_enc", (features,)), ("W_dec", (features, outputs, d_out)), ("b_dec", (d_out,)),
        ("threshold", (features,)), ("W_skip", (d_out, d_in)),
    )  # fmt: skip
    for name, shape in expected:
        value = getattr(held, name)
        if value is not None and tuple(value.shape) != shape:
            raise InputError(f"layer {layer}: {name} should be {list(shape)} and is {list(value.shape)}.")
        if value is not None and not torch.isfinite(value).all():
            raise InputError(f"layer {layer}: {name} holds NaN or infinite values.")
    if (dictionary.rule == "jumprelu") != (held.threshold is not None):
        raise InputError(
            f"layer {layer}: a threshold belongs to JumpReLU, and this dictionary's rule is {dictionary.rule}."
        )
