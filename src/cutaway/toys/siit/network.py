"""The network to be trained: fresh weights, and which of its heads and MLPs stands for which of the program's.

It is of the class that compiled programs use, wider and with more heads than the program needs. The program's head h of
layer l is its head h of layer l, the program's MLP l its MLP l. All other heads and MLPs are off the circuit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.model.taps import Tap, entering, leaving, tapped
from cutaway.toys.rasp import CompiledProgram
from cutaway.toys.rasp.transformer import RaspConfig, RaspForCausalLM

Change = Callable[[str, Tensor], Tensor]  # (node, its output [row, position, width]) -> the output to go on with


@dataclass(frozen=True, eq=False)
class Network:
    """A network with the names of its nodes, as circuits are written (`a0.h1`, `m0`)."""

    model: RaspForCausalLM
    circuit: tuple[str, ...]  # nodes that stand for a component of the program
    others: tuple[str, ...]

    def forward(self, ids: Tensor, change: Change | None = None) -> Tensor:
        """Logits [row, position, vocab]; every node's output goes through `change` (heads before W_O)."""
        if change is None:
            logits: Tensor = self.model(ids).logits
            return logits
        with _changed(self.model, change):
            logits = self.model(ids).logits
        return logits

    def outputs(self, ids: Tensor) -> dict[str, Tensor]:
        """Every node's output on `ids`, attached to autograd. One forward."""
        found: dict[str, Tensor] = {}

        def note(node: str, x: Tensor) -> Tensor:
            found[node] = x
            return x

        self.forward(ids, note)
        return found


def fresh(compiled: CompiledProgram, *, d_model: int = 64, heads: int = 4, seed: int = 0) -> Network:
    """A network of random weights for a compiled program: as many layers, at least one head more, MLPs of 2 d_model."""
    own = compiled.model.config
    heads = max(heads, own.num_attention_heads + 1)
    config = RaspConfig(
        vocab_size=own.vocab_size,
        hidden_size=d_model,
        num_hidden_layers=own.num_hidden_layers,
        num_attention_heads=heads,
        head_dim=max(8, d_model // heads),
        intermediate_size=2 * d_model,
        max_position_embeddings=own.max_position_embeddings,
        causal=own.causal,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RaspForCausalLM(config)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("norm" not in name)
    nodes = [f"a{layer}.h{head}" for layer in range(own.num_hidden_layers) for head in range(heads)]
    nodes += [f"m{layer}" for layer in range(own.num_hidden_layers)]
    circuit = tuple(component.name for component in compiled.compiled.plan.components if component.layer >= 0)
    return Network(model, circuit, tuple(node for node in nodes if node not in circuit))


@contextmanager
def _changed(model: RaspForCausalLM, change: Change) -> Iterator[None]:
    """Every head's z and every MLP's output goes through `change` while inside."""
    heads = model.config.num_attention_heads
    taps: list[Tap] = []
    layers: Any = model.model.layers
    for number, layer in enumerate(layers):

        def on_z(z: Tensor, at: int = number) -> Tensor:
            return torch.cat([change(f"a{at}.h{h}", part) for h, part in enumerate(z.chunk(heads, dim=-1))], -1)

        def on_mlp(y: Tensor, at: int = number) -> Tensor:
            return change(f"m{at}", y)

        taps += [entering(layer.self_attn.o_proj, on_z), leaving(layer.mlp, on_mlp)]
    with tapped(taps):
        yield
