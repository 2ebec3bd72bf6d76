"""A tiny random model with a random dictionary, for the laws of measuring and of evidence."""

from __future__ import annotations

import torch
import transformers as hf

import cutaway as cw
from cutaway.features.transcoders import Layer, Transcoders

N_LAYERS, D, F = 3, 16, 40
IDS = torch.tensor([[5, 9, 17, 3, 30, 9, 2]])


def build_model(name):
    torch.manual_seed(0)
    if name == "llama":
        config = hf.LlamaConfig(
            vocab_size=61, hidden_size=D, intermediate_size=24, num_hidden_layers=N_LAYERS, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=32, tie_word_embeddings=False,
        )  # fmt: skip
        module = hf.LlamaForCausalLM(config)
    else:
        config = hf.GPT2Config(vocab_size=61, n_embd=D, n_layer=N_LAYERS, n_head=2, n_positions=32)
        module = hf.GPT2LMHeadModel(config)
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim > 1:
                p.mul_(6)
    return cw.load(module)


def random_dictionary(kind, seed=0):
    g = torch.Generator().manual_seed(seed)
    layers = []
    for layer in range(N_LAYERS):
        outputs = N_LAYERS - layer if kind == "clt" else 1
        layers.append(Layer(
            W_enc=torch.randn(F, D, generator=g), b_enc=torch.randn(F, generator=g) - 3,
            W_dec=0.3 * torch.randn(F, outputs, D, generator=g), b_dec=0.1 * torch.randn(D, generator=g),
            threshold=torch.full((F,), 0.5),
        ))  # fmt: skip
    return Transcoders(kind=kind, rule="jumprelu", layers=tuple(layers))
