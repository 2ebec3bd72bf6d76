"""Some neurons of an MLP as sources of their own, `m2.n17`; `m2` is then what its other neurons and its bias add.

A neuron's message is w_n v_n: v_n its activation, over the denominator of the norm after the MLP where there is one
(Gemma 2, OLMo 2), with that norm's gain and centring in w_n. It reads what its MLP reads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model import Model
from cutaway.model.norms import NormParts
from cutaway.model.observed import linear_map
from cutaway.model.sites import Site

_NAME = re.compile(r"m(\d+)\.n(\d+)")


@dataclass(frozen=True, eq=False)
class NeuronWires:
    """`index` [n]: which neurons; `site`: the activations of all; `w_out` [n, d]."""

    index: tuple[int, ...]
    site: Site
    w_out: Tensor
    raw_out: tuple[Tensor, Tensor | None]  # W_down [d, d_mlp] and its bias
    after: NormParts | None

    def scaled(self, act: Tensor) -> Tensor:
        """Activations [batch, position, d_mlp] -> v [batch, position, n]."""
        v = act[..., list(self.index)]
        if self.after is None:
            return v
        weight, bias = self.raw_out
        written = act @ weight.T
        return (v / self.after.scale(written if bias is None else written + bias)).to(v.dtype)

    def messages(self, v: Tensor) -> Tensor:
        """[batch, n, position, d]."""
        return torch.einsum("bpn,nd->bnpd", v, self.w_out)


def neuron_wires(model: Model, layer: int, index: Sequence[int]) -> NeuronWires:
    site = model.site(f"mlp_act.{layer}")
    weight, bias = linear_map(site.module, model.facts.d_mlp)
    after = model.norms.get(f"mlp_out_norm_scale.{layer}")
    rows = weight.T[list(index)]  # [n, d]
    if after is not None:
        rows = after.centre(rows) if after.gain is None else after.centre(rows) * after.gain
    factor = model.site(f"mlp_out_post.{layer}").factor
    return NeuronWires(tuple(index), site, (rows * factor).to(weight.dtype), (weight, bias), after)


def by_layer(model: Model, names: Sequence[str] | str) -> dict[int, list[int]]:
    """["m2.n17", …] -> {2: [17], …}, in order. Raises InputError: another name, a neuron or layer that is not there."""
    found: dict[int, list[int]] = {}
    for name in (names,) if isinstance(names, str) else names:
        place = _NAME.fullmatch(name)
        if place is None:
            raise InputError(f"a neuron is named m2.n17 (layer 2, neuron 17); given {name!r}.")
        layer, neuron = int(place[1]), int(place[2])
        if layer >= model.facts.n_layers:
            raise InputError(f"{model.name} has no layer {layer}: its {model.facts.n_layers} layers begin at 0.")
        if (why := model.refuses(f"mlp_act.{layer}")) is not None:
            raise InputError(f"{model.name} has no neurons in layer {layer}: {why}")
        if neuron >= model.facts.d_mlp:
            raise InputError(f"{model.name} has no neuron {name}: its MLPs have {model.facts.d_mlp}, from 0.")
        found.setdefault(layer, []).append(neuron)
    return {layer: sorted(set(some)) for layer, some in found.items()}
