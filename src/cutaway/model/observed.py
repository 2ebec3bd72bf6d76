"""One forward of one prompt, with what enters and leaves every part of every block written down.

The frozen path reads a model's linear pieces; this is what it reads them from. Parts are told apart by what flows into
what (a norm before attention is the one whose output attention receives), so that families need no table of norm names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from interp_engine.arch import ArchSpec, resolve_arch
from interp_engine.facts import split_qkv_slab
from torch import Tensor, nn

from cutaway.core import InputError


@dataclass
class Passage:
    """What entered and what left a module in the observed forward, without the batch axis."""

    module: nn.Module
    entered: Tensor
    left: Tensor


@dataclass
class ObservedLayer:
    """One block: its own passage, its norms', and the boundaries of attention and MLP. Tensors are [position, …]."""

    block: Passage
    norms: tuple[Passage, ...]  # its children that map the stream to the stream and are neither attention nor MLP
    attn_in: Tensor
    attn_out: Tensor
    z: Tensor
    mlp_in: Tensor
    mlp_out: Tensor
    pattern: Tensor  # [head, query, key]


@dataclass
class Observed:
    """The whole forward. `embedding` is what the token table gave; `unembedded` is lm_head's output, before any cap."""

    arch: ArchSpec
    tokens: Tensor  # [position]
    layers: list[ObservedLayer] = field(default_factory=list)
    embedding: Tensor = field(default_factory=lambda: torch.empty(0))
    position_embedding: Tensor | None = None
    final_norm: Passage | None = None
    lm_head: Passage | None = None
    logits: Tensor = field(default_factory=lambda: torch.empty(0))


def observe(hf: nn.Module, tokens: Tensor) -> Observed:
    """Run `tokens` [position] through a Hugging Face causal language model once, attention in its eager form.

    Costs two forwards (one as the model runs by itself, to compare with); keeps about 12 tensors of [position,
    d_model] and one of [head, position, position] a layer. Raises InputError where the architecture has no attention
    or MLP of the usual kind, with interp-engine's reason.
    """
    try:
        arch = resolve_arch(hf, getattr(hf, "config", None))
        boundaries = [_boundaries(arch, layer) for layer in range(arch.n_layers)]
    except (AttributeError, ValueError) as error:
        raise InputError(f"{type(hf).__name__} has no frozen linear path: {error}") from error

    passages: dict[nn.Module, Passage] = {}
    watched: set[nn.Module] = {arch.embed, arch.final_norm, arch.lm_head}
    watched |= {child for child in arch.trunk.children() if isinstance(child, nn.Embedding)}
    for layer in range(arch.n_layers):
        block = arch.block(layer)
        watched |= {block, *block.children(), *(module for module, _ in boundaries[layer].values())}

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        given = (*args, kwargs.get("hidden_states"), *kwargs.values())
        entered, left = _first_tensor(given), _first_tensor(output)
        if entered is not None and left is not None:
            # Copies: some families (Falcon) add to a sublayer's output in place.
            passages[module] = Passage(module, _unbatched(entered).clone(), _unbatched(left).clone())

    training = hf.training
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        hf.eval()
        stack.callback(hf.train, training)
        ordinary = hf(input_ids=tokens[None], use_cache=False, return_dict=True).logits[0]
        stack.enter_context(_eager_attention(hf))
        for module in watched:
            handle = module.register_forward_hook(record, with_kwargs=True)
            stack.callback(handle.remove)
        result = hf(input_ids=tokens[None], output_attentions=True, use_cache=False, return_dict=True)
    if not result.attentions or len(result.attentions) != arch.n_layers:
        given = len(result.attentions or ())
        raise InputError(
            f"{arch.architecture} gave attention patterns for {given} of {arch.n_layers} layers; the frozen path needs "
            "softmax attention in every layer."
        )
    if any(bool(pattern[0].triu(1).any()) for pattern in result.attentions):
        raise InputError(f"{arch.architecture} attends to later positions; a graph needs causal attention.")
    apart = float((result.logits[0] - ordinary).abs().max() / ordinary.abs().max().clamp_min(1e-30))
    if not apart <= 1e-4:
        raise InputError(
            f"{arch.architecture} computes other logits when its attention patterns are read (relative difference "
            f"{apart:.2g}; NaN means that the weights or the prompt give no finite logits)."
        )

    seen = Observed(arch, tokens, logits=result.logits[0].detach())
    seen.embedding = passages[arch.embed].left
    for child in arch.trunk.children():
        if isinstance(child, nn.Embedding) and child is not arch.embed and child in passages:
            seen.position_embedding = passages[child].left
    seen.final_norm, seen.lm_head = passages.get(arch.final_norm), passages.get(arch.lm_head)
    for layer in range(arch.n_layers):
        block = arch.block(layer)
        sublayers = {module for module, _ in boundaries[layer].values()} | {arch.attn_module(layer)}
        rest = [passages[child] for child in block.children() if child in passages and child not in sublayers]
        shape = passages[block].entered.shape
        at = {name: _side(passages[module], side) for name, (module, side) in boundaries[layer].items()}
        seen.layers.append(
            ObservedLayer(
                block=passages[block],
                # Dropout maps the stream to the stream too, and changes nothing here.
                norms=tuple(
                    part
                    for part in rest
                    if part.entered.shape == part.left.shape == shape and not torch.equal(part.entered, part.left)
                ),
                pattern=result.attentions[layer][0].detach(),
                **at,
            )
        )
    return seen


def value_map(arch: ArchSpec, layer: int) -> tuple[Tensor, Tensor | None]:
    """W_V [kv_head * d_head, d_model] and its bias, out of a fused projection where the family fuses them."""
    refusal = _value_refusal(arch, layer)
    if refusal:
        raise InputError(f"layer {layer} of {arch.architecture} has no frozen linear path: {refusal}")
    own = arch.v_proj(layer)
    scale = arch.value_scale(layer)
    if own is not None:
        weight, bias = linear_map(own, arch.d_model)
    else:
        fused = arch.fused_qkv_module(layer)
        if fused is None:
            raise InputError(f"layer {layer} of {arch.architecture}: no value projection found.")
        weight, bias = linear_map(fused, arch.d_model)
        sizes: dict[str, Any] = {
            "layout": arch.quirks.qkv_layout,
            "n_heads": arch.n_heads,
            "n_kv_heads": arch.kv_heads_for_layer(layer),
            "head_dim": arch.head_dim_for_layer(layer),
        }
        weight = split_qkv_slab(weight.T, **sizes)["v"].T
        bias = None if bias is None else split_qkv_slab(bias, **sizes)["v"]
    return scale * weight, None if bias is None else scale * bias


def linear_map(module: nn.Module, d_in: int) -> tuple[Tensor, Tensor | None]:
    """(weight [d_out, d_in], bias [d_out]) of an affine module. A kind we do not know is applied to the identity."""
    with torch.no_grad():
        if type(module) is nn.Linear:
            return module.weight.detach(), None if module.bias is None else module.bias.detach()
        if type(module).__name__ == "Conv1D":
            return module.weight.detach().T, module.bias.detach()  # type: ignore[operator, union-attr]
        some = next(module.parameters())
        probe = torch.cat([torch.zeros(1, d_in), torch.eye(d_in)]).to(some.device, some.dtype)
        image = module(probe)
        return (image[1:] - image[0]).T, image[0]


def _boundaries(arch: ArchSpec, layer: int) -> dict[str, tuple[nn.Module, str]]:
    return {
        "attn_in": arch.attn_boundary(layer, "in"),
        "attn_out": arch.attn_boundary(layer, "out"),
        "z": (arch.attn_out_proj(layer), "input"),
        "mlp_in": arch.mlp_boundary(layer, "in"),
        "mlp_out": arch.mlp_boundary(layer, "out"),
    }


def _value_refusal(arch: ArchSpec, layer: int) -> str | None:
    if arch.quirks.gated_attn_out:
        return "its attention output is gated before the output projection."
    if arch.is_kv_shared_layer(layer):
        return "it attends over another layer's keys and values."
    if arch.is_k_eq_v_layer(layer) or arch.value_module(layer) is not None:
        return "its values are normed after the projection."
    return None


def _side(passage: Passage, side: str) -> Tensor:
    return passage.entered if side == "input" else passage.left


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (tuple, list)):
        return next((item for item in value if isinstance(item, Tensor)), None)
    return None


def _unbatched(x: Tensor) -> Tensor:
    """[1, position, …] -> [position, …]. Families that flatten the batch into positions give [position, …] already."""
    x = x.detach()
    return x[0] if x.ndim >= 2 and x.shape[0] == 1 and x.ndim != 2 else x


@contextmanager
def _eager_attention(hf: nn.Module) -> Iterator[None]:
    """Patterns exist as tensors in the eager form alone; the implementation in use is put back afterwards."""
    config: Any = getattr(hf, "config", None)
    before = getattr(config, "_attn_implementation", None)
    if before in (None, "eager"):
        yield
        return
    switchable: Any = getattr(hf, "_can_set_attn_implementation", None)
    through_model = switchable is not None and switchable()

    def switch(implementation: str) -> None:
        if through_model:
            cast(Any, hf).set_attn_implementation(implementation)
        else:  # older families read it from the configuration at every forward
            config._attn_implementation = implementation

    switch("eager")
    try:
        yield
    finally:
        switch(before)
