"""Five families that between them have grouped heads, parallel blocks, norms on both sides, gates and experts."""

from __future__ import annotations

import functools
from typing import Any

import torch

import cutaway.model as cw
from cutaway.model.families import tiny

FIVE = ("gpt2", "llama", "gpt_neox", "gemma2", "mixtral")


@functools.cache
def five(family: str) -> cw.Model:
    return cw.load(tiny(family))


@functools.cache
def double(family: str) -> cw.Model:
    """In float64; experts in plain operations, for the fused kernel takes no float64."""
    hf: Any = tiny(family).double()
    if hasattr(hf.config, "_experts_implementation"):
        hf.config._experts_implementation = "eager"
    return cw.load(hf)


class Sparse:
    """A small dictionary with features of its own and a bias, which reconstructs badly."""

    def __init__(self, width: int = 48, n_features: int = 20, seed: int = 2, dtype: Any = torch.float32) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.n_features = n_features
        self.W_enc = (torch.randn(width, n_features, generator=generator) * 0.2).to(dtype)
        self.W_dec = (torch.randn(n_features, width, generator=generator) * 0.2).to(dtype)
        self.b_dec = torch.randn(width, generator=generator).to(dtype)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.W_enc).relu()

    def decode(self, a: torch.Tensor) -> torch.Tensor:
        return a @ self.W_dec + self.b_dec
