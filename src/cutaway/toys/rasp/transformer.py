"""The transformer that compiled programs live in: a Hugging Face causal-LM class of our own.

No standard class has what RASP needs at once: learned positions, biases in queries, ReLU neurons, attention that may be
bidirectional, no norm. This one has, under the standard names, with attention through the registry, so that every point
of the model layer exists. `cutaway.load(folder)` knows its `model_type`; for plain transformers,
`import cutaway.toys.rasp` registers it.

Its norms are the identity bit for bit: RMSNorms whose eps of 2^100 swamps the input and whose gain is the 2^50 that
they divide by. So tools that look for a norm find one, and one whose scale is constant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.configuration_utils import PreTrainedConfig
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_outputs import CausalLMOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel

MODEL_TYPE = "cutaway_rasp"
_GAIN = 2.0**50


class RaspConfig(PreTrainedConfig):  # type: ignore[misc]
    """Sizes of a compiled program's transformer. `causal`: whether a position attends to later ones."""

    model_type = MODEL_TYPE

    vocab_size: int = 3
    hidden_size: int = 8
    num_hidden_layers: int = 1
    num_attention_heads: int = 1
    head_dim: int = 4
    intermediate_size: int = 4
    max_position_embeddings: int = 8
    causal: bool = True
    bos_token_id: int = 0
    pad_token_id: int = 1
    tie_word_embeddings: bool = False


class IdentityNorm(nn.Module):
    """gain * x / sqrt(mean(x^2) + eps) with eps = 2^100 and gain = 2^50: x itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), _GAIN))
        self.eps = _GAIN**2

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[Tensor, Tensor]:
    """softmax(q k^T scaling + mask) v, on [batch, head, position, d_head]; gives [batch, position, head, d_head]."""
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    pattern = scores.softmax(-1)
    return (pattern @ value).transpose(1, 2).contiguous(), pattern


class RaspAttention(nn.Module):
    def __init__(self, config: RaspConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.num_key_value_groups = 1
        self.scaling = 1.0  # the coldness is in the queries
        self.is_causal = config.causal
        inner = config.num_attention_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, inner, bias=True)
        self.k_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.o_proj = nn.Linear(inner, config.hidden_size, bias=False)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query = self.q_proj(hidden_states).view(shape).transpose(1, 2)
        key = self.k_proj(hidden_states).view(shape).transpose(1, 2)
        value = self.v_proj(hidden_states).view(shape).transpose(1, 2)
        attend: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        z, pattern = attend(
            self, query, key, value, attention_mask, dropout=0.0, scaling=self.scaling, is_causal=self.is_causal
        )
        return self.o_proj(z.reshape(*hidden_states.shape[:-1], -1).contiguous()), pattern


class RaspMLP(nn.Module):
    def __init__(self, config: RaspConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=True)
        self.act_fn = nn.ReLU()
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(self.act_fn(self.up_proj(x)))
        return out


class RaspLayer(nn.Module):
    def __init__(self, config: RaspConfig, layer_idx: int) -> None:
        super().__init__()
        self.self_attn = RaspAttention(config, layer_idx)
        self.mlp = RaspMLP(config)
        self.input_layernorm = IdentityNorm(config.hidden_size)
        self.post_attention_layernorm = IdentityNorm(config.hidden_size)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        attended, _ = self.self_attn(self.input_layernorm(hidden_states), attention_mask)
        hidden_states = hidden_states + attended
        out: Tensor = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))
        return out


class RaspPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    config_class = RaspConfig
    base_model_prefix = "model"
    _no_split_modules = ["RaspLayer"]
    _supports_sdpa = True
    _supports_attention_backend = True

    def _init_weights(self, module: nn.Module) -> None:
        """Weights of a fresh module: small and random, as a model to train (norms stay the identity)."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=module.weight.shape[-1] ** -0.5)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, IdentityNorm):
            nn.init.constant_(module.weight, _GAIN)


class RaspModel(RaspPreTrainedModel):
    def __init__(self, config: RaspConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList([RaspLayer(config, i) for i in range(config.num_hidden_layers)])
        self.norm = IdentityNorm(config.hidden_size)
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Tensor:
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        x = self.embed_tokens(input_ids) + self.embed_positions(position_ids)
        if self.config.causal:
            mask = create_causal_mask(self.config, x, attention_mask, past_key_values=None)
        else:
            mask = create_bidirectional_mask(self.config, x, attention_mask)
        for layer in self.layers:
            x = layer(x, mask)
        out: Tensor = self.norm(x)
        return out


class RaspForCausalLM(RaspPreTrainedModel):
    """Token ids [batch, position], BOS first, to logits [batch, position, vocab] of the output at each position."""

    def __init__(self, config: RaspConfig) -> None:
        super().__init__(config)
        self.model = RaspModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=True)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        use_cache: bool = False,
        return_dict: bool = True,
    ) -> CausalLMOutput:
        del use_cache, return_dict  # callers of any causal LM pass them; nothing is cached, and it is always a dict
        return CausalLMOutput(logits=self.lm_head(self.model(input_ids, attention_mask, position_ids)))


AutoConfig.register(MODEL_TYPE, RaspConfig, exist_ok=True)
AutoModelForCausalLM.register(RaspConfig, RaspForCausalLM, exist_ok=True)
