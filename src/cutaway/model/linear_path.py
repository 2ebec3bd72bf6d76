"""What stays of a model on one prompt when attention patterns and norm scales are held: an affine map, as tensors.

With patterns P and norm scales s fixed, everything between the MLPs is affine in the residual stream r [position, d]:

    attention   r_mid = r_pre + sum over heads h of  P'_h (r_pre W_V'^T) W_O'^T + beta
    reading     x = r_mid, or its norm: s * (w o C r_mid) + b          (C centres for LayerNorm, else the identity)
    writing     r_post = r_mid + m * y, or m * norm(y) where the family norms what the MLP wrote
    logits      W_U norm(r_L) + b_U, then the family's multiplier

Norm weights, centring and multipliers are folded into W_V' and W_O', norm scales into the rows and columns of P', so
that a layer costs two matrix products and one product with the pattern. Source: the local replacement model of
"Circuit Tracing" (Anthropic, 2025). It is read by `frozen.py`, which checks it against the run and refuses it where it
does not hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

InputPoint = Literal["mlp_in", "mlp_normalized", "resid_mid"]
OutputPoint = Literal["mlp_out", "mlp_out_post"]


@dataclass(frozen=True)
class FrozenNorm:
    """y[t] = scale[t] * (weight o C x[t]) + bias; C subtracts the mean where `centred`. scale [position, 1]."""

    scale: Tensor
    weight: Tensor
    bias: Tensor | None
    centred: bool

    def fold_in(self, matrix: Tensor) -> Tensor:
        """[..., d] rows that read the norm's output -> rows that read its input, but for the scale."""
        rows = matrix * self.weight
        return rows - rows.mean(-1, keepdim=True) if self.centred else rows

    def fold_out(self, matrix: Tensor) -> Tensor:
        """[..., d] rows that enter the norm -> what they add to its output, but for the scale."""
        rows = matrix - matrix.mean(-1, keepdim=True) if self.centred else matrix
        return rows * self.weight


@dataclass(frozen=True)
class FrozenLayer:
    """One block. d = d_model, H = heads, K = key-value heads, c = width of a value head."""

    pattern: Tensor  # P' [H, query, key]: the attention pattern with the norms' scales of both ends in it
    w_value: Tensor  # W_V' [K * c, d]
    w_out: Tensor  # W_O' [d, H * c]
    attn_bias: Tensor  # beta [position, d]: what attention writes whatever the residual stream holds
    read_norm: FrozenNorm | None
    write_norm: FrozenNorm | None
    write_multiplier: float
    parallel: bool  # the MLP reads r_pre, beside attention
    resid_pre: Tensor  # [position, d], and so on: the run's own values
    resid_mid: Tensor
    resid_post: Tensor
    mlp_in: Tensor
    mlp_out: Tensor
    mlp_out_post: Tensor

    @property
    def n_heads(self) -> int:
        return self.pattern.shape[0]

    @property
    def d_head(self) -> int:
        return self.w_out.shape[1] // self.n_heads

    @property
    def n_kv_heads(self) -> int:
        return self.w_value.shape[0] // self.d_head

    def attend(self, resid: Tensor) -> Tensor:
        """resid_pre [position, d] -> what attention adds to it, [position, d], bias included."""
        value = (resid @ self.w_value.T).reshape(len(resid), self.n_kv_heads, -1)
        value = value.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1)  # [key, H, c]
        z = torch.einsum("hqk,khc->qhc", self.pattern, value)
        return z.flatten(1) @ self.w_out.T + self.attn_bias

    def attend_transpose(self, gradient: Tensor) -> Tensor:
        """Gradients at resid_mid [position, n, d] -> their part at resid_pre that passes through attention, same shape.

        Position-major. The first `position` rows suffice: attention is causal.
        """
        return self._at_values(gradient) @ self.w_value

    def attend_transpose_onto(self, gradient: Tensor, written: Tensor) -> Tensor:
        """What `attend_transpose` gives, multiplied with m vectors written at each position [position, m, d]:
        [position, n, m]. Without going back to the width of the stream: one product less."""
        return self._at_values(gradient) @ (written @ self.w_value.T).transpose(1, 2)

    def _at_values(self, gradient: Tensor) -> Tensor:
        """Gradients at resid_mid [position, n, d] -> gradients at the values, [position, n, K * c]."""
        positions, n, d = gradient.shape
        heads, groups, c = self.n_heads, self.n_kv_heads, self.d_head
        z = (gradient.reshape(-1, d) @ self.w_out).reshape(positions, n, heads, c)
        z = z.permute(2, 0, 1, 3).reshape(heads, positions, n * c)  # [H, query, n * c]
        value = self.pattern[:, :positions, :positions].transpose(1, 2) @ z  # [H, key, n * c]
        if groups < heads:
            value = value.reshape(groups, heads // groups, positions, n * c).sum(1)
        return value.reshape(groups, positions, n, c).permute(1, 2, 0, 3).reshape(positions, n, groups * c)

    def attend_transpose_from(self, gradient: Tensor, position: int) -> Tensor:
        """The same for gradients [n, d] at one position: [position + 1, n, d], at a row of the pattern each."""
        n, d = gradient.shape
        heads, groups, c = self.n_heads, self.n_kv_heads, self.d_head
        z = (gradient @ self.w_out).reshape(n, heads, c).transpose(0, 1)  # [H, n, c]
        w_value = self.w_value.reshape(groups, c, d)
        if groups < heads:
            w_value = w_value.repeat_interleave(heads // groups, dim=0)
        through = (z @ w_value).reshape(heads, n * d)  # [H, n * d]
        row = self.pattern[:, position, : position + 1]
        return (row.T @ through).reshape(position + 1, n, d)


@dataclass(frozen=True)
class FrozenPath:
    """The affine path of one prompt. Made by `frozen_path`; positions T, layers L, width d."""

    tokens: Tensor  # [T]
    input_point: InputPoint
    output_point: OutputPoint
    layers: tuple[FrozenLayer, ...]
    embedding: Tensor  # [T, d]: what each token puts into the stream
    position_embedding: Tensor | None  # [T, d]
    final_norm: FrozenNorm
    w_unembed: Tensor  # W_U [vocab, d], the family's logit multiplier in it
    b_unembed: Tensor | None
    softcap: float | None  # logits = softcap tanh(z / softcap); z is what the path is linear in
    logits: Tensor  # z of the run, [T, vocab]
    max_error: float  # the largest relative difference to the run, over layers and logits

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @property
    def n_positions(self) -> int:
        return int(self.tokens.numel())

    @property
    def on_cpu(self) -> bool:
        return self.embedding.device.type == "cpu"

    @property
    def d_model(self) -> int:
        return int(self.embedding.shape[1])

    def mlp_input(self, layer: int) -> Tensor:
        """The run's value at the input point, [T, d]."""
        here = self.layers[layer]
        if self.input_point == "mlp_in":
            return here.mlp_in
        stream = here.resid_pre if here.parallel else here.resid_mid
        norm = self.reading_norm(layer)
        return stream if norm is None else apply_norm(norm, stream)

    def reading_norm(self, layer: int) -> FrozenNorm | None:
        """The norm between the stream and the input point: whole, without gain and bias (mlp_normalized), or none."""
        norm = self.layers[layer].read_norm
        if norm is None or self.input_point == "resid_mid":
            return None
        if self.input_point == "mlp_in":
            return norm
        return replace(norm, weight=torch.ones_like(norm.weight), bias=None)

    def mlp_output(self, layer: int) -> Tensor:
        """The run's value at the output point, [T, d]."""
        here = self.layers[layer]
        return here.mlp_out if self.output_point == "mlp_out" else here.mlp_out_post

    def read_transpose(self, layer: int, vectors: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [n, d] that read the input point at `positions` [n] -> (gradients at the stream, constants [n]).

        vector . x = gradient . r + constant, r the stream that the layer's MLP reads.
        """
        norm = self.reading_norm(layer)
        if norm is None:
            return vectors, vectors.new_zeros(len(vectors))
        constants = vectors.new_zeros(len(vectors)) if norm.bias is None else vectors @ norm.bias
        return norm.fold_in(vectors) * norm.scale[positions], constants

    def write(self, layer: int, vectors: Tensor, positions: Tensor) -> Tensor:
        """Vectors [n, d] at the output point, at `positions` [n] -> what they add to the stream, [n, d]."""
        here = self.layers[layer]
        if self.output_point == "mlp_out_post":
            return vectors
        if here.write_norm is not None:
            vectors = here.write_norm.fold_out(vectors) * here.write_norm.scale[positions]
        return vectors if here.write_multiplier == 1.0 else here.write_multiplier * vectors

    def write_bias(self, layer: int) -> Tensor | None:
        """[d]: what writing adds to the stream whatever is written (the post-norm's bias), or None."""
        here = self.layers[layer]
        if self.output_point == "mlp_out_post" or here.write_norm is None or here.write_norm.bias is None:
            return None
        return here.write_multiplier * here.write_norm.bias

    def unembed_transpose(self, vectors: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """Vectors [n, d] that read the final norm's output -> (gradients at the last stream [n, d], constants [n])."""
        norm = self.final_norm
        constants = vectors.new_zeros(len(vectors)) if norm.bias is None else vectors @ norm.bias
        return norm.fold_in(vectors) * norm.scale[position], constants

    def forward(self, mlp: Callable[[int, Tensor], Tensor]) -> tuple[list[Tensor], Tensor]:
        """The frozen model with `mlp(layer, x at the input point) -> y at the output point` for its MLPs.

        Returns ([resid_post of each layer], logits before any softcap); all [T, …]. Differentiable.
        """
        every = torch.arange(self.n_positions, device=self.embedding.device)
        resid, posts = self.embedding, []
        if self.position_embedding is not None:
            resid = resid + self.position_embedding
        for index, layer in enumerate(self.layers):
            middle = resid + layer.attend(resid)
            x = resid if layer.parallel else middle
            norm = self.reading_norm(index)
            x = x if norm is None else apply_norm(norm, x)
            resid = middle + self.write(index, mlp(index, x), every)
            bias = self.write_bias(index)
            resid = resid if bias is None else resid + bias
            posts.append(resid)
        logits = apply_norm(self.final_norm, resid) @ self.w_unembed.T
        return posts, logits if self.b_unembed is None else logits + self.b_unembed


def apply_norm(norm: FrozenNorm, x: Tensor) -> Tensor:
    """The whole norm, bias included, of x [position, d]."""
    y = norm.fold_out(x) * norm.scale
    return y if norm.bias is None else y + norm.bias
