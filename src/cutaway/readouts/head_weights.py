"""The weights of attention heads, with what lies beside them folded in, one set for every family.

For head h of layer l, with the gain g of the norm that attention reads through (and its centring C):

    W_Q, W_K, W_V [d_head, d_model]   read the stream:  W diag(g) C
    W_O [d_model, d_head]             writes to it:     C' diag(g') W_O where the family norms what attention wrote

so that  scores = x W_Q^T W_K x  and  output = W_O W_V x  but for the norms' denominators (positive, one a position),
biases, and what rotary or ALiBi positions do to queries and keys. Grouped-query attention: a key/value head stands once
for each query head that uses it. Gains of query and key norms are folded in; their denominators are left out too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.core import InputError
from cutaway.model import Model
from cutaway.model.norms import NormParts
from cutaway.model.observed import linear_map, value_map


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """All heads of a model, layer after layer: q, k, v [heads, d_head, d_model], o [heads, d_model, d_head]; float32.

    `head(i)` is (layer, head). `said` lists what was left out.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    places: tuple[tuple[int, int], ...]
    kv_head: tuple[int, ...]  # of each head
    said: tuple[str, ...]

    def index(self, layer: int, head: int) -> int:
        if (layer, head) not in self.places:
            raise InputError(f"no head {layer}.{head}; heads are {_name(self.places[0])} … {_name(self.places[-1])}.")
        return self.places.index((layer, head))


def head_weights(model: Model) -> HeadWeights:
    """Raises InputError, with the reason, where a family does not show its projections. Copies 4 matrices a head."""
    facts = model.facts
    qs, ks, vs, os, places, groups = [], [], [], [], [], []
    for layer in range(facts.n_layers):
        for point in ("q", "k", "value", "z", "attn_out"):
            if (reason := model.refuses(f"{point}.{layer}")) is not None:
                raise InputError(f"the head weights of {model.name} cannot be read: no {point}.{layer}: {reason}")
        heads, width = model.site(f"z.{layer}").heads or (facts.n_heads, facts.d_head)
        before = model.norms.get(f"attn_norm_scale.{layer}")
        after = model.norms.get(f"attn_out_norm_scale.{layer}")
        read = {name: _reads(model, f"{name}.{layer}", before) for name in ("q", "k", "value")}
        for name, norm in (("q", "q_norm_out"), ("k", "k_norm_out")):
            if model.refuses(f"{norm}.{layer}") is None:
                read[name] = _normed(model, f"{norm}.{layer}", read[name])
        kv = read["k"].shape[0]
        out = linear_map(model.site(f"z.{layer}").module, heads * width)[0].float()  # [d_model, heads * width]
        if after is not None:
            out = out - out.mean(0, keepdim=True) if after.centred else out
            out = out if after.gain is None else out * after.gain.float()[:, None]
        out = (
            out * model.site(f"attn_out_post.{layer}").factor
            if model.refuses(f"attn_out_post.{layer}") is None
            else out
        )
        group = [h // (heads // kv) for h in range(heads)]
        qs.append(read["q"])
        ks.append(read["k"][group])
        vs.append(read["value"][group])
        os.append(out.reshape(facts.d_model, heads, width).transpose(0, 1))
        places += [(layer, h) for h in range(heads)]
        groups += group
    return HeadWeights(
        torch.cat(qs), torch.cat(ks), torch.cat(vs), torch.cat(os), tuple(places), tuple(groups), _left_out(model)
    )


def _reads(model: Model, address: str, norm: NormParts | None) -> Tensor:
    """[heads, d_head, d_model] of a projection, its norm's gain and centring folded in."""
    site = model.site(address)
    weight, _ = value_map(site, model.facts.d_model)
    weight = weight.float()
    if norm is not None:
        weight = weight if norm.gain is None else weight * norm.gain.float()
        weight = weight - weight.mean(-1, keepdim=True) if norm.centred else weight
    heads, width = site.heads or (model.facts.n_kv_heads, model.facts.d_head)
    return weight.reshape(heads, width, -1)


def _normed(model: Model, address: str, weight: Tensor) -> Tensor:
    """A query or key norm's gain folded into the projection, where it is one number for each of d_head or of all."""
    gain = getattr(model.site(address).module, "weight", None)
    if not isinstance(gain, Tensor):
        return weight
    offset = 1.0 if "gemma" in model.facts.family.lower() else 0.0
    gain = gain.detach().float() + offset
    if gain.numel() == weight.shape[1]:
        return weight * gain[None, :, None]
    if gain.numel() == weight.shape[0] * weight.shape[1]:
        return weight * gain.reshape(*weight.shape[:2], 1)
    return weight


def _left_out(model: Model) -> tuple[str, ...]:
    said = ["norms' denominators (positive numbers, one a position) and biases"]
    config = getattr(model.hf, "config", None)
    if getattr(config, "rope_parameters", None) or getattr(config, "rope_theta", None):
        said.append("rotary positions: QK and its compositions are of content alone, as at equal positions")
    elif model.facts.max_positions is None:
        said.append("ALiBi positions: QK and its compositions are of content alone")
    if model.refuses("q_norm_out.0") is None:
        said.append("the denominators of query and key norms")
    return tuple(said)


def _name(place: tuple[int, int]) -> str:
    return f"{place[0]}.{place[1]}"
