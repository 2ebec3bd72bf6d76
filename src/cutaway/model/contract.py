"""What a model's points are held to when it is loaded: one forward of a few random tokens, and these laws.

    resid_pre + attn_out_post            = resid_mid      (sequential blocks)
    resid_mid + mlp_out_post             = resid_post     (parallel: resid_pre + attn_out_post + mlp_out_post)
    norm(resid_pre + attn_out)           = resid_mid      (post-norm blocks, and so for the MLP)
    attn_probs @ value                   = z              (and so for cross attention)
    W_O(z)                               = attn_out
    act(mlp_pre) [* mlp_pre_linear]      = mlp_act
    W_down(mlp_act)                      = mlp_out
    attention opened                     = attention as the model runs it
    cap(scale * lm_head)                 = logits

A point that breaks its law by more than the tolerance (of the largest entry) is refused, with the measured error as the
reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.model.attention import registered
from cutaway.model.norms import NormParts
from cutaway.model.points import GLOBAL
from cutaway.model.sites import Site

if TYPE_CHECKING:
    from cutaway.model.model import Model
    from cutaway.model.survey import Survey

_OPENED = ("q_rot", "k_rot", "attn_scores", "attn_probs")
TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4}  # of the largest entry; 3e-2 in half precision


@dataclass(frozen=True)
class Check:
    """One law, over all layers where its points exist."""

    law: str
    error: float  # the worst layer's
    layers: int
    failed: tuple[int, ...]


@dataclass(repr=False)
class Contract:
    """Where every point lies (`sites`), which are refused and why, and how closely the laws held."""

    why: str = ""  # why a module is no known language model
    sites: dict[str, Site] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    norms: dict[str, NormParts] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    unfreezable: tuple[str, ...] = ()
    configs: list[Any] = field(default_factory=list)
    paths: dict[str, Site] = field(default_factory=dict)  # module paths, as they are asked for
    padding: dict[str, str] = field(default_factory=dict)  # side -> why it can't be; "" where rows are as alone

    def refuse(self, address: str, reason: str) -> None:
        self.sites.pop(address, None)
        self.norms.pop(address, None)
        self.refused[address] = reason

    def __str__(self) -> str:
        if self.why:
            return f"no contract: {self.why}"
        lines = [f"{'law':62} {'worst error':>12}  layers"]
        for check in self.checks:
            verdict = f"{check.layers}" if not check.failed else f"FAILS in {list(check.failed)}"
            lines.append(f"{check.law:62} {check.error:12.1e}  {verdict}")
        reasons: dict[tuple[str, str], list[str]] = {}
        crossed = any(address.startswith("cross_") for address in self.sites)
        for address, reason in self.refused.items():
            if address.startswith("cross_") and not crossed:
                continue
            name, _, layer = address.partition(".")
            # One reason for all layers: which they are is said beside it.
            reasons.setdefault((name, reason.removeprefix(f"Layer {layer} of ")), []).append(layer)
        if reasons:
            lines.append("refused:")
        for (name, reason), layers in reasons.items():
            where = "" if layers == [""] else f" ({len(layers)} layers)"
            lines.append(f"  {name}{where}: {reason if len(reason) < 160 else reason[:157] + '…'}")
        lines += [f"norms cannot be frozen: {reason}" for reason in self.unfreezable]
        return "\n".join(lines)

    __repr__ = __str__


def hold(model: Model, contract: Contract, survey: Survey, output: Any) -> list[Check]:
    """Check every law in every layer where its points exist, and refuse the points of a law that breaks."""
    architecture, facts = model.architecture, model.facts
    assert architecture is not None
    dtype = next(iter(model.hf.parameters())).dtype
    tolerance = TOLERANCE.get(dtype, 3e-2)
    checks: list[Check] = []

    def law(text: str, pairs: Mapping[int, tuple[Tensor, Tensor] | float], points: tuple[str, ...]) -> None:
        errors = {i: pair if isinstance(pair, float) else _error(*pair) for i, pair in pairs.items()}
        failed = tuple(i for i, error in errors.items() if not error <= tolerance)
        for layer in failed:
            for point in points:
                by = f"by {errors[layer]:.1e} of the largest entry" if errors[layer] < math.inf else "in its very shape"
                reason = f"{text} fails in layer {layer} {by}"
                contract.refuse(point if point in GLOBAL else f"{point}.{layer}", reason)
        if errors:
            checks.append(Check(text, max(errors.values()), len(errors), failed))

    def each(*names: str) -> list[int]:
        return [
            i
            for i in range(facts.n_layers)
            if all(f"{n}.{i}" in contract.sites and f"{n}.{i}" in survey for n in names)
        ]

    def at(name: str, layer: int) -> Tensor:
        return survey[f"{name}.{layer}"]

    law(
        "attention opened = attention as the model runs it",
        {i: survey.forward.taps[contract.sites[f"attn_probs.{i}"].module].difference for i in each("attn_probs")},
        ("attn_scores", "attn_probs"),
    )
    mixed = "attn_probs @ value = z"
    if not architecture.gated_attention:
        pairs = {i: (_mix(at("attn_probs", i), at("value", i)), at("z", i)) for i in each("attn_probs", "value", "z")}
        through = {i: pair for i, pair in pairs.items() if registered(contract.sites[f"attn_probs.{i}"].module)}
        law(mixed, through, ("value",))
        # Opened from within, the pattern has no other proof than that it makes z.
        law(f"{mixed} (from within)", {i: p for i, p in pairs.items() if i not in through}, ("value", *_OPENED))
    law(
        "cross_probs @ cross_value = cross_z",
        {
            i: (_mix(at("cross_probs", i), at("cross_value", i)), at("cross_z", i))
            for i in each("cross_probs", "cross_value", "cross_z")
        },
        ("cross_probs", "cross_scores", "cross_value"),
    )
    for z, out in (("z", "attn_out"), ("cross_z", "cross_out")):
        law(
            f"W_O({z}) = {out}",
            {
                i: (contract.sites[f"{z}.{i}"].module(at(z, i).flatten(2)), at(out, i))
                for i in each(z, out)
                if contract.sites[f"{z}.{i}"].via == "input"
            },
            (z,),
        )
    middle = each("resid_pre", "attn_out_post", "resid_mid")
    across = [i for i in middle if f"cross_out.{i}" in survey]
    law(
        "resid_pre + attn_out_post = resid_mid",
        {i: (at("resid_pre", i) + at("attn_out_post", i), at("resid_mid", i)) for i in middle if i not in across},
        ("attn_out_post", "resid_mid"),
    )
    law(
        "resid_pre + attn_out_post + cross_out = resid_mid",
        {i: (at("resid_pre", i) + at("attn_out_post", i) + at("cross_out", i), at("resid_mid", i)) for i in across},
        ("attn_out_post", "cross_out", "resid_mid"),
    )
    if facts.post_norm:
        for before, sublayer, after in (("resid_pre", "attn", "resid_mid"), ("resid_mid", "mlp", "resid_post")):
            law(
                f"norm({before} + {sublayer}_out) = {after}",
                {
                    i: (norm(at(before, i) + at(f"{sublayer}_out", i)), at(after, i))
                    for i in each(before, f"{sublayer}_out", after)
                    if (norm := architecture.norm_after(i, sublayer)) is not None
                },
                (f"{sublayer}_out", after),
            )
    law(
        "resid_mid + mlp_out_post = resid_post",
        {
            i: (at("resid_mid", i) + at("mlp_out_post", i), at("resid_post", i))
            for i in each("resid_mid", "mlp_out_post", "resid_post")
        },
        ("resid_mid", "mlp_out_post"),
    )
    law(
        "resid_pre + attn_out_post + mlp_out_post = resid_post",
        {
            i: (at("resid_pre", i) + at("attn_out_post", i) + at("mlp_out_post", i), at("resid_post", i))
            for i in each("resid_pre", "attn_out_post", "mlp_out_post", "resid_post")
            if i not in middle
        },
        ("attn_out_post", "mlp_out_post"),
    )
    for i in range(facts.n_layers):
        if any(f"resid_{end}.{i}" in contract.refused for end in ("pre", "post")):
            for name in ("attn_out_post", "cross_out", "resid_mid", "mlp_out_post"):
                if f"{name}.{i}" in contract.sites:
                    contract.refuse(f"{name}.{i}", "the block's stream is not to be had, so what joins it is not known")
    law(
        "act(mlp_pre) [* mlp_pre_linear] = mlp_act",
        {
            i: (gated, at("mlp_act", i))
            for i in each("mlp_pre", "mlp_act")
            if (gated := _activated(model, survey, i)) is not None
        },
        ("mlp_pre", "mlp_pre_linear"),
    )
    law(
        "W_down(mlp_act) = mlp_out",
        {
            i: (contract.sites[f"mlp_act.{i}"].module(at("mlp_act", i)), at("mlp_out", i))
            for i in each("mlp_act", "mlp_out")
        },
        ("mlp_act",),
    )
    if "lm_head" in contract.sites:
        logits = survey["lm_head"].float() * facts.logit_scale
        cap = facts.logit_softcap
        law(
            "cap(scale * lm_head) = logits",
            {0: (logits if cap is None else cap * torch.tanh(logits / cap), output.logits)},
            (),
        )
    return checks


def _error(got: Tensor, expected: Tensor) -> float:
    if got.numel() != expected.numel():
        return math.inf
    got, expected = got.float().to(expected.device), expected.float()
    scale = expected.abs().max().clamp(min=1e-12)
    return float((got.reshape(expected.shape) - expected).abs().max() / scale)


def _mix(pattern: Tensor, value: Tensor) -> Tensor:
    """[batch, head, query, key], [batch, key, kv_head, d] -> [batch, query, head, d]."""
    heads = pattern.shape[1]
    value = value.repeat_interleave(heads // value.shape[2], dim=2)
    return torch.einsum("bhqk,bkhd->bqhd", pattern, value)


def _activated(model: Model, survey: Survey, layer: int) -> Tensor | None:
    """The neurons from their pre-activations, where the MLP keeps its activation function under a known name."""
    act = model.architecture.activation(layer) if model.architecture is not None else None
    if act is None:
        return None
    neurons: Tensor = act(survey[f"mlp_pre.{layer}"])
    linear = f"mlp_pre_linear.{layer}"
    return neurons * survey[linear] if linear in survey else neurons
