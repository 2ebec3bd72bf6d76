"""Read a model's frozen linear path out of one observed run, and refuse it where it does not give back the run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from cutaway.core import InputError, UnknownName
from cutaway.model.linear_path import FrozenLayer, FrozenNorm, FrozenPath, InputPoint, OutputPoint
from cutaway.model.observed import Observed, ObservedLayer, Passage, linear_map, observe, value_map

__all__ = ["FrozenLayer", "FrozenNorm", "FrozenPath", "frozen_path"]

TOLERANCE = 1e-4
INPUTS, OUTPUTS = get_args(InputPoint), get_args(OutputPoint)


def frozen_path(model: Any, tokens: Tensor, input_point: str = "mlp_in", output_point: str = "mlp_out") -> FrozenPath:
    """The frozen linear path of `model` (ours, or a Hugging Face module) on one prompt `tokens` [T] or [1, T].

    `input_point` is where the dictionary reads (mlp_in, the normed input; mlp_normalized, the same before the norm's
    gain and bias; resid_mid, the stream before the norm),
    `output_point` where it writes (mlp_out, or mlp_out_post after a sandwich norm). Names may carry a layer (mlp_in.3).
    Costs one forward and a copy of each layer's value and output matrices. Raises InputError, with the layer and what
    differs, where the pieces do not give back the run's stream or logits to 1e-4.
    """
    input_point, output_point = input_point.split(".")[0], output_point.split(".")[0]
    for what, given, known in (("input", input_point, INPUTS), ("output", output_point, OUTPUTS)):
        if given not in known:
            raise UnknownName(f"{what} point that a graph can be built on", given, known)
    if isinstance(model, nn.Module):
        from cutaway.model.load import load

        model = load(model)
    tokens = tokens.reshape(-1) if tokens.ndim == 1 or tokens.shape[0] == 1 else tokens
    if tokens.ndim != 1 or tokens.numel() == 0:
        raise InputError(f"A graph is of one prompt of at least one token; tokens have shape {tuple(tokens.shape)}.")
    dtype = next(model.hf.parameters()).dtype
    if dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"The model computes in {dtype}; sums of edges cannot be checked to {TOLERANCE:g} in it. "
            "Load it with dtype=torch.float32."
        )
    with torch.no_grad():
        seen = observe(model, tokens)
        path = _read(seen, input_point, output_point)  # type: ignore[arg-type]
        return replace(path, max_error=_check(path, seen))


def _read(seen: Observed, input_point: InputPoint, output_point: OutputPoint) -> FrozenPath:
    name = seen.name
    layers = [_read_layer(seen, index) for index in range(len(seen.layers))]
    if input_point == "resid_mid" and any(layer.parallel for layer in layers):
        raise InputError(
            f"{name} runs attention and MLP side by side: no stream between them (resid_mid) exists. "
            "Use a dictionary that reads mlp_in."
        )
    weight, bias = linear_map(seen.lm_head.module, seen.lm_head.entered.shape[-1])
    multiplier = seen.facts.logit_scale
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
        softcap=seen.facts.logit_softcap,
        logits=multiplier * seen.lm_head.left,
        max_error=float("nan"),
    )


def _read_layer(seen: Observed, index: int) -> FrozenLayer:
    at = seen.layers[index]
    where = f"layer {index} of {seen.name}"
    resid_pre, norms = at.block.entered, at.norms
    attn_multiplier, mlp_multiplier = seen.facts.residual_scales

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

    pattern, w_value, w_out, bias = _attention(at, before, after, attn_multiplier, where)
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
    at: ObservedLayer, before: Passage | None, after: Passage | None, multiplier: float, where: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(P', W_V', W_O', beta) of a layer; P W_V must give back the heads' outputs of the run."""
    w_value, b_value = value_map(at.value, at.attn_in.shape[-1])
    w_out, b_out = linear_map(at.out_projection, at.z.shape[-1])
    heads, groups = at.pattern.shape[0], at.value.heads[0] if at.value.heads else at.pattern.shape[0]
    if heads % groups or w_out.shape[1] % heads or w_value.shape[0] * heads != w_out.shape[1] * groups:
        raise InputError(f"{where}: values of width {w_value.shape[0]} do not fit {heads} heads over {groups}.")
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


def _difference(a: Tensor, b: Tensor) -> float:
    """max |a - b| / max |b|."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-30))


def _check(path: FrozenPath, seen: Observed) -> float:
    """The largest relative difference between the frozen forward and the run; refuse past the tolerance."""
    name = seen.name
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
