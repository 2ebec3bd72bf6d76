"""Networks small enough to check by hand: an MLP that learned hierarchical equality, tiny random language models."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import cutaway as cw
from cutaway.abstraction import CausalModel, Training

SHORT = Training(steps=8, batch=16)


def addition(**more: Any) -> CausalModel:
    return CausalModel(
        {"a": range(100), "b": range(100)},
        {
            "units": lambda a, b: (a + b) % 10,
            "carry": lambda a, b: a % 10 + b % 10 >= 10,
            "tens": lambda a, b, carry: a // 10 + b // 10 + carry,
            "sum": lambda tens, units: 10 * tens + units,
        },
        name="addition",
        domains={"sum": range(199)},
        prompt=lambda v: f"{v['a']} + {v['b']} =",
        answer=str,
        positions={"a": 1, "b": 3},
        **more,
    )


def copying(vocab: int, length: int = 5) -> CausalModel:
    """On ids: the output is token `first`, whatever a network says; enough for laws about runs."""
    return CausalModel(
        {"first": range(4, vocab), "other": range(4, vocab)},
        {"kept": lambda first: first, "said": lambda kept, other: kept},
        name="copying",
        prompt=lambda v: torch.tensor([1, v["first"], v["other"], 2, 3][:length]),
        answer=int,
        positions={"first": 1, "other": 2},
    )


@pytest.fixture(scope="session")
def almanac() -> Any:
    return cw.load("almanac")


def family(kind: str) -> Any:
    """A random network of two blocks and 24 tokens: GPT-2, a Llama with grouped queries, NeoX with parallel
    blocks, Mixtral with experts."""
    import transformers as t

    torch.manual_seed(0)
    if kind == "gpt2":
        config: Any = t.GPT2Config(
            vocab_size=24,
            n_embd=16,
            n_layer=2,
            n_head=2,
            n_positions=16,
            bos_token_id=0,
            eos_token_id=0,
            initializer_range=0.3,
        )
        return cw.load(t.GPT2LMHeadModel(config))
    sizes: dict[str, Any] = {
        "vocab_size": 24, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    if kind == "llama":
        return cw.load(t.LlamaForCausalLM(t.LlamaConfig(**sizes, num_key_value_heads=2)))
    if kind == "mixtral":
        experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2}
        return cw.load(t.MixtralForCausalLM(t.MixtralConfig(**sizes, **experts)))
    return cw.load(t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**sizes, use_parallel_residual=True)))


FAMILIES = ("gpt2", "llama", "mixtral", "neox")
