"""What the rooms share without importing one another: values that satisfy these protocols pass between them."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from torch import Tensor


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
