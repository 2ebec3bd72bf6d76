"""A model as wires: where each source is written, with which matrices and norms each port reads.

A head's message is W_O' u: u its output before W_O, over the denominator of the norm after attention where there is one
(Gemma 2, OLMo 2), with that norm's gain and centring and the family's multiplier in W_O'. So a layer's messages and one
constant (the bias of W_O, or of that norm) add up to what attention adds to the stream, in every family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.circuits.graph import Graph, graph_of
from cutaway.circuits.neuron_wires import NeuronWires, by_layer, neuron_wires
from cutaway.core import InputError
from cutaway.model import Model
from cutaway.model.norms import NormParts
from cutaway.model.observed import linear_map
from cutaway.model.sites import Site
from cutaway.model.taps import passing, tapped


@dataclass(frozen=True, eq=False)
class Projection:
    """Queries, keys or values of a layer: heads [n, c, d] read the normed stream."""

    site: Site
    weight: Tensor  # [n, c, d]
    bias: Tensor | None  # [n, c]

    def __call__(self, x: Tensor) -> Tensor:
        """[batch, head, position, d] -> [batch, position, head, c]: each head from a stream of its own."""
        y = torch.einsum("bhpd,hcd->bphc", x, self.weight)
        return y if self.bias is None else y + self.bias


@dataclass(frozen=True, eq=False)
class LayerWires:
    projections: Mapping[str, Projection]  # q, k, v
    attn_norm: NormParts | None  # before attention
    attn_after: NormParts | None  # after it
    mlp_norm: NormParts | None
    attention: nn.Module
    z: Site
    attn_out: Site  # what attention adds to the stream
    mlp_in: Site
    mlp_out: Site  # what the MLP adds to the stream
    w_out: Tensor  # W_O' [head, c, d]
    raw_out: tuple[Tensor, Tensor | None]  # W_O [d, head * c] and its bias
    constant: Tensor  # [d]
    neurons: NeuronWires | None = None

    @property
    def n_heads(self) -> int:
        return self.w_out.shape[0]

    @property
    def n_mlp(self) -> int:
        """The sources that the MLP is: itself, and neurons apart."""
        return 1 + (0 if self.neurons is None else len(self.neurons.index))

    def scaled(self, z: Tensor) -> Tensor:
        """z [batch, position, head, c] -> u, the same shape."""
        if self.attn_after is None:
            return z
        weight, bias = self.raw_out
        written = z.flatten(2) @ weight.T
        scale = self.attn_after.scale(written if bias is None else written + bias)  # [batch, position, 1]
        return (z / scale[..., None]).to(z.dtype)

    def messages(self, u: Tensor) -> Tensor:
        """u [batch, position, head, c] -> [batch, head, position, d]."""
        return torch.einsum("bphc,hcd->bhpd", u, self.w_out)

    def mlp_messages(self, mlp: Tensor, v: Tensor) -> Tensor:
        """What the MLP adds [batch, position, d], its neurons v [batch, position, n] -> [batch, 1 + n, position, d]:
        the rest of it first."""
        if self.neurons is None:
            return mlp[:, None]
        apart = self.neurons.messages(v)
        return torch.cat([mlp[:, None] - apart.sum(1, keepdim=True), apart], 1)

    def mixed_mlp(self, inside: Tensor, a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(what the MLP adds, its neurons) of `a` where `inside` [batch, position, 1 + n], else of `b`."""
        if self.neurons is None:
            return torch.where(inside[..., :1], a[0], b[0]), a[1]
        v = torch.where(inside[..., 1:], a[1], b[1])
        w = self.neurons.w_out
        rest = torch.where(inside[..., :1], a[0] - a[1] @ w, b[0] - b[1] @ w)
        return rest + v @ w, v


@dataclass(frozen=True, eq=False)
class Wires:
    model: Model
    layers: tuple[LayerWires, ...]
    final_norm: NormParts | None
    final_module: nn.Module
    unembedding: nn.Module
    start: Site  # what enters the first block
    parallel: bool
    constants: dict[str, Any] = field(
        default_factory=dict
    )  # of optimal ablation, by task: trained when first asked for

    @cached_property
    def split(self) -> Graph:
        return self.graph(True)

    def graph(self, split: bool = True) -> Graph:
        heads = [(layer.n_heads, layer.projections["k"].weight.shape[0]) for layer in self.layers]
        neurons = [layer.neurons.index if layer.neurons is not None else () for layer in self.layers]
        return graph_of(heads, [self.parallel] * len(heads), split, neurons)

    @property
    def d_model(self) -> int:
        return self.model.facts.d_model

    def gives(self, layer: int) -> int | None:
        """How many things a block gives beside the stream; None where it gives the stream alone. One short forward."""
        return self._gives[layer]

    @cached_property
    def _gives(self) -> list[int | None]:
        architecture = self.model.architecture
        assert architecture is not None
        found: dict[int, int | None] = {}

        def note(layer: int, output: Any) -> None:
            found[layer] = len(output) - 1 if isinstance(output, (tuple, list)) else None

        taps = [
            passing(architecture.block(layer), lambda _, output, layer=layer: note(layer, output))  # type: ignore[misc]
            for layer in range(len(self.layers))
        ]
        with tapped(taps):
            self.model.run(self.model.batch(torch.zeros(1, 1, dtype=torch.long, device=self.model.device)))
        return [found[layer] for layer in range(len(self.layers))]

    def groups(self) -> Iterator[tuple[str, int]]:
        """The groups of sources that write together, in order: ("input", 0), ("heads", 0), ("mlp", 0), …"""
        yield "input", 0
        for layer in range(len(self.layers)):
            yield "heads", layer
            yield "mlp", layer


def wires_of(model: Model, neurons: Sequence[str] = ()) -> Wires:
    """`neurons` (m2.n17): sources of their own. Raises InputError for what is no causal or bidirectional language model
    with these points, with the reason."""
    architecture = model.architecture
    if architecture is None:
        raise InputError(f"{model.name} has no circuit's components: {model.contract.why}.")
    needed = ["resid_pre.0", "final_norm", "lm_head"]
    for layer in range(model.facts.n_layers):
        needed += [f"{point}.{layer}" for point in ("q", "k", "value", "z", "attn_out_post", "mlp_in", "mlp_out_post")]
    for point in needed:
        if (why := model.refuses(point)) is not None:
            raise InputError(f"{model.name} cannot be taken into a circuit's components: it has no {point}: {why}")
    apart = by_layer(model, neurons)
    layers = tuple(_layer(model, layer, apart.get(layer, ())) for layer in range(model.facts.n_layers))
    final = model.site("final_norm").module
    norm = model.norms.get("final_norm_scale")
    if norm is None:
        raise InputError(f"{model.name}'s final norm is neither a LayerNorm nor an RMSNorm; its edges have no form.")
    return Wires(
        model, layers, norm, final, model.site("lm_head").module, model.site("resid_pre.0"), model.facts.parallel
    )


def _layer(model: Model, layer: int, neurons: Sequence[int]) -> LayerWires:
    d = model.facts.d_model
    assert model.architecture is not None
    sites = {kind: model.site(f"{name}.{layer}") for kind, name in (("q", "q"), ("k", "k"), ("v", "value"))}
    z, out = model.site(f"z.{layer}"), model.site(f"attn_out_post.{layer}")
    weight, bias = linear_map(z.module, _width(z))
    after = model.norms.get(f"attn_out_norm_scale.{layer}")
    rows, constant = weight.T, torch.zeros_like(weight[:, 0]) if bias is None else bias  # rows [head * c, d]
    if after is not None:
        if bias is not None:
            raise InputError(
                f"{model.name}, layer {layer}: W_O has a bias and its output is normed; no share of it is constant."
            )
        rows = after.centre(rows) if after.gain is None else after.centre(rows) * after.gain
        constant = constant if after.bias is None else after.bias
    heads = _heads(z)
    return LayerWires(
        projections={kind: _projection(site, d) for kind, site in sites.items()},
        attn_norm=model.norms.get(f"attn_norm_scale.{layer}"),
        attn_after=after,
        mlp_norm=model.norms.get(f"mlp_norm_scale.{layer}"),
        attention=model.architecture.attention(layer),
        z=z,
        attn_out=out,
        mlp_in=model.site(f"mlp_in.{layer}"),
        mlp_out=model.site(f"mlp_out_post.{layer}"),
        w_out=(rows if out.factor == 1 else rows * out.factor).to(weight.dtype).reshape(*heads, d),
        raw_out=(weight, bias),
        constant=(constant * out.factor).to(weight.dtype),
        neurons=neuron_wires(model, layer, neurons) if neurons else None,
    )


def _projection(site: Site, d_model: int) -> Projection:
    weight, bias = linear_map(site.module, d_model)
    heads = _heads(site)
    return Projection(
        site, _by_head(weight, site.columns, heads), None if bias is None else _by_head(bias, site.columns, heads)
    )


def _by_head(x: Tensor, columns: Tensor | None, heads: tuple[int, int]) -> Tensor:
    """The rows `columns` of a weight [rows, …] -> [head, c, …]. A view where heads lie at even distances, as in the
    fused projections of GPT-2 and GPT-NeoX: a copy would be as large as the weights."""
    n, c = heads
    if columns is None:
        return x.reshape(n, c, *x.shape[1:])
    places = columns.cpu().reshape(n, c)
    first, step = int(places[0, 0]), int(places[-1, 0] - places[0, 0]) // max(1, n - 1)
    if not torch.equal(places, first + step * torch.arange(n)[:, None] + torch.arange(c)):
        return x[columns.to(x.device)].reshape(n, c, *x.shape[1:])
    stride = (step * x.stride(0), *x.stride())
    return x.as_strided((n, c, *x.shape[1:]), stride, x.storage_offset() + first * x.stride(0))


def _heads(site: Site) -> tuple[int, int]:
    if site.heads is None:
        raise InputError(f"{site.address} does not divide into heads; its edges have no form.")
    return site.heads


def _width(site: Site) -> int:
    heads, width = _heads(site)
    return heads * width


def normed(norm: NormParts | None, x: Tensor) -> Tensor:
    """A norm's output of a stream [..., d]; the stream itself where there is no norm."""
    return x if norm is None else norm.output(norm.centre(x) / norm.scale(x), x.dtype)


def through_norm(norm: NormParts | None, x: Tensor, gradient: Tensor, held: bool = False) -> Tensor:
    """The gradient at a norm's output [batch, n, position, d] -> at its input x [batch, position, d], analytically.

    y = g o n + b,  n = C x / s,  s = sqrt(mean((C x)^2) + eps)   =>   J^T y' = (C(g o y') - n (n . (g o y')) / d) / s
    `held`: the denominator s as a constant, J^T y' = C(g o y') / s (the LN-rule of relevance propagation).
    """
    if norm is None:
        return gradient
    scale = norm.scale(x)
    u = gradient if norm.gain is None else gradient * norm.gain.to(gradient.dtype)
    if held:
        return norm.centre(u).to(u.dtype) / scale.to(u.dtype)[:, None]
    n = (norm.centre(x) / scale).to(x.dtype)[:, None]
    along = (n * u).mean(-1, keepdim=True)
    return (norm.centre(u).to(u.dtype) - n * along) / scale.to(u.dtype)[:, None]


def rows_of(model: Model, batch: Any, rows: Tensor) -> Any:
    """Some rows of a batch of tokens, repeated or not."""
    return replace(batch, ids=batch.ids[rows].to(model.device), mask=batch.mask[rows].to(model.device))
