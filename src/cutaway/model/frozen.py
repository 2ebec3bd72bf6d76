"""What stays of a model on one prompt when attention patterns and norm scales are held: an affine map, as tensors.

With patterns P and norm scales s fixed, everything between the MLPs is affine in the residual stream r [position, d]:

    attention   r_mid = r_pre + sum over heads h of  P'_h (r_pre W_V'^T) W_O'^T + beta
    reading     x = r_mid, or its norm: s * (w o C r_mid) + b          (C centres for LayerNorm, else the identity)
    writing     r_post = r_mid + m * y, or m * norm(y) where the family norms what the MLP wrote
    logits      W_U norm(r_L) + b_U, then the family's multiplier

Norm weights, centring and multipliers are folded into W_V' and W_O', norm scales into the rows and columns of P', so
that a layer costs two matrix products and one product with the pattern. Source: the local replacement model of "Circuit
Tracing" (Anthropic, 2025). The map is checked against the run it was read from and refused where it does not hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cutaway.core import InputError, UnknownName
from cutaway.model.observed import Observed, Passage, linear_map, observe, value_map

TOLERANCE = 1e-4
InputPoint = Literal["mlp_in", "resid_mid"]
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
        positions, n, d = gradient.shape
        heads, groups, c = self.n_heads, self.n_kv_heads, self.d_head
        z = (gradient.reshape(-1, d) @ self.w_out).reshape(positions, n, heads, c)
        z = z.permute(2, 0, 1, 3).reshape(heads, positions, n * c)  # [H, query, n * c]
        value = self.pattern[:, :positions, :positions].transpose(1, 2) @ z  # [H, key, n * c]
        if groups < heads:
            value = value.reshape(groups, heads // groups, positions, n * c).sum(1)
        value = value.reshape(groups, positions, n, c).permute(1, 2, 0, 3).reshape(positions * n, groups * c)
        return (value @ self.w_value).reshape(positions, n, d)

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
    def d_model(self) -> int:
        return int(self.embedding.shape[1])

    @cached_property
    def reads_resid_pre(self) -> tuple[bool, ...]:
        """Per layer: whether the MLP's input is a map of resid_pre (parallel blocks) rather than of resid_mid."""
        return tuple(layer.parallel for layer in self.layers)

    def mlp_input(self, layer: int) -> Tensor:
        """The run's value at the input point, [T, d]."""
        here = self.layers[layer]
        return here.mlp_in if self.input_point == "mlp_in" else here.resid_mid

    def mlp_output(self, layer: int) -> Tensor:
        """The run's value at the output point, [T, d]."""
        here = self.layers[layer]
        return here.mlp_out if self.output_point == "mlp_out" else here.mlp_out_post

    def read_transpose(self, layer: int, vectors: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [n, d] that read the input point at `positions` [n] -> (gradients at the stream, constants [n]).

        vector . x = gradient . r + constant, r the stream that the layer's MLP reads.
        """
        norm = self.layers[layer].read_norm if self.input_point == "mlp_in" else None
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
            if self.input_point == "mlp_in" and layer.read_norm is not None:
                x = _apply(layer.read_norm, x)
            resid = middle + self.write(index, mlp(index, x), every)
            bias = self.write_bias(index)
            resid = resid if bias is None else resid + bias
            posts.append(resid)
        logits = _apply(self.final_norm, resid) @ self.w_unembed.T
        return posts, logits if self.b_unembed is None else logits + self.b_unembed


def frozen_path(model: Any, tokens: Tensor, input_point: str = "mlp_in", output_point: str = "mlp_out") -> FrozenPath:
    """The frozen linear path of `model` (ours, or a Hugging Face module) on one prompt `tokens` [T] or [1, T].

    `input_point` is where the dictionary reads (mlp_in, the normed input; resid_mid, the stream before that norm),
    `output_point` where it writes (mlp_out, or mlp_out_post after a sandwich norm). Names may carry a layer (mlp_in.3).
    Costs one forward and a copy of each layer's value and output matrices. Raises InputError, with the layer and what
    differs, where the pieces do not give back the run's stream or logits to 1e-4.
    """
    input_point, output_point = input_point.split(".")[0], output_point.split(".")[0]
    if input_point not in ("mlp_in", "resid_mid"):
        raise UnknownName("input point that a graph can be built on", input_point, ("mlp_in", "resid_mid"))
    if output_point not in ("mlp_out", "mlp_out_post"):
        raise UnknownName("output point that a graph can be built on", output_point, ("mlp_out", "mlp_out_post"))
    hf: nn.Module = getattr(model, "hf", model)
    tokens = tokens.reshape(-1) if tokens.ndim == 1 or tokens.shape[0] == 1 else tokens
    if tokens.ndim != 1 or tokens.numel() == 0:
        raise InputError(f"A graph is of one prompt of at least one token; tokens have shape {tuple(tokens.shape)}.")
    dtype = next(hf.parameters()).dtype
    if dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"The model computes in {dtype}; sums of edges cannot be checked to {TOLERANCE:g} in it. "
            "Load it with dtype=torch.float32."
        )
    with torch.no_grad():
        seen = observe(hf, tokens)
        path = _read(seen, input_point, output_point)  # type: ignore[arg-type]
        return replace(path, max_error=_check(path, seen))


def _read(seen: Observed, input_point: InputPoint, output_point: OutputPoint) -> FrozenPath:
    name = seen.arch.architecture
    layers = [_read_layer(seen, index) for index in range(len(seen.layers))]
    if input_point == "resid_mid" and any(layer.parallel for layer in layers):
        raise InputError(
            f"{name} runs attention and MLP side by side: no stream between them (resid_mid) exists. "
            "Use a dictionary that reads mlp_in."
        )
    if seen.final_norm is None or seen.lm_head is None:
        raise InputError(f"{name} has no frozen linear path: its final norm or unembedding did not run.")
    weight, bias = linear_map(seen.lm_head.module, seen.lm_head.entered.shape[-1])
    multiplier = seen.arch.quirks.logit_multiplier or 1.0
    start = layers[0].resid_pre
    embedding, positions = start, None
    if seen.position_embedding is not None and _difference(seen.embedding + seen.position_embedding, start) < TOLERANCE:
        embedding, positions = seen.embedding, start - seen.embedding
    return FrozenPath(
        tokens=seen.tokens,
        input_point=input_point,
        output_point=output_point,
        layers=tuple(layers),
        embedding=embedding,
        position_embedding=positions,
        final_norm=_norm(seen.final_norm, f"{name}'s final norm"),
        w_unembed=weight if multiplier == 1.0 else multiplier * weight,
        b_unembed=None if bias is None else multiplier * bias,
        softcap=seen.arch.quirks.final_logit_softcapping,
        logits=multiplier * seen.lm_head.left,
        max_error=float("nan"),
    )


def _read_layer(seen: Observed, index: int) -> FrozenLayer:
    arch, at = seen.arch, seen.layers[index]
    where = f"layer {index} of {arch.architecture}"
    resid_pre, norms = at.block.entered, at.norms
    attn_multiplier, mlp_multiplier = arch.quirks.residual_multipliers

    before = _found(norms, "left", at.attn_in)
    if before is None and not torch.equal(at.attn_in, resid_pre):
        raise InputError(f"{where}: attention reads neither the residual stream nor a norm of it.")
    after = _found(norms, "entered", at.attn_out)
    attn_out = after.left if after else at.attn_out
    resid_mid = resid_pre + attn_multiplier * attn_out

    read = _found(norms, "left", at.mlp_in)
    read_from = read.entered if read else at.mlp_in
    parallel = torch.equal(read_from, resid_pre)
    if not parallel and _difference(read_from, resid_mid) > TOLERANCE:
        raise InputError(f"{where}: the MLP reads neither resid_pre nor resid_mid.")
    wrote = _found(norms, "entered", at.mlp_out)

    pattern, w_value, w_out, bias = _attention(seen, index, before, after, attn_multiplier, where)
    return FrozenLayer(
        pattern=pattern,
        w_value=w_value,
        w_out=w_out,
        attn_bias=bias,
        read_norm=_norm(read, f"{where}, norm before the MLP") if read else None,
        write_norm=_norm(wrote, f"{where}, norm after the MLP") if wrote else None,
        write_multiplier=mlp_multiplier,
        parallel=parallel,
        resid_pre=resid_pre,
        resid_mid=resid_mid,
        resid_post=at.block.left,
        mlp_in=at.mlp_in,
        mlp_out=at.mlp_out,
        mlp_out_post=mlp_multiplier * (wrote.left if wrote else at.mlp_out),
    )


def _attention(
    seen: Observed, index: int, before: Passage | None, after: Passage | None, multiplier: float, where: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(P', W_V', W_O', beta) of a layer; P W_V must give back the heads' outputs of the run."""
    arch, at = seen.arch, seen.layers[index]
    w_value, b_value = value_map(arch, index)
    out_module = arch.attn_out_proj(index)
    w_out, b_out = linear_map(out_module, at.z.shape[-1])
    heads, groups = at.pattern.shape[0], arch.kv_heads_for_layer(index)
    pattern = at.pattern.to(w_value.dtype)

    value = at.attn_in @ w_value.T
    z = _mix(pattern, value if b_value is None else value + b_value, groups)
    if _difference(z, at.z) > TOLERANCE:
        raise InputError(f"{where}: its attention pattern and values do not give back its heads' outputs.")

    first = _norm(before, f"{where}, norm before attention") if before else None
    last = _norm(after, f"{where}, norm after attention") if after else None
    # beta: what is left of the layer when the stream is zero.
    constant = w_value.new_zeros(w_value.shape[0]) if b_value is None else b_value
    if first is not None and first.bias is not None:
        constant = constant + w_value @ first.bias
    bias = _mix(pattern, constant.expand(len(at.attn_in), -1), groups) @ w_out.T
    bias = bias if b_out is None else bias + b_out
    if last is not None:
        bias = last.fold_out(bias) * last.scale
        bias = bias if last.bias is None else bias + last.bias
        w_out = last.fold_out(w_out.T).T
        pattern = pattern * last.scale  # rows: queries
    if first is not None:
        w_value = first.fold_in(w_value)
        pattern = pattern * first.scale.T  # columns: keys
    if heads % groups or w_out.shape[1] % heads:
        raise InputError(f"{where}: {heads} heads over {groups} key-value heads.")
    return pattern.contiguous(), w_value.contiguous(), (multiplier * w_out).contiguous(), multiplier * bias


def _mix(pattern: Tensor, value: Tensor, groups: int) -> Tensor:
    """pattern [H, query, key], value [key, K * c] -> z [query, H * c]."""
    heads = pattern.shape[0]
    value = value.reshape(len(value), groups, -1).repeat_interleave(heads // groups, dim=1)
    return torch.einsum("hqk,khc->qhc", pattern, value).flatten(1)


def _found(norms: tuple[Passage, ...], side: Literal["entered", "left"], tensor: Tensor) -> Passage | None:
    return next((norm for norm in norms if torch.equal(getattr(norm, side), tensor)), None)


def _norm(passage: Passage, what: str) -> FrozenNorm:
    """Read a norm's scale from what passed through it; it must be LayerNorm or RMSNorm, of weight w, 1 + w or none."""
    x, y, module = passage.entered, passage.left, passage.module
    given: Any = getattr(module, "weight", None)
    bias: Any = getattr(module, "bias", None)
    ones = x.new_ones(x.shape[-1])
    weights = [ones] if given is None else [given.detach(), 1 + given.detach()]
    bias = None if bias is None else bias.detach()
    for centred in (True, False):
        for weight in weights:
            wx = (x - x.mean(-1, keepdim=True) if centred else x) * weight
            target = y if bias is None else y - bias
            # Least squares: the scale of each position, whatever the family calls its epsilon.
            scale = (wx * target).sum(-1, keepdim=True) / (wx * wx).sum(-1, keepdim=True).clamp_min(1e-30)
            if _difference(scale * wx, target) < TOLERANCE / 10:
                return FrozenNorm(scale, weight, bias, centred)
    raise InputError(f"{what} ({type(module).__name__}) is neither a LayerNorm nor an RMSNorm; it cannot be frozen.")


def _apply(norm: FrozenNorm, x: Tensor) -> Tensor:
    y = norm.fold_out(x) * norm.scale
    return y if norm.bias is None else y + norm.bias


def _difference(a: Tensor, b: Tensor) -> float:
    """max |a - b| / max |b|."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-30))


def _check(path: FrozenPath, seen: Observed) -> float:
    """The largest relative difference between the frozen forward and the run; refuse past the tolerance."""
    name = seen.arch.architecture
    posts, logits = path.forward(lambda layer, _: path.mlp_output(layer))
    worst = 0.0
    for index, (ours, layer) in enumerate(zip(posts, path.layers)):
        worst = max(worst, _difference(ours, layer.resid_post))
        if not worst <= TOLERANCE:
            raise InputError(
                f"{name} has no frozen linear path: its pieces give resid_post.{index} with a relative error of "
                f"{worst:.2g} (at most {TOLERANCE:g})."
            )
    if path.softcap:
        logits = path.softcap * torch.tanh(logits / path.softcap)
    worst = max(worst, _difference(logits, seen.logits))
    if not worst <= TOLERANCE:
        raise InputError(
            f"{name} has no frozen linear path: its pieces give logits with a relative error of {worst:.2g}."
        )
    return worst
