"""Tiny random models of the families, loaded once. Their weights are large enough that every part matters."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from cutaway.model import Model, load

VOCABULARY = 101
_ROTARY = {
    "num_hidden_layers": 3, "hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 3,
    "intermediate_size": 80, "max_position_embeddings": 64, "vocab_size": VOCABULARY,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
_PLAIN = {k: v for k, v in _ROTARY.items() if k != "num_key_value_heads"}
_GEMMA = dict(_ROTARY, head_dim=10, num_hidden_layers=4, sliding_window=4, query_pre_attn_scalar=17)
_GPT = {
    "n_layer": 3, "n_embd": 48, "n_head": 6, "n_positions": 64, "vocab_size": VOCABULARY,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", _GPT),
    "llama": ("LlamaConfig", _ROTARY),
    "gpt_neox": ("GPTNeoXConfig", _PLAIN),
    "gemma2": ("Gemma2Config", dict(_GEMMA, attn_logit_softcapping=2.0, final_logit_softcapping=3.0)),
    "qwen3": ("Qwen3Config", dict(_ROTARY, head_dim=10)),
    "mistral": ("MistralConfig", dict(_ROTARY, sliding_window=4)),
    "phi": ("PhiConfig", _ROTARY),
    "opt": ("OPTConfig", {"num_hidden_layers": 3, "hidden_size": 48, "num_attention_heads": 6, "ffn_dim": 80,
            "max_position_embeddings": 64, "word_embed_proj_dim": 48, "vocab_size": VOCABULARY}),
    "falcon": ("FalconConfig", {"num_hidden_layers": 3, "hidden_size": 48, "num_attention_heads": 6, "num_kv_heads": 3,
               "new_decoder_architecture": True, "max_position_embeddings": 64, "vocab_size": VOCABULARY}),
    "gemma3": ("Gemma3TextConfig", _GEMMA),
    "granite": ("GraniteConfig", dict(_ROTARY, residual_multiplier=0.3, logits_scaling=2.0, embedding_multiplier=3.0)),
    "olmo2": ("Olmo2Config", _ROTARY),
    "phi3": ("Phi3Config", _ROTARY),
    "bloom": ("BloomConfig", {"n_layer": 3, "hidden_size": 48, "n_head": 6, "vocab_size": VOCABULARY}),
    "qwen3_moe": ("Qwen3MoeConfig", dict(_ROTARY, head_dim=10, moe_intermediate_size=32, num_experts=4,
                  num_experts_per_tok=2)),
}  # fmt: skip
REQUIRED = ("gpt2", "llama", "gpt_neox", "gemma2", "qwen3")
OPEN = ("gpt2", "llama", "gpt_neox", "gemma2", "qwen3", "mistral", "phi", "opt")  # attention patterns can be had


def module(family: str, **changes: Any) -> Any:
    """A fresh random Hugging Face module of a family."""
    name, settings = FAMILIES[family]
    torch.manual_seed(sum(map(ord, family)))
    config = getattr(transformers, name)(**{**settings, **changes})
    hf = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.12)
    return hf.eval()


@functools.cache
def model(family: str) -> Model:
    return load(module(family))


def ids(rows: int = 2, positions: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (rows, positions), generator=torch.Generator().manual_seed(seed))


def shared_data() -> Path:
    folder = Path(__file__).parents[2] / "../shared/data"
    if not folder.is_dir():
        pytest.skip("the third-party test data is not here")
    return folder


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> bool:
    """Within `tolerance` of the largest entry."""
    return float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))
