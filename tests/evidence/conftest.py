"""Tiny random models, no larger than the laws need."""

from __future__ import annotations

import pytest
import torch
import transformers as hf

import cutaway as cw


@pytest.fixture(scope="session")
def llama():
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        vocab_size=61, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, tie_word_embeddings=False,
    )  # fmt: skip
    return cw.load(_stirred(hf.LlamaForCausalLM(config)))


@pytest.fixture(scope="session")
def gpt2():
    """Tied embeddings, learned positions, biases."""
    torch.manual_seed(1)
    config = hf.GPT2Config(vocab_size=61, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    return cw.load(_stirred(hf.GPT2LMHeadModel(config)))


def _stirred(module):
    """Moved off its initialisation, as training would: means and scales that no initialiser gives."""
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.mul_(1.5 + 0.1 * i).add_(0.02 * (i + 1)).add_(0.01 * torch.randn_like(p))
    return module
