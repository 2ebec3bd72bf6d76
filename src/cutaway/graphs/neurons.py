"""The baseline dictionary: a model's own neurons.

A neuron of a plain MLP is a feature as any other: pre-activation w_in . x + b, activation act(pre), decoder its column
of W_out. A neuron of a gated MLP is act(w_gate . x) * (w_up . x), which is affine in x along no branch but one: the
gate is held at its value on this prompt, as attention patterns and norm scales are, and the neuron's pre-activation is
w_up . x. So edges exist and sums hold for the linear branch; what reaches a neuron through its gate is not in the
graph.

Every neuron is active everywhere, so at each position the `k` that write most are features and the rest is error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cutaway.core import InputError
from cutaway.model import Model
from cutaway.model.observed import linear_map
from cutaway.model.taps import entering, tapped


@dataclass(frozen=True, eq=False)
class Neurons:
    """A TranscoderSet whose features are the MLPs' neurons. Made by `neurons`."""

    mlps: tuple[nn.Module, ...]
    downs: tuple[nn.Module, ...]  # what the neurons enter
    w_in: tuple[Tensor, ...]  # per layer [d_mlp, d_model]: rows that give the pre-activation
    b_in: tuple[Tensor, ...]
    w_out: tuple[Tensor, ...]  # [d_mlp, d_model]
    b_out: tuple[Tensor, ...]
    gated: bool
    k: int | None
    kind: Literal["plt", "clt"] = "plt"

    @property
    def n_layers(self) -> int:
        return len(self.mlps)

    @property
    def n_features(self) -> int:
        return self.w_in[0].shape[0]

    def input_point(self, layer: int) -> str:
        return f"mlp_in.{layer}"

    def output_point(self, layer: int) -> str:
        return f"mlp_out.{layer}"

    def writes(self, layer: int) -> tuple[int, ...]:
        return (layer,)

    def pre_activations(self, layer: int, x: Tensor) -> Tensor:
        return x @ self.w_in[layer].T + self.b_in[layer]

    @torch.no_grad()
    def activations(self, layer: int, x: Tensor) -> Tensor:
        """[n, d_model] -> [n, d_mlp] from the model's own MLP; zero but for the k largest |a| |w_out| of each row."""
        entered: list[Tensor] = []
        with tapped([entering(self.downs[layer], entered.append)]):
            self.mlps[layer](x[None])
        neurons = entered[0].reshape(len(x), -1)
        if self.k is None or self.k >= neurons.shape[1]:
            return neurons
        kept = (neurons.abs() * self.w_out[layer].norm(dim=1)).topk(self.k, dim=1).indices
        return torch.zeros_like(neurons).scatter(1, kept, neurons.gather(1, kept))

    def encoder_rows(self, layer: int, features: Tensor) -> Tensor:
        return self.w_in[layer][features]

    def encoder_bias(self, layer: int, features: Tensor) -> Tensor:
        return self.b_in[layer][features]

    def decoder_rows(self, layer: int, features: Tensor, to: int) -> Tensor:
        return self.w_out[layer][features]

    def output_bias(self, layer: int) -> Tensor:
        return self.b_out[layer]

    def skip(self, layer: int) -> Tensor | None:
        return None


def neurons(model: Model, k: int | None = 64) -> Neurons:
    """The neurons of `model` as a dictionary; `k` a position are features, None for all of them.

    Raises InputError, with the reason, where a layer has no neurons (experts) or its MLP is no module of its own.
    """
    if not model.facts.n_layers:
        raise InputError(f"{model.name} has no layers whose neurons are known: {model.contract.why or 'it has none'}.")
    mlps, downs, ins, outs = [], [], [], []
    branch = "mlp_pre_linear" if model.facts.gated else "mlp_pre"
    for layer in range(model.facts.n_layers):
        mlp, down = model.site(f"mlp_in.{layer}").module, model.site(f"mlp_act.{layer}").module
        site = model.site(f"{branch}.{layer}")
        if down is mlp or down not in set(mlp.modules()):
            raise InputError(
                f"{model.facts.architecture} keeps the MLP's projections of layer {layer} in its block: no MLP can be "
                "run on its own, so its neurons cannot be a dictionary."
            )
        weight, bias = linear_map(site.module, model.facts.d_model)
        if site.columns is not None:
            weight, bias = weight[site.columns], None if bias is None else bias[site.columns]
        out, out_bias = linear_map(down, weight.shape[0])
        mlps.append(mlp)
        downs.append(down)
        ins.append((weight, weight.new_zeros(len(weight)) if bias is None else bias))
        outs.append((out.T, out.new_zeros(len(out)) if out_bias is None else out_bias))
    w_in, b_in = zip(*ins)
    w_out, b_out = zip(*outs)
    return Neurons(tuple(mlps), tuple(downs), w_in, b_in, w_out, b_out, model.facts.gated, k)
