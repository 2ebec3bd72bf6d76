from __future__ import annotations

import pytest
import torch

import cutaway as cw


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def almanac() -> cw.Model:
    return cw.load("almanac")


@pytest.fixture(scope="session")
def untrained() -> cw.Model:
    """A tiny random Llama with a tokenizer of words and digits."""
    from tasks.tokenizers import tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer("digits")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    return cw.load(LlamaForCausalLM(config), tokenizer=words)
