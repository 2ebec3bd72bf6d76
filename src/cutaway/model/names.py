"""Names of other frameworks as ours: TransformerLens (legacy, and the bridge), nnterp and interp-engine.

A name is accepted where all versions of its framework mean one tensor of this family by it. Where they don't (a norm's
`hook_normalized` is after the gain in an unfolded LayerNorm and before it in a folded one; a sublayer's output is
before or after the family's multiplier), it is refused with the reason and the names that are clear.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from cutaway.core import InputError, UnknownName
from cutaway.model.facts import Facts
from cutaway.model.norms import NormParts
from cutaway.model.points import GLOBAL, POINTS

LEGACY, BRIDGE, NNTERP, ENGINE = "TransformerLens", "TransformerLens bridge", "nnterp", "interp-engine"


@dataclass(frozen=True)
class View:
    """What a translation looks at: the family's facts, and the points refused and norms found (empty: not known)."""

    facts: Facts
    refused: Mapping[str, str] = field(default_factory=dict)
    norms: Mapping[str, NormParts] = field(default_factory=dict)
    folded: bool | None = None  # whether the peer had folded LayerNorms' gains into the weights, where that is known


Caveat = Callable[[View, int, str], str | None]  # (view, layer, point) -> why the name is refused, or None


@dataclass(frozen=True)
class Name:
    """One foreign name; `{}` stands for the layer. `note` says in words when it is refused, for the table."""

    frameworks: tuple[str, ...]
    form: str
    point: str
    caveat: Caveat | None = None
    note: str = ""


# ---- what makes a name mean two things


def _contribution(view: View, layer: int, point: str) -> str | None:
    if (reason := _module_output(view, layer, point.removesuffix("_post"))) is not None:
        return reason
    scale = view.facts.residual_scales[0 if point.startswith("attn") else 1]
    if scale == 1.0:
        return None
    raw = point.removesuffix("_post")
    return (
        f"{view.facts.family} multiplies what a sublayer writes by {scale:g}, and the name may mean either side: "
        f"{raw}.{layer} is before, {raw}_post.{layer} after"
    )


def _stream(view: View, layer: int, point: str) -> str | None:
    if not view.facts.post_norm:
        return None
    return (
        f"in a post-norm block HookedEncoder's name is the sum before its norm; {point}.{layer} is after it "
        f"(there: hook_normalized_{point})"
    )


def _only_post_norm(view: View, layer: int, point: str) -> str | None:
    return None if view.facts.post_norm else f"only post-norm blocks (BERT) have it; see {point}.{layer}"


def _pre_norm(view: View, layer: int, point: str) -> str | None:
    sublayer = "mlp" if point.startswith(("mlp", "resid_mid")) else "attn"
    address = f"{sublayer}_norm_scale.{layer}"
    if address not in view.refused:
        return None
    return f"no norm here feeds the {sublayer} sublayer ({view.refused[address]})"


_AFTER_GAIN = {"attn_normalized": "attn_in", "mlp_normalized": "mlp_in", "final_normalized": "final_norm"}


def _normalized(view: View, layer: int, point: str) -> str | None:
    address = point if point in GLOBAL else f"{point}.{layer}"
    parts = view.norms.get(address)
    if parts is not None and parts.centred and view.folded is None:
        after = _AFTER_GAIN[point]
        return (
            "a LayerNorm's hook_normalized is after gain and bias as loaded, and before them once TransformerLens has "
            f"folded the weights: {address} is before, {after if after in GLOBAL else f'{after}.{layer}'} after"
        )
    return None


def _final(view: View, layer: int, point: str) -> str | None:
    return _normalized(view, layer, point)


def _sandwich(view: View, layer: int, point: str) -> str | None:
    if view.facts.sandwich:
        return _contribution(view, layer, point) if point.endswith("_post") else None
    return f"{view.facts.family} norms no sublayer's output before it joins the stream"


def _rotated(view: View, layer: int, point: str) -> str | None:
    if view.facts.positions == "rotary":
        return None
    return f"{view.facts.family} rotates nothing; {point[0]}.{layer} is projected, {point}.{layer} as attention has it"


def _biased(view: View, layer: int, point: str) -> str | None:
    if view.facts.positions != "alibi":
        return None
    return (
        "frameworks add ALiBi's bias up to a constant in each row (by distance, or by the key's index alone), which "
        f"the softmax does not see: attn_scores.{layer} is as this model has it, attn_probs.{layer} the same everywhere"
    )


def _embedded(view: View, layer: int, point: str) -> str | None:
    if view.facts.family == "bloom" or view.facts.post_norm:
        return "the embedding is normed before the first block, and the name may mean either side: embeddings is before"
    return None


def _module_output(view: View, layer: int, point: str) -> str | None:
    if view.facts.family == "bloom":
        return (
            f"BLOOM's modules add the residual stream themselves, so a module's output is not what it wrote; "
            f"say {point}.{layer} for what it wrote"
        )
    return None


def _module_input(view: View, layer: int, point: str) -> str | None:
    if view.facts.family == "opt":
        return f"OPT has no MLP module whose input this could be; say {point}.{layer}"
    return None


# ---- the names

_BOTH = (LEGACY, BRIDGE)
NAMES: tuple[Name, ...] = (
    Name(_BOTH, "blocks.{}.hook_resid_pre", "resid_pre"),
    Name((BRIDGE,), "blocks.{}.hook_in", "resid_pre"),
    Name(_BOTH, "blocks.{}.hook_resid_mid", "resid_mid", _stream, "post-norm families"),
    Name((BRIDGE,), "blocks.{}.ln2.hook_in", "resid_mid", _pre_norm, "families without a norm before the MLP"),
    Name(_BOTH, "blocks.{}.hook_resid_post", "resid_post", _stream, "post-norm families"),
    Name((BRIDGE,), "blocks.{}.hook_out", "resid_post"),
    Name((LEGACY,), "blocks.{}.hook_normalized_resid_mid", "resid_mid", _only_post_norm, "other families"),
    Name((LEGACY,), "blocks.{}.hook_normalized_resid_post", "resid_post", _only_post_norm, "other families"),
    Name((BRIDGE,), "blocks.{}.attn.hook_in", "attn_in"),
    Name((BRIDGE,), "blocks.{}.ln1.hook_out", "attn_in", _pre_norm, "families without a norm before attention"),
    Name((BRIDGE,), "blocks.{}.attn.hook_out", "attn_out", _module_output, "BLOOM"),
    Name(_BOTH, "blocks.{}.hook_attn_out", "attn_out_post", _contribution, "Granite, BLOOM"),
    Name((BRIDGE,), "blocks.{}.ln1_post.hook_out", "attn_out_post", _sandwich, "families without such a norm"),
    Name((BRIDGE,), "blocks.{}.mlp.hook_in", "mlp_in"),
    Name((BRIDGE,), "blocks.{}.ln2.hook_out", "mlp_in", _pre_norm, "families without a norm before the MLP"),
    Name((BRIDGE,), "blocks.{}.mlp.hook_out", "mlp_out", _module_output, "BLOOM"),
    Name(_BOTH, "blocks.{}.hook_mlp_out", "mlp_out_post", _contribution, "Granite, BLOOM"),
    Name((BRIDGE,), "blocks.{}.ln2_post.hook_out", "mlp_out_post", _sandwich, "families without such a norm"),
    Name(_BOTH, "blocks.{}.ln1.hook_scale", "attn_norm_scale"),
    Name(_BOTH, "blocks.{}.ln1.hook_normalized", "attn_normalized", _normalized, "LayerNorms"),
    Name(_BOTH, "blocks.{}.ln2.hook_scale", "mlp_norm_scale"),
    Name(_BOTH, "blocks.{}.ln2.hook_normalized", "mlp_normalized", _normalized, "LayerNorms"),
    Name(_BOTH, "blocks.{}.ln1_post.hook_scale", "attn_out_norm_scale", _sandwich, "families without such a norm"),
    Name(_BOTH, "blocks.{}.ln2_post.hook_scale", "mlp_out_norm_scale", _sandwich, "families without such a norm"),
    Name(_BOTH, "blocks.{}.attn.hook_q", "q"),
    Name((BRIDGE,), "blocks.{}.attn.q.hook_out", "q"),
    Name((BRIDGE,), "blocks.{}.attn.q_norm.hook_in", "q"),
    Name((BRIDGE,), "blocks.{}.attn.q_norm.hook_out", "q_norm_out"),
    Name(_BOTH, "blocks.{}.attn.hook_k", "k"),
    Name((BRIDGE,), "blocks.{}.attn.k.hook_out", "k"),
    Name((BRIDGE,), "blocks.{}.attn.k_norm.hook_in", "k"),
    Name((BRIDGE,), "blocks.{}.attn.k_norm.hook_out", "k_norm_out"),
    Name(_BOTH, "blocks.{}.attn.hook_rot_q", "q_rot", _rotated, "families that rotate nothing"),
    Name(_BOTH, "blocks.{}.attn.hook_rot_k", "k_rot", _rotated, "families that rotate nothing"),
    Name(_BOTH, "blocks.{}.attn.hook_v", "value"),
    Name((BRIDGE,), "blocks.{}.attn.v.hook_out", "value"),
    Name(_BOTH, "blocks.{}.attn.hook_attn_scores", "attn_scores", _biased, "ALiBi"),
    Name(_BOTH, "blocks.{}.attn.hook_pattern", "attn_probs"),
    Name(_BOTH, "blocks.{}.attn.hook_z", "z"),
    Name((BRIDGE,), "blocks.{}.attn.o.hook_in", "z"),
    Name(_BOTH, "blocks.{}.mlp.hook_pre", "mlp_pre"),
    Name(_BOTH, "blocks.{}.mlp.hook_pre_linear", "mlp_pre_linear"),
    Name(_BOTH, "blocks.{}.mlp.hook_post", "mlp_act"),
    Name((BRIDGE,), "blocks.{}.mlp.out.hook_in", "mlp_act"),
    Name((BRIDGE,), "blocks.{}.mlp.hook_expert_indices", "expert_indices"),
    Name(_BOTH, "hook_embed", "embeddings", _embedded, "families that norm the embedding (BLOOM, BERT)"),
    Name((BRIDGE,), "embed.hook_out", "embeddings"),
    Name(_BOTH, "ln_final.hook_scale", "final_norm_scale"),
    Name(_BOTH, "ln_final.hook_normalized", "final_normalized", _final, "LayerNorms"),
    Name((BRIDGE,), "ln_final.hook_out", "final_norm"),
    Name((BRIDGE,), "unembed.hook_in", "final_norm"),
    Name((NNTERP,), "token_embeddings", "embeddings"),
    Name((NNTERP,), "layers_input[{}]", "resid_pre"),
    Name((NNTERP,), "layers_output[{}]", "resid_post"),
    Name((NNTERP,), "attentions_input[{}]", "attn_in"),
    Name((NNTERP,), "attentions_output[{}]", "attn_out", _module_output, "BLOOM"),
    Name((NNTERP,), "attention_probabilities[{}]", "attn_probs"),
    Name((NNTERP,), "mlps_input[{}]", "mlp_in", _module_input, "OPT"),
    Name((NNTERP,), "mlps_output[{}]", "mlp_out", _module_output, "BLOOM"),
    Name((ENGINE,), "q_norm_in.{}", "q"),
    Name((ENGINE,), "k_norm_in.{}", "k"),
)

# Names that are never accepted, by what follows `blocks.<layer>.`, with the reason. {} is the layer.
REFUSED: dict[str, str] = {
    "hook_attn_in": "it is BEFORE the block norm, a copy of the stream for each head: say resid_pre.{} for the stream, "
    "attn_in.{} for what attention reads",
    "hook_mlp_in": "it is BEFORE the block norm: say resid_mid.{} for the stream, mlp_in.{} for what the MLP reads",
    "hook_q_input": "it is a copy of the stream for each head before the norm: say resid_pre.{}",
    "hook_k_input": "it is a copy of the stream for each head before the norm: say resid_pre.{}",
    "hook_v_input": "it is a copy of the stream for each head before the norm: say resid_pre.{}",
    "attn.hook_result": "no module holds each head's output apart: take z.{} times each head's slice of W_O",
    "mlp.hook_expert_weights": "it is the softmax over all experts, before the top ones are chosen: "
    "softmax of router_logits.{}, or expert_weights.{} for the weights of the chosen",
    "attn.q_norm.hook_normalized": "it lies inside the norm, before the gain: say q.{} or q_norm_out.{}",
    "attn.k_norm.hook_normalized": "it lies inside the norm, before the gain: say k.{} or k_norm_out.{}",
    "attn.q_norm.hook_scale": "it lies inside the norm of the queries: say q.{} or q_norm_out.{}",
    "attn.k_norm.hook_scale": "it lies inside the norm of the keys: say k.{} or k_norm_out.{}",
    "ln1_post.hook_normalized": "it lies inside the norm, before the gain: say attn_out.{} or attn_out_post.{}",
    "ln2_post.hook_normalized": "it lies inside the norm, before the gain: say mlp_out.{} or mlp_out_post.{}",
}
_NEEDS = {  # points that stand for a norm's other side, and exist where that norm does
    "blocks.{}.attn.q_norm.hook_in": "q_norm_out",
    "blocks.{}.attn.k_norm.hook_in": "k_norm_out",
    "q_norm_in.{}": "q_norm_out",
    "k_norm_in.{}": "k_norm_out",
}
_SHORT = ("hook_q", "hook_k", "hook_v", "hook_z", "hook_pattern", "hook_attn_scores", "hook_rot_q", "hook_rot_k")
_SHORT_MLP = ("hook_pre", "hook_pre_linear", "hook_post")
_FORMS = {name.form: name for name in NAMES}
_LAYER = re.compile(r"^(blocks\.)(\d+)(\..+)$|^([a-z_]+\[)(\d+)(\])$|^([qk]_norm_in\.)(\d+)()$")


def translate(text: str, view: View) -> str | None:
    """Another framework's name as an address of ours; None where it is none of theirs.

    Raises InputError where the name is known and refused, with the reason; UnknownName for a hook that is not known.
    """
    form, layer = _parse(text)
    name = _FORMS.get(form)
    if name is None:
        if not form.startswith("blocks.") and not form.endswith("[{}]"):
            for whole in (f"blocks.{{}}.{text}", f"{text}[{{}}]"):
                if whole in _FORMS or whole in set(_refused_forms()):
                    raise InputError(f"{text} needs a layer: {whole.replace('{}', '0')}, {whole.replace('{}', '1')}, …")
            return None
        if (reason := REFUSED.get(form.removeprefix("blocks.{}."))) is not None:
            raise InputError(f"{text} has no point here: {reason.replace('{}', str(layer))}.")
        raise UnknownName("hook", text, (other.replace("{}", str(layer)) for other in (*_FORMS, *_refused_forms())))
    if view.facts.reads != "tokens":
        raise InputError(
            f"{text} is a name for language models; this one reads {view.facts.reads}: say {_address(name, layer)}."
        )
    needed = f"{_NEEDS[form]}.{layer}" if form in _NEEDS else ""
    if needed in view.refused:
        raise InputError(f"{text} is the other side of a norm that is not here: {view.refused[needed]}.")
    if name.caveat is not None and (reason := name.caveat(view, layer, name.point)) is not None:
        raise InputError(f"{text} could mean two tensors, or none: {reason}.")
    point = name.point
    if not view.facts.sandwich:  # nothing stands between the sublayer and the sum: both are one tensor
        point = point.replace("_out_post", "_out")
    parts = view.norms.get(point if point in GLOBAL else f"{point}.{layer}")
    if view.folded is False and point in _AFTER_GAIN and parts is not None and parts.centred:
        point = _AFTER_GAIN[point]
    return point if point in GLOBAL else f"{point}.{layer}"


def hook_point(name: str, layer: int, view: View) -> str:
    """A hook name as dictionaries carry it ('hook_resid_mid', 'mlp.hook_in', 'ln2.hook_normalized', or a point of
    ours) at a layer, as an address of ours. Raises InputError."""
    if name in POINTS:
        return name if name in GLOBAL else f"{name}.{layer}"
    found = translate(name if name.startswith("blocks.") else f"blocks.{layer}.{name}", view)
    if found is None:
        raise InputError(f"no point is known under the hook name {name!r}.")
    return found


def forms() -> Iterator[str]:
    """Every name that is known, accepted or refused, with {} for the layer."""
    yield from _FORMS
    yield from _refused_forms()


def _refused_forms() -> Iterator[str]:
    yield from (f"blocks.{{}}.{suffix}" for suffix in REFUSED)


def _parse(text: str) -> tuple[str, int]:
    match = _LAYER.match(text)
    if match is None:
        return text, 0
    before, layer, after = (part for part in match.groups() if part is not None)
    if before == "blocks.":
        short = after.removeprefix(".")
        after = f".attn.{short}" if short in _SHORT else f".mlp.{short}" if short in _SHORT_MLP else after
    return f"{before}{{}}{after}", int(layer)


def _address(name: Name, layer: int) -> str:
    return name.point if name.point in GLOBAL else f"{name.point}.{layer}"
