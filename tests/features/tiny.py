"""Tiny random models and dictionaries, no larger than the laws need."""

from __future__ import annotations

import torch
import transformers as hf

import cutaway as cw
from cutaway.features import Layer, Transcoders


def tiny_llama(layers=2, width=16, vocab=37, seed=0):
    torch.manual_seed(seed)
    config = hf.LlamaConfig(
        vocab_size=vocab, hidden_size=width, intermediate_size=24, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=False, bos_token_id=0,
    )  # fmt: skip
    module = hf.LlamaForCausalLM(config)
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim == 2:
                p.mul_(8)  # so that layers do something
    model = cw.load(module)
    model.name = "tiny"
    return model


def tiny_gpt2():
    torch.manual_seed(1)
    module = hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=37, n_embd=16, n_layer=2, n_head=2, n_positions=32))
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(4)
    return cw.load(module)


def random_transcoders(
    kind="plt", rule="jumprelu", layers=2, features=24, d=16, skip=False, seed=0, dtype=torch.float32
):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g).to(dtype)

    made = []
    for layer in range(layers):
        outputs = layers - layer if kind == "clt" else 1
        made.append(
            Layer(
                W_enc=normal(features, d), b_enc=normal(features), W_dec=normal(features, outputs, d), b_dec=normal(d),
                threshold=normal(features).abs() if rule == "jumprelu" else None,
                W_skip=normal(d, d) if skip else None,
            )
        )  # fmt: skip
    return Transcoders(kind=kind, rule=rule, layers=tuple(made), k=4 if rule == "topk" else None)
