"""The recipe: a Llama of two layers whose MLPs write exactly nothing, on the small world's text.

Each MLP has one neuron, whose output weights are zero and never trained: so the model is attention-only while it stays
a standard architecture that every tool reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class AttentionOnlyRecipe:
    """Rates constant after the warm-up. With AdamW alone, or batches of 24 rows, no induction in as many steps."""

    layers: int = 2
    d_model: int = 128
    heads: int = 8
    context: int = 128
    steps: int = 1600
    batch_rows: int = 64
    matrix_rate: float = 1e-2  # Muon, the attention's matrices (rate in AdamW's units)
    other_rate: float = 3e-3  # AdamW: embedding, head, norms
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: int = 50
    checkpoints: int = 70
    seed: int = 0

    def checkpoint_steps(self) -> list[int]:
        """0, the last, and steps evenly spaced in the logarithm; past 100 no two are further apart than 1/50 of all."""
        log = np.geomspace(1, self.steps, self.checkpoints)
        even = np.arange(100, self.steps, max(1, self.steps // 50))
        return sorted({0, self.steps, *np.round(log).astype(int).tolist(), *even.tolist()})


def attention_only(recipe: AttentionOnlyRecipe | None = None) -> Any:
    """An untrained model, the same for the same seed: a LlamaForCausalLM whose MLPs write nothing."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from cutaway.tasks.small_world.vocabulary import BOS, PAD_TOKEN, token_ids

    recipe = recipe or AttentionOnlyRecipe()
    ids = token_ids()
    config = LlamaConfig(
        vocab_size=len(ids),
        hidden_size=recipe.d_model,
        intermediate_size=1,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=False,
        bos_token_id=ids[BOS],
        eos_token_id=ids[BOS],
        pad_token_id=ids[PAD_TOKEN],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = LlamaForCausalLM(config).float()
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
        layer.mlp.requires_grad_(False)
    return model


def train_attention_only(
    out: str | Path, recipe: AttentionOnlyRecipe | None = None, on: Callable[[str], None] = lambda message: None
) -> Path:
    """Train into `out`/step-000000 …, each a Hugging Face folder with its tokenizer; done once, it is left as it is.

    Cost: 0.45 s a step on one core, 12 minutes in all.
    """
    import torch

    from cutaway.organisms.almanac.text import token_rows
    from cutaway.organisms.almanac.tokenizer import build_tokenizer
    from cutaway.organisms.almanac.train import loss_of, make_optimisers, save_folder
    from cutaway.organisms.short_training import train_short

    recipe = recipe or AttentionOnlyRecipe()
    rows = torch.from_numpy(token_rows(recipe.steps * recipe.batch_rows, recipe.seed).astype(np.int64))
    tokenizer, model = build_tokenizer(), attention_only(recipe)
    model.set_attn_implementation("eager")  # faster at 128 tokens
    model.train()
    return train_short(
        Path(out), recipe, list(make_optimisers(model, recipe).values()),
        lambda step: loss_of(model, rows[step * recipe.batch_rows : (step + 1) * recipe.batch_rows]),
        lambda folder: save_folder(model, tokenizer, folder, half=True), set(recipe.checkpoint_steps()),
        clip=1.0, on=on,
    )  # fmt: skip
