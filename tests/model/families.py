"""Tiny random models of the families, loaded once. Their weights are large enough that every part matters."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from cutaway.model import Model, load
from cutaway.model.families import ALL, CAUSAL, OTHERS, VOCABULARY, tiny
from cutaway.model.tokens import Batch

FAMILIES = tuple(CAUSAL)  # causal language models
EVERY = tuple(ALL)  # with encoders, encoder-decoders and vision towers
PIXELS = ("clip_vision", "siglip_vision", "vit", "dinov2", "dinov3")
READING_SOURCE = ("t5", "t5_gated")
ENCODERS = tuple(name for name in OTHERS if name not in (*PIXELS, *READING_SOURCE))
POST_NORM = ("bert", "roberta", "electra", "distilbert")
REQUIRED = ("gpt2", "llama", "gpt_neox", "gemma2", "qwen3")
# Attention that is computed inside the family's own forward, not through the attention registry.
OWN_ATTENTION = ("gpt_neo", "gptj", "bloom", "falcon", "falcon_old", "falcon_alibi")
OPEN = ("gpt2", "llama", "gpt_neox", "gemma2", "qwen3", "mistral", "phi", "opt")  # tested for attention's parts


def module(family: str, **changes: Any) -> Any:
    """A fresh random Hugging Face module of a family."""
    return tiny(family, **changes)


@functools.cache
def model(family: str) -> Model:
    return load(module(family))


def ids(rows: int = 2, positions: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (rows, positions), generator=torch.Generator().manual_seed(seed))


def images(rows: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def prompt(family: str, rows: int = 2, seed: int = 0) -> Batch:
    """What a family reads: ids, pixels, or a source and the tokens that follow it."""
    if family in PIXELS:
        return model(family).batch(images(rows, seed))
    source = ids(rows, 7, seed + 100) if family in READING_SOURCE else None
    return model(family).batch(ids(rows, seed=seed), source=source)


def shared_data() -> Path:
    folder = Path(__file__).parents[2] / "../shared/data"
    if not folder.is_dir():
        pytest.skip("the third-party test data is not here")
    return folder


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> bool:
    """Within `tolerance` of the largest entry."""
    return float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))
