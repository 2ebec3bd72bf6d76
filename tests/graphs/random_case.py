"""Tiny random models in float64 with random dictionaries of every kind: laws hold there to rounding."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from model.families import module

import cutaway as cw
from cutaway.graphs import targets
from cutaway.graphs.build import build
from cutaway.model.frozen import frozen_path

FAMILIES = ("gpt2", "llama", "gpt_neox", "gemma2", "qwen3")
IDS = torch.tensor([7, 3, 91, 40, 3, 55, 12])
F = 30


@dataclass(frozen=True, eq=False)
class RandomTranscoders:
    """A transcoder set of random weights; `skip` adds a skip connection. JumpReLU at a fixed threshold."""

    kind: str
    n_layers: int
    d_in: int
    d_out: int
    with_skip: bool = False
    input_name: str = "mlp_in"
    output_name: str = "mlp_out"
    n_features: int = F
    threshold: float = 4.0

    def _random(self, *shape, seed):
        return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    @functools.cached_property
    def W_enc(self):
        return [self._random(F, self.d_in, seed=layer) for layer in range(self.n_layers)]

    @functools.cached_property
    def b_enc(self):
        return [self._random(F, seed=100 + layer) for layer in range(self.n_layers)]

    @functools.cached_property
    def b_dec(self):
        return [self._random(self.d_out, seed=200 + layer) for layer in range(self.n_layers)]

    def input_point(self, layer):
        return f"{self.input_name}.{layer}"

    def output_point(self, layer):
        return f"{self.output_name}.{layer}"

    def writes(self, layer):
        return (layer,) if self.kind == "plt" else tuple(range(layer, self.n_layers))

    def pre_activations(self, layer, x):
        return x.double() @ self.W_enc[layer].T + self.b_enc[layer]

    def activations(self, layer, x):
        pre = self.pre_activations(layer, x)
        return torch.where(pre > self.threshold, pre, torch.zeros_like(pre))

    def encoder_rows(self, layer, features):
        return self.W_enc[layer][features]

    def encoder_bias(self, layer, features):
        return self.b_enc[layer][features]

    def decoder_rows(self, layer, features, to):
        return 0.2 * self._random(F, self.d_out, seed=1000 + 50 * layer + to)[features]

    def output_bias(self, layer):
        return self.b_dec[layer]

    def skip(self, layer):
        return 0.1 * self._random(self.d_out, self.d_in, seed=500 + layer) if self.with_skip else None


@functools.cache
def model(family):
    hf = module(family)
    return cw.load(hf if family.endswith("_moe") else hf.double())  # experts compute in no double


@functools.cache
def path(family, input_point="mlp_in", output_point="mlp_out"):
    return frozen_path(model(family), IDS, input_point, output_point)


def dictionary(family, kind, with_skip=False, input_point="mlp_in", output_point="mlp_out"):
    facts = model(family).facts
    return RandomTranscoders(kind, facts.n_layers, facts.d_model, facts.d_model, with_skip, input_point, output_point)


@functools.cache
def built(family, kind, with_skip=False, input_point="mlp_in", output_point="mlp_out"):
    here = path(family, input_point, output_point)
    return build(here, dictionary(family, kind, with_skip, input_point, output_point), targets.likely(here))
