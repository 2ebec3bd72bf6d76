"""What the rooms share without importing one another: values that satisfy these protocols pass between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class TokenBatch(Protocol):
    """Token ids and the mask of those that are not padding, both [n, position]."""

    @property
    def ids(self) -> Tensor: ...

    @property
    def mask(self) -> Tensor: ...

    @property
    def layout(self) -> Any:
        """Where each row's own tokens lie: `.column(row, position, what)`, `.starts`, `.lengths`, `.width`."""
        ...


@runtime_checkable
class Task(Protocol):
    """n pairs of prompts that differ in what is studied, with the answers and a metric at their last token.

    Clean and counterfactual have one shape and are aligned position by position; rows may differ in length (padding).
    `positions` count a row's own tokens, so they hold whatever the padding.
    """

    @property
    def name(self) -> str: ...

    @property
    def clean(self) -> TokenBatch: ...

    @property
    def counterfactual(self) -> TokenBatch: ...

    @property
    def answers(self) -> Tensor:
        """[n] ids of the right token after the clean prompt."""
        ...

    @property
    def wrong(self) -> Tensor | None:
        """[n] ids of the token to compare with, or None."""
        ...

    @property
    def positions(self) -> Mapping[str, Tensor]:
        """Name -> [n] positions of a row's own tokens; at "end", mostly the last, the answer is read."""
        ...

    @property
    def template(self) -> Tensor:
        """[n] the number of the template of each item; means are taken within one."""
        ...

    @property
    def items(self) -> Any:
        """[n] the texts, for messages: each with `clean`, `counterfactual`, `answer`, `wrong`."""
        ...

    def metric(self, logits: Tensor, /) -> Tensor:
        """Logits at the end [n, vocab] -> [n], one value an item, differentiable where its definition is."""
        ...

    def take(self, rows: Any, /) -> Task:
        """The same task on some of its items, by index, metric included."""
        ...

    def to_json(self) -> dict[str, Any]: ...

    def __len__(self) -> int: ...


@runtime_checkable
class Dictionary(Protocol):
    """Sparse features for a point."""

    @property
    def n_features(self) -> int: ...

    def encode(self, x: Tensor) -> Tensor:
        """[..., d_in] -> feature activations [..., n_features], zero where inactive."""
        ...

    def decode(self, a: Tensor) -> Tensor:
        """[..., n_features] -> [..., d_out]."""
        ...


@runtime_checkable
class TranscoderSet(Protocol):
    """Transcoders for every MLP of a model: per-layer (`plt`) or cross-layer (`clt`).

    A feature of layer `l` reads `input_point(l)` and writes to `output_point(m)` for each m in `writes(l)`:
    (l,) for a per-layer set, l … n_layers - 1 for a cross-layer one.
    The reconstruction of output m is  output_bias(m) + sum over l, f of a[l, f] decoder_rows(l, [f], m) + skip(m) x[m].
    """

    @property
    def kind(self) -> Literal["plt", "clt"]: ...

    @property
    def n_layers(self) -> int: ...

    @property
    def n_features(self) -> int:
        """Of one layer."""
        ...

    def input_point(self, layer: int) -> str: ...

    def output_point(self, layer: int) -> str: ...

    def writes(self, layer: int) -> tuple[int, ...]: ...

    def pre_activations(self, layer: int, x: Tensor) -> Tensor:
        """[n, d_in] -> W_enc x + b_enc, [n, n_features]."""
        ...

    def activations(self, layer: int, x: Tensor) -> Tensor:
        """[n, d_in] -> [n, n_features], zero where inactive."""
        ...

    def encoder_rows(self, layer: int, features: Tensor) -> Tensor:
        """[k] -> encoder vectors [k, d_in]."""
        ...

    def encoder_bias(self, layer: int, features: Tensor) -> Tensor:
        """[k] -> [k]; with an input bias folded in, so that pre = encoder_rows x + encoder_bias."""
        ...

    def decoder_rows(self, layer: int, features: Tensor, to: int) -> Tensor:
        """[k] -> what one unit of each feature of `layer` writes to the output of layer `to`, [k, d_out]."""
        ...

    def output_bias(self, layer: int) -> Tensor:
        """[d_out]."""
        ...

    def skip(self, layer: int) -> Tensor | None:
        """[d_out, d_in] of a skip transcoder, None elsewhere."""
        ...


@runtime_checkable
class Measure(Protocol):
    """Numbers of a model, taken at each checkpoint of its training."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """JSON values that decide what comes out: a timeline is resumed only with the same."""
        ...

    def __call__(self, subject: Any, /) -> Mapping[str, Any]:
        """A model (or module) -> series name -> a number, an `Estimate`, or an array that is kept for later."""
        ...
