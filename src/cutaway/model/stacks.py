"""Encoders, encoder-decoders and vision towers: stacks of transformer blocks whose parts are found by module path.

One row of `STACKS` a family. A path that a checkpoint has not (a gated MLP where a plain one was expected, …) refuses
the points that need it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from cutaway.model.anatomy import Refused, norms_within
from cutaway.model.facts import Facts
from cutaway.model.points import GLOBAL, POINTS
from cutaway.model.sites import Axes, Site


@dataclass(frozen=True)
class Parts:
    """Paths of a family's parts: `blocks`, `embeddings` and `final_norm` from the stack, the rest from a block.

    The middle of a block is what leaves `mid_output`, or what enters `mid_input` (the norm before the MLP).
    """

    stack: tuple[str, ...]  # where the stack may lie in the module given; "" is the module itself
    blocks: str
    embeddings: str
    attention: str
    qkv: tuple[str, str, str]
    out: str
    mlp: str
    up: tuple[str, ...]  # the activated branch; names differ between plain and gated MLPs
    down: str
    linear: str = ""  # the branch that a gated MLP multiplies by
    mid_output: str = ""
    mid_input: str = ""
    final_norm: str = ""
    heads: tuple[str, ...] = ()  # the unembedding, from the module given
    activation: tuple[str, ...] = ()
    post_norms: tuple[str, str] | None = None  # norms of the stream after attention and after the MLP joined it
    scales: tuple[str, str] | None = None  # modules that scale what a sublayer adds to the stream
    pixels: bool = False
    causal: bool = False
    cross: str = ""  # the module that attends to the encoder


_BERT = Parts(
    ("bert", "roberta", "electra", ""), "encoder.layer", "embeddings.word_embeddings", "attention.self",
    ("attention.self.query", "attention.self.key", "attention.self.value"), "attention.output.dense",
    "intermediate", ("intermediate.dense",), "output.dense", mid_output="attention.output.LayerNorm",
    heads=("cls.predictions.decoder", "lm_head.decoder", "generator_lm_head"),
    activation=("intermediate.intermediate_act_fn",),
    post_norms=("attention.output.LayerNorm", "output.LayerNorm"),
)  # fmt: skip
_SIGLIP = Parts(
    ("vision_model", ""), "encoder.layers", "embeddings", "self_attn",
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "self_attn.out_proj",
    "mlp", ("mlp.fc1",), "mlp.fc2", mid_input="layer_norm2", final_norm="post_layernorm",
    activation=("mlp.activation_fn",), pixels=True,
)  # fmt: skip
_CLASS_TOKEN = (
    "the norm after the last block sees the class token alone: read it by module path, as path.post_layernorm"
)
_CLIP_TEXT = Parts(
    ("text_model", ""), "encoder.layers", "embeddings.token_embedding", "self_attn", _SIGLIP.qkv, _SIGLIP.out,
    "mlp", ("mlp.fc1",), "mlp.fc2", mid_input="layer_norm2", final_norm="final_layer_norm",
    activation=("mlp.activation_fn",), causal=True,
)  # fmt: skip
_VIT = Parts(
    ("vit", ""), "layers", "embeddings", "attention",
    ("attention.q_proj", "attention.k_proj", "attention.v_proj"), "attention.o_proj",
    "mlp", ("mlp.fc1",), "mlp.fc2", mid_input="layernorm_after", final_norm="layernorm",
    activation=("mlp.activation_fn",), pixels=True,
)  # fmt: skip
_DINO = Parts(
    ("dinov2", ""), "encoder.layer", "embeddings", "attention", _VIT.qkv, _VIT.out, "mlp", ("mlp.fc1",), "mlp.fc2",
    mid_input="norm2", final_norm="layernorm", activation=("mlp.activation_fn",),
    scales=("layer_scale1", "layer_scale2"), pixels=True,
)  # fmt: skip
_T5_ENCODER = Parts(
    ("encoder", ""), "block", "embed_tokens", "layer.0.SelfAttention",
    ("layer.0.SelfAttention.q", "layer.0.SelfAttention.k", "layer.0.SelfAttention.v"), "layer.0.SelfAttention.o",
    "layer.1.DenseReluDense", ("layer.1.DenseReluDense.wi", "layer.1.DenseReluDense.wi_0"),
    "layer.1.DenseReluDense.wo", "layer.1.DenseReluDense.wi_1", mid_output="layer.0", final_norm="final_layer_norm",
    activation=("layer.1.DenseReluDense.act",),
)  # fmt: skip
_T5_DECODER = Parts(
    ("decoder",), "block", "embed_tokens", "layer.0.SelfAttention", _T5_ENCODER.qkv, "layer.0.SelfAttention.o",
    "layer.2.DenseReluDense", ("layer.2.DenseReluDense.wi", "layer.2.DenseReluDense.wi_0"),
    "layer.2.DenseReluDense.wo", "layer.2.DenseReluDense.wi_1", mid_output="layer.1", final_norm="final_layer_norm",
    heads=("lm_head",), activation=("layer.2.DenseReluDense.act",), causal=True, cross="layer.1.EncDecAttention",
)  # fmt: skip

STACKS: dict[str, Parts] = {  # by model_type
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "distilbert": Parts(
        ("distilbert", ""), "transformer.layer", "embeddings.word_embeddings", "attention",
        ("attention.q_lin", "attention.k_lin", "attention.v_lin"), "attention.out_lin",
        "ffn", ("ffn.lin1",), "ffn.lin2", mid_output="sa_layer_norm", heads=("vocab_projector",),
        activation=("ffn.activation",), post_norms=("sa_layer_norm", "output_layer_norm"),
    ),
    "vit": _VIT,
    "dinov2": _DINO,
    "clip_vision_model": replace(_SIGLIP, final_norm=""),
    "clip_text_model": _CLIP_TEXT,
    "siglip_vision_model": _SIGLIP,
    "siglip_text_model": replace(_CLIP_TEXT, causal=False),
    "deit": replace(_VIT, stack=("deit", "")),
    "dinov2_with_registers": replace(_DINO, stack=("dinov2_with_registers", "")),
    "dinov3_vit": replace(
        _DINO, stack=("",), blocks="model.layer", up=("mlp.gate_proj", "mlp.up_proj"), linear="mlp.up_proj",
        down="mlp.down_proj", final_norm="norm", activation=("mlp.act_fn",),
    ),
    "t5": _T5_ENCODER,
    "mt5": _T5_ENCODER,
}  # fmt: skip

# Positions counted from the ids themselves, from padding's id on: padding must carry that id, and no ids be handed in.
POSITIONS_FROM_IDS = ("roberta", "xlm-roberta", "camembert")
_LACKS = dict.fromkeys(("q_norm_out", "k_norm_out"), "the family norms neither queries nor keys")
_LACKS |= dict.fromkeys(("router_logits", "expert_weights", "expert_indices"), "the family is dense: no experts")
_CROSS = {"cross_scores": "attn_scores", "cross_probs": "attn_probs"}


def parts_for(hf: Any) -> Parts | None:
    """The row of a Hugging Face module, or None for a family that is not in the table."""
    family = str(getattr(hf.config, "model_type", ""))
    if family in ("t5", "mt5") and hasattr(hf, "decoder") and hasattr(hf, "lm_head"):
        return _T5_DECODER
    return STACKS.get(family)


class Stack:
    """Where the points of one stack lie."""

    def __init__(self, hf: Any, parts: Parts) -> None:
        self.hf, self.parts = hf, parts
        found = next((s for path in parts.stack if (s := _at(hf, path)) is not None and _at(s, parts.blocks)), None)
        if found is None:
            raise Refused(f"{type(hf).__name__} holds no {parts.blocks}")
        self.stack: nn.Module = found
        blocks = found.get_submodule(parts.blocks)
        if not isinstance(blocks, nn.ModuleList) or not len(blocks):
            raise Refused(f"{type(hf).__name__} has no blocks at {parts.blocks}")
        self.blocks = blocks
        self.n_layers = len(blocks)
        config = hf.config
        self.d_model = int(_first(config, "hidden_size", "d_model", "dim"))
        self.n_heads = int(_first(config, "num_attention_heads", "num_heads", "n_heads"))
        self.gated_attention = False

    # ---- parts

    def block(self, layer: int) -> nn.Module:
        return self.blocks[layer]

    def attention(self, layer: int) -> nn.Module:
        return self._part(layer, self.parts.attention)

    def norms(self, layer: int) -> dict[str, nn.Module]:
        return norms_within(self.block(layer), nested=True)

    def norm_after(self, layer: int, sublayer: str) -> nn.Module | None:
        if self.parts.post_norms is None:
            return None
        return _at(self.block(layer), self.parts.post_norms[0 if sublayer == "attn" else 1])

    @property
    def final_norm(self) -> nn.Module | None:
        return _at(self.stack, self.parts.final_norm) if self.parts.final_norm else None

    def activation(self, layer: int) -> Any:
        return next((a for path in self.parts.activation if (a := _at(self.block(layer), path)) is not None), None)

    def configs(self) -> list[Any]:
        return [config for m in (self.hf, self.stack) if (config := getattr(m, "config", None)) is not None]

    def _part(self, layer: int, *paths: str) -> nn.Module:
        block = self.block(layer)
        found = next((part for path in paths if (part := _at(block, path)) is not None), None)
        if found is None:
            raise Refused(f"{type(block).__name__} of layer {layer} has no {' or '.join(paths)}")
        return found

    def positions(self, pixels: Any) -> int:
        """How many positions an image [1, channel, height, width] has: its patches, and tokens that the tower adds."""
        return int(self.stack.get_submodule(self.parts.embeddings)(pixels).shape[1])

    # ---- facts

    def facts(self) -> Facts:
        config, parts = self.hf.config, self.parts
        up = next((m for path in parts.up if (m := _at(self.block(0), path)) is not None), None)
        table = _at(self.stack, parts.embeddings)
        positions = None if parts.pixels else getattr(config, "max_position_embeddings", None)
        if positions and config.model_type in POSITIONS_FROM_IDS:
            positions -= int(config.pad_token_id) + 1
        parameters = {id(p): p for p in self.hf.parameters()}.values()
        return Facts(
            family=str(config.model_type),
            architecture=type(self.hf).__name__,
            n_layers=self.n_layers,
            d_model=self.d_model,
            n_heads=self.n_heads,
            n_kv_heads=self.n_heads,
            d_head=self._d_head(0),
            d_mlp=int(getattr(up, "out_features", 0)),
            vocab_size=int(getattr(table, "num_embeddings", 0)),
            max_positions=int(positions) if positions else None,
            parallel=False,
            sandwich=False,
            gated=self._gated(0),
            experts=0,
            tied=bool(getattr(config, "tie_word_embeddings", False)),
            attention_softcap=None,
            logit_softcap=None,
            logit_scale=1.0,
            residual_scales=(1.0, 1.0),
            n_parameters=sum(p.numel() for p in parameters),
            dtype=str(next(iter(self.hf.parameters())).dtype).removeprefix("torch."),
            causal=parts.causal,
            positions={"t5": "relative", "mt5": "relative", "dinov3_vit": "rotary"}.get(config.model_type, "learned"),
            post_norm=parts.post_norms is not None,
            reads="pixels" if parts.pixels else "source and tokens" if parts.cross else "tokens",
        )

    def _gated(self, layer: int) -> bool:
        """Whether the MLP has a second branch, beside the first of `up` that is there."""
        block, linear = self.block(layer), self.parts.linear
        activated = next((path for path in self.parts.up if _at(block, path) is not None), "")
        return bool(linear) and linear != activated and _at(block, linear) is not None

    def _d_head(self, layer: int) -> int:
        return int(self._part(layer, self.parts.qkv[0]).out_features) // self.n_heads  # type: ignore[arg-type]

    # ---- points

    def site(self, name: str, layer: int | None) -> Site:
        """The site of any point but a norm's. Raises Refused with the reason where there is none."""
        parts, axes = self.parts, POINTS[name][0]
        if layer is None:
            return self._global(name)
        heads = (self.n_heads, self._d_head(layer))
        if name == "resid_pre":
            return _site(name, layer, axes, self.block(layer), "input")
        if name == "resid_post":
            return _site(name, layer, axes, self.block(layer))
        if name == "resid_mid":
            if parts.mid_output:
                return _site(name, layer, axes, self._part(layer, parts.mid_output))
            return _site(name, layer, axes, self._part(layer, parts.mid_input), "input", follows=self.block(layer))
        if name in ("q", "k", "value"):
            which = ("q", "k", "value").index(name)
            return _site(name, layer, axes, self._part(layer, parts.qkv[which]), heads=heads)
        if name in ("q_rot", "k_rot"):
            return _site(name, layer, axes, self.attention(layer), "attention", heads=heads, head_major=True)
        if name in ("attn_scores", "attn_probs"):
            return _site(name, layer, axes, self.attention(layer), "attention")
        if name == "z":
            return _site(name, layer, axes, self._part(layer, parts.out), "input", heads=heads)
        if name.startswith("cross_"):
            return self._cross(name, layer, heads)
        if name in ("attn_out_post", "mlp_out_post") and parts.post_norms is not None:
            raise Refused(
                "a post-norm block norms the sum of stream and sublayer, so what the sublayer adds is its raw output "
                f"({name.removesuffix('_post')}) and then rescaled with the stream"
            )
        if name in ("attn_out_post", "mlp_out_post") and parts.scales is not None:
            return _site(name, layer, axes, self._part(layer, parts.scales[0 if name.startswith("attn") else 1]))
        where = {
            "attn_in": (parts.attention, "input"),
            "attn_out": (parts.out, "output"),
            "attn_out_post": (parts.out, "output"),
            "mlp_in": (parts.mlp, "input"),
            "mlp_pre": (parts.up, "output"),
            "mlp_pre_linear": (parts.linear, "output"),
            "mlp_act": (parts.down, "input"),
            "mlp_out": (parts.down, "output"),
            "mlp_out_post": (parts.down, "output"),
        }
        if name not in where:
            raise Refused(_LACKS.get(name, f"{self.hf.config.model_type} has no {name}"))
        path, via = where[name]
        if name == "mlp_pre_linear" and not self._gated(layer):
            raise Refused("the MLP is not gated: it has one branch, whose pre-activation is mlp_pre")
        paths = (path,) if isinstance(path, str) else path
        return _site(name, layer, axes, self._part(layer, *paths), via)

    def _cross(self, name: str, layer: int, heads: tuple[int, int]) -> Site:
        path = self.parts.cross
        if not path:
            raise Refused("a stack without an encoder attends to no source")
        axes = POINTS[name][0]
        if name in _CROSS:
            # The attention function reports under its own names; the address says whose attention it is.
            return _site(name, layer, axes, self._part(layer, path), "attention", quantity=_CROSS[name])
        if name == "cross_value":
            return _site(name, layer, axes, self._part(layer, f"{path}.v"), heads=heads)
        if name == "cross_z":
            return _site(name, layer, axes, self._part(layer, f"{path}.o"), "input", heads=heads)
        return _site(name, layer, axes, self._part(layer, f"{path}.o"))

    def _global(self, name: str) -> Site:
        parts = self.parts
        if name == "embeddings":
            return _site(name, None, POINTS[name][0], self._in_stack(parts.embeddings))
        if name == "final_norm" and parts.final_norm:
            return _site(name, None, POINTS[name][0], self._in_stack(parts.final_norm))
        if name == "lm_head":
            head = next((m for path in parts.heads if (m := _at(self.hf, path)) is not None), None)
            if head is not None:
                return _site(name, None, POINTS[name][0], head)
            raise Refused(f"{type(self.hf).__name__} has no head over a vocabulary at every position")
        assert name in GLOBAL
        if parts.pixels:
            raise Refused(_CLASS_TOKEN)
        raise Refused(f"{self.hf.config.model_type} norms its stream in every block and has no final norm")

    def _in_stack(self, path: str) -> nn.Module:
        found = _at(self.stack, path)
        if found is None:
            raise Refused(f"{type(self.stack).__name__} has no {path}")
        return found


def _site(
    name: str, layer: int | None, axes: Axes, module: nn.Module, via: Any = "output", quantity: str = "", **more: Any
) -> Site:
    address = name if layer is None else f"{name}.{layer}"
    return Site(address, quantity or name, layer, axes, module, via, **more)


def _at(module: Any, path: str) -> nn.Module | None:
    try:
        found: nn.Module = module.get_submodule(path)
        return found
    except AttributeError:
        return None


def _first(config: Any, *names: str) -> Any:
    return next(value for name in names if (value := getattr(config, name, None)) is not None)
