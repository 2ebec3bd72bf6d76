"""The points, and the families of causal language models, read through interp-engine. The one file that uses it.

`Architecture` says where each point of a model lies, or why it has none.
"""

from __future__ import annotations

from typing import Any

import torch
from interp_engine import facts as engine_facts
from interp_engine.model import EagerModel
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from cutaway.model import sites
from cutaway.model.anatomy import Refused, norms_within
from cutaway.model.facts import Facts
from cutaway.model.sites import Axes, Site

# Every point: axes, and what it is. In forward order. `norm` points are found by running the model (survey.py).
POINTS: dict[str, tuple[Axes, str]] = {
    "embeddings": (sites.RESIDUAL, "output of the token embedding"),
    "resid_pre": (sites.RESIDUAL, "residual stream entering the block"),
    "attn_norm_scale": (sites.SCALE, "the attention norm's denominator, sqrt(mean of squares + eps)"),
    "attn_normalized": (sites.RESIDUAL, "the attention norm's input over its denominator, before the gain"),
    "attn_in": (sites.RESIDUAL, "what attention reads"),
    "q": (sites.HEADS, "queries as projected, before any norm and rotation"),
    "k": (sites.KV_HEADS, "keys as projected, before any norm and rotation"),
    "q_norm_out": (sites.HEADS, "queries after the query norm, before rotation"),
    "k_norm_out": (sites.KV_HEADS, "keys after the key norm, before rotation"),
    "q_rot": (sites.HEADS, "queries as attention uses them"),
    "k_rot": (sites.KV_HEADS, "keys as attention uses them"),
    "value": (sites.KV_HEADS, "values"),
    "attn_scores": (sites.SCORES, "scores before the softmax: scaled, capped, masked"),
    "attn_probs": (sites.SCORES, "attention pattern"),
    "z": (sites.HEADS, "heads before W_O"),
    "attn_gate": (sites.OTHER, "gate of the attention output"),
    "attn_out": (sites.RESIDUAL, "attention's raw output"),
    "attn_out_norm_scale": (sites.SCALE, "denominator of the norm after attention"),
    "attn_out_post": (sites.RESIDUAL, "what attention adds to the residual stream"),
    "cross_value": (sites.SOURCE_HEADS, "values of the encoder's output, in an encoder-decoder"),
    "cross_scores": (sites.SOURCE_SCORES, "scores over the source before the softmax"),
    "cross_probs": (sites.SOURCE_SCORES, "attention pattern over the source"),
    "cross_z": (sites.HEADS, "heads over the source before W_O"),
    "cross_out": (sites.RESIDUAL, "what attention over the source adds to the residual stream"),
    "resid_mid": (sites.RESIDUAL, "residual stream that the MLP is added to, where the MLP comes after attention"),
    "mlp_norm_scale": (sites.SCALE, "the MLP norm's denominator"),
    "mlp_normalized": (sites.RESIDUAL, "the MLP norm's input over its denominator, before the gain"),
    "mlp_in": (sites.RESIDUAL, "what the MLP reads"),
    "mlp_pre": (sites.NEURONS, "neurons before the activation function"),
    "mlp_pre_linear": (sites.NEURONS, "the branch that a gated MLP multiplies by"),
    "mlp_act": (sites.NEURONS, "neurons"),
    "router_logits": (sites.OTHER, "the router's logits over experts"),
    "expert_weights": (sites.OTHER, "weights of the chosen experts"),
    "expert_indices": (sites.OTHER, "the chosen experts"),
    "mlp_out": (sites.RESIDUAL, "the MLP's raw output"),
    "mlp_out_norm_scale": (sites.SCALE, "denominator of the norm after the MLP"),
    "mlp_out_post": (sites.RESIDUAL, "what the MLP adds to the residual stream"),
    "resid_post": (sites.RESIDUAL, "residual stream leaving the block"),
    "final_norm_scale": (sites.SCALE, "the final norm's denominator"),
    "final_normalized": (sites.RESIDUAL, "the final norm's input over its denominator, before the gain"),
    "final_norm": (sites.RESIDUAL, "output of the final norm"),
    "lm_head": (sites.VOCAB, "the unembedding's output, before any cap or scale"),
}
GLOBAL = ("embeddings", "final_norm_scale", "final_normalized", "final_norm", "lm_head")
NORM_POINTS = tuple(name for name in POINTS if name.endswith(("norm_scale", "normalized")))
ATTENTION_POINTS = ("q_rot", "k_rot", "attn_scores", "attn_probs")
READ_ONLY = ("router_logits", "expert_indices", "attn_gate")

REFUSALS = (ValueError, RuntimeError, AttributeError, IndexError, KeyError, TypeError)


class _NoTokenizer:
    """interp-engine wants a tokenizer object; a bare module has none."""

    all_special_ids: tuple[int, ...] = ()


class Architecture:
    """Where the points of one Hugging Face causal language model lie."""

    def __init__(self, hf: Any) -> None:
        if not getattr(hf.config, "architectures", None):
            hf.config.architectures = [type(hf).__name__]  # as saving it would; families are told apart by it
        self.headless = _is_headless(hf)
        if self.headless:  # interp-engine wants a head; this one is never called, and its point is refused
            hf.lm_head = nn.Identity()
        try:
            self._engine: Any = EagerModel(
                str(getattr(hf.config, "name_or_path", "")), hf_model=hf, tokenizer=_NoTokenizer()
            )
        except REFUSALS as error:
            raise Refused(str(error)) from error
        finally:
            if self.headless:
                del hf.lm_head
        if self.headless and _looks_ahead(hf):
            raise Refused(f"{type(hf).__name__} attends to later tokens, and is no encoder whose parts are known")
        self.arch: Any = self._engine.arch
        self.hf = hf
        self.n_layers = int(self.arch.n_layers)
        self.d_model = int(self.arch.d_model)
        self.gated_attention = bool(self.arch.quirks.gated_attn_out)

    # ---- the modules that others read weights from

    def block(self, layer: int) -> nn.Module:
        return self._module(self.arch.block(layer))

    def attention(self, layer: int) -> nn.Module:
        found = self._module(self.arch.attn_module(layer))
        inner = getattr(found, "attention", None)  # GPT-Neo wraps the module that attends in one that does nothing
        return inner if isinstance(inner, nn.Module) else found

    def norm_after(self, layer: int, sublayer: str) -> nn.Module | None:
        """The norm on a sublayer's output ('attn' or 'mlp'), where the family has one."""
        found = self.arch.post_attn_norm(layer) if sublayer == "attn" else self.arch.post_mlp_norm(layer)
        return found if isinstance(found, nn.Module) else None

    def norms(self, layer: int) -> dict[str, nn.Module]:
        return norms_within(self.block(layer))

    @property
    def final_norm(self) -> nn.Module | None:
        return self._module(self.arch.final_norm)

    def activation(self, layer: int) -> Any:
        """The MLP's activation function, where the MLP keeps it under a known name."""
        try:
            holder = self.arch.mlp_projection_holder(layer)
        except REFUSALS:
            return None
        names = ("act_fn", "act", "activation_fn", "activation")
        return next((f for name in names if callable(f := getattr(holder, name, None))), None)

    def configs(self) -> list[Any]:
        return [config for m in (self.hf, self.arch.trunk) if (config := getattr(m, "config", None)) is not None]

    @staticmethod
    def _module(found: Any) -> nn.Module:
        if not isinstance(found, nn.Module):
            raise Refused(f"{type(found).__name__} is no module")
        return found

    # ---- facts

    def facts(self) -> Facts:
        arch, quirks = self.arch, self.arch.quirks
        config = engine_facts.text_config(self.hf.config)
        try:
            down = arch.mlp_projection(0, "down")
            d_mlp = int(getattr(down, "in_features", 0) or getattr(down, "nx", 0))
            gated = bool(engine_facts.is_gated_mlp(arch.mlp_projection_holder(0))) or arch.fused_gate_up(0) is not None
        except REFUSALS:
            d_mlp, gated = 0, False
        positions = getattr(config, "max_position_embeddings", None)
        parameters = {id(p): p for p in self.hf.parameters()}.values()
        return Facts(
            family=str(getattr(self.hf.config, "model_type", "")),
            architecture=str(arch.architecture),
            n_layers=self.n_layers,
            d_model=int(arch.d_model),
            n_heads=int(arch.n_heads),
            n_kv_heads=int(arch.n_kv_heads),
            d_head=int(arch.head_dim),
            d_mlp=d_mlp,
            vocab_size=int(arch.vocab_size),
            max_positions=int(positions) if positions else None,
            parallel=bool(quirks.parallel_attn_mlp),
            sandwich=bool(quirks.sandwich_norms),
            gated=gated,
            experts=int(engine_facts.n_experts(config)) if quirks.moe_layers else 0,
            tied=bool(quirks.tied_embeddings),
            attention_softcap=_number(quirks.attn_logit_softcapping),
            logit_softcap=_number(quirks.final_logit_softcapping),
            logit_scale=_number(quirks.logit_multiplier) or 1.0,
            residual_scales=(float(quirks.residual_multipliers[0]), float(quirks.residual_multipliers[1])),
            n_parameters=sum(p.numel() for p in parameters),
            dtype=str(next(iter(self.hf.parameters())).dtype).removeprefix("torch."),
            positions=self._positions(config),
        )

    def _positions(self, config: Any) -> str:
        if getattr(config, "alibi", False) or getattr(config, "model_type", "") in ("bloom", "mpt"):
            return "alibi"
        rotating = any("rotary" in type(module).__name__.lower() for module in self.hf.modules())
        return "rotary" if rotating or getattr(config, "rotary_dim", None) else "learned"

    # ---- points

    def site(self, name: str, layer: int | None) -> Site:
        """The site of any point but a norm's. Raises Refused with the reason where there is none."""
        try:
            return self._site(name, layer)
        except Refused:
            raise
        except REFUSALS as error:
            raise Refused(str(error)) from error

    def _site(self, name: str, layer: int | None) -> Site:
        axes = POINTS[name][0]
        address = name if layer is None else f"{name}.{layer}"
        if name.startswith("cross_"):
            raise Refused("a stack without an encoder attends to no source")
        if name == "lm_head" and self.headless:
            raise Refused("the module has no head over a vocabulary at every position")

        def site(module: nn.Module, via: Any = "output", **more: Any) -> Site:
            return Site(address, name, layer, axes, module, via, writable=name not in READ_ONLY, **more)

        if name in ATTENTION_POINTS and layer is not None:
            attention = self._open_attention(layer)
            if name in ("q_rot", "k_rot"):
                return site(attention, "attention", heads=self._heads(name[0], layer), head_major=True)
            return site(attention, "attention")
        if layer is not None and (name in ("q", "k") or (name == "value" and self._wrapped(layer))):
            module, columns = self._projection(name, layer)
            return site(module, columns=columns, heads=self._heads(name, layer))
        if name == "z" and layer is not None and self._wrapped(layer):
            return site(
                self._module(getattr(self.attention(layer), "out_proj", None)), "input", heads=self._heads("z", layer)
            )
        if name == "resid_mid" and layer is not None and getattr(self.block(layer), "do_layer_norm_before", False):
            block = self.block(layer)  # OPT's block holds its MLP, whose norm is called as others call the final one
            return site(self._module(getattr(block, "final_layer_norm", None)), "input", follows=block)
        if name in ("q_norm_out", "k_norm_out") and layer is not None:
            per_head = getattr(self.attention(layer), f"{name[0]}_layernorm", None)  # StableLM, Phi where they have it
            if isinstance(per_head, nn.Module):
                return site(per_head, heads=self._heads(name, layer))
        module, side = self._engine.resolve_point(name, layer)
        via, _, element = str(side).partition(":")
        more: dict[str, Any] = {"element": int(element or 0)}
        if name in ("value", "z", "q_norm_out", "k_norm_out") and layer is not None:
            more["heads"] = self._heads(name, layer)
        if name == "value" and module is self.arch.fused_qkv_module(layer):
            more["columns"] = self._fused_columns("v")
        if name in ("mlp_pre", "mlp_pre_linear") and (fused := self.arch.fused_gate_up(layer)) is not None:
            module, layout = fused
            split = engine_facts.split_fused_gate_up(torch.arange(int(module.out_features)), layout)
            more["columns"] = split["gate" if name == "mlp_pre" else "up"]
        if name in ("attn_out_post", "mlp_out_post"):
            more["factor"] = float(self.arch.quirks.residual_multipliers[0 if name.startswith("attn") else 1])
        if name == "resid_mid" and layer is not None:
            more["follows"] = self.block(layer)
        return site(module, via, **more)

    def _wrapped(self, layer: int) -> bool:
        return self.attention(layer) is not self.arch.attn_module(layer)

    def _open_attention(self, layer: int) -> nn.Module:
        if self.arch.is_linear_attention_layer(layer):
            raise Refused(f"layer {layer} is not softmax attention")
        return self.attention(layer)

    def _heads(self, name: str, layer: int) -> tuple[int, int]:
        arch = self.arch
        if name in ("q", "q_norm_out"):
            return int(arch.n_heads), int(arch.head_dim_for_layer(layer))
        if name in ("k", "k_norm_out"):
            return int(arch.kv_heads_for_layer(layer)), int(arch.head_dim_for_layer(layer))
        kind = int(arch.n_heads) if name == "z" else int(arch.kv_heads_for_layer(layer))
        return kind, int(arch.value_head_dim_for_layer(layer))

    def _projection(self, which: str, layer: int) -> tuple[nn.Module, Tensor | None]:
        """The module whose output (columns of it, where fused) is the queries or keys."""
        if (fused := self.arch.fused_qkv_module(layer)) is not None:
            return fused, self._fused_columns(which)
        attention = self.attention(layer)
        names = {"q": ("q_proj", "query", "Wq"), "k": ("k_proj", "key", "Wk"), "value": ("v_proj",)}[which]
        found = next((m for name in names if isinstance(m := getattr(attention, name, None), nn.Module)), None)
        if found is None:
            raise Refused(f"layer {layer} has no {which} projection of its own")
        heads, width = self._heads(which, layer)
        out = int(getattr(found, "out_features", 0) or getattr(found, "nf", 0))
        if out and out != heads * width:
            raise Refused(f"the {which} projection is {out} wide where {heads} heads of {width} make {heads * width}")
        return found, None

    def _fused_columns(self, which: str) -> Tensor:
        arch = self.arch
        heads, kv_heads, width = int(arch.n_heads), int(arch.n_kv_heads), int(arch.head_dim)
        slab = torch.arange((heads + 2 * kv_heads) * width)
        parts: dict[str, Tensor] = engine_facts.split_qkv_slab(
            slab, layout=arch.quirks.qkv_layout, n_heads=heads, n_kv_heads=kv_heads, head_dim=width
        )
        return parts[which].reshape(-1)


def _is_headless(hf: Any) -> bool:
    """Whether this is a causal language model's body without its unembedding (GPT2Model), or under another head, as a
    reward model's (LlamaForSequenceClassification)."""
    if any(isinstance(getattr(hf, name, None), nn.Module) for name in engine_facts.LM_HEAD_ATTRS):
        return False
    if str(getattr(hf.config, "model_type", "")) not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return False
    bodies = ("model", "transformer", "decoder", "layers", "h")
    return any(isinstance(getattr(hf, name, None), nn.Module) for name in bodies)


def _looks_ahead(hf: Any) -> bool:
    """Whether the last of four tokens moves what a block gives at those before it."""
    given: list[Tensor] = []

    def note(_: nn.Module, __: Any, output: Any) -> None:
        given.append(output[0] if isinstance(output, (tuple, list)) else output)

    blocks = next(m for m in hf.modules() if isinstance(m, nn.ModuleList))
    handle = blocks[len(blocks) - 1].register_forward_hook(note)
    try:
        with torch.no_grad():
            for last in (0, 1):
                hf(torch.tensor([[0, 1, 0, last]], device=next(hf.parameters()).device))
    finally:
        handle.remove()
    first, second = (x[:, :3].float() for x in given)
    # Not to the bit: with another last token experts are batched otherwise.
    return not float((first - second).abs().max()) <= 1e-3 * float(first.abs().max())


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
