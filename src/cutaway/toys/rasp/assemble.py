"""Assembly: heads and neurons in a named residual stream become the weights of one transformer.

Heads and neurons that a layer has fewer of than another are zero. The output is read by the unembedding: of a
categorical output, gain times each value's coordinate; of a numerical output x, gain * (2 v x - v^2) / gap^2 for each
value v, which is greatest at the value nearest to x and at least `gain` above the next when x is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch

from cutaway.toys.rasp.compiler import Compiled
from cutaway.toys.rasp.craft import Array
from cutaway.toys.rasp.transformer import RaspConfig, RaspForCausalLM
from cutaway.toys.rasp.vocabulary import Vocabulary

GAIN = 10.0  # logits between the right answer and any other


@dataclass(frozen=True, eq=False)
class Assembled:
    """The model, and the orthogonal matrix [d_model, d_model] that turns named coordinates into the model's."""

    model: RaspForCausalLM
    rotation: Array


def assemble(
    compiled: Compiled,
    vocabulary: Vocabulary,
    *,
    dtype: torch.dtype = torch.float32,
    rotate: int | None = None,
) -> Assembled:
    """The transformer. `rotate`: a seed; the residual stream is turned by a random rotation, so that no variable lies
    along a coordinate."""
    plan, residual, length = compiled.plan, compiled.residual, compiled.length
    config = RaspConfig(
        vocab_size=len(vocabulary),
        hidden_size=residual.width,
        num_hidden_layers=plan.n_layers,
        num_attention_heads=plan.n_heads,
        head_dim=max((head.width for head in compiled.heads.values()), default=1),
        intermediate_size=max((len(mlp) for mlp in compiled.mlps.values()), default=1) or 1,
        max_position_embeddings=length + 1,
        causal=compiled.causal,
    )
    turn = np.eye(residual.width)
    if rotate is not None:
        turn = np.linalg.qr(np.random.default_rng(rotate).normal(size=turn.shape))[0]
    weights = _weights(compiled, vocabulary, config)
    for name, weight in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):  # writes: [d_model, …]
            weights[name] = turn @ weight
        elif weight.ndim == 2:  # reads and embeddings: […, d_model]
            weights[name] = weight @ turn.T
    model = RaspForCausalLM(config).to(dtype)
    state = {name: torch.tensor(weight, dtype=dtype) for name, weight in weights.items()}
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    assert all("norm" in name for name in missing.missing_keys)
    return Assembled(model.eval().requires_grad_(False), turn)


def _weights(compiled: Compiled, vocabulary: Vocabulary, config: RaspConfig) -> dict[str, Array]:
    """Every weight in the named basis, by its name in the state dict."""
    width, heads, d_head = config.hidden_size, config.num_attention_heads, config.head_dim
    weights: dict[str, Array] = {
        "model.embed_tokens.weight": token_embedding(compiled, vocabulary),
        "model.embed_positions.weight": position_embedding(compiled),
    }
    for layer in range(config.num_hidden_layers):
        q, k, v = (np.zeros((heads, d_head, width)) for _ in range(3))
        bias, out = np.zeros((heads, d_head)), np.zeros((width, heads, d_head))
        for component, head in compiled.heads.items():
            if component.layer == layer:
                h, n, m = component.head, len(head.query), len(head.value)
                q[h, :n], bias[h, :n], k[h, :n] = head.query, head.query_bias, head.key
                v[h, :m], out[:, h, :m] = head.value, head.out
        into, off, down = (np.zeros(shape) for shape in _mlp_shapes(config))
        for component, mlp in compiled.mlps.items():
            if component.layer == layer:
                into[: len(mlp)], off[: len(mlp)], down[:, : len(mlp)] = mlp.into, mlp.bias, mlp.out
        block = f"model.layers.{layer}"
        weights |= {
            f"{block}.self_attn.q_proj.weight": q.reshape(-1, width),
            f"{block}.self_attn.q_proj.bias": bias.reshape(-1),
            f"{block}.self_attn.k_proj.weight": k.reshape(-1, width),
            f"{block}.self_attn.v_proj.weight": v.reshape(-1, width),
            f"{block}.self_attn.o_proj.weight": out.reshape(width, -1),
            f"{block}.mlp.up_proj.weight": into,
            f"{block}.mlp.up_proj.bias": off,
            f"{block}.mlp.down_proj.weight": down,
        }
    matrix, bias = unembedding(compiled, vocabulary)
    return {**weights, "lm_head.weight": matrix, "lm_head.bias": bias}


def _mlp_shapes(config: RaspConfig) -> tuple[tuple[int, ...], ...]:
    n, width = config.intermediate_size, config.hidden_size
    return (n, width), (n,), (width, n)


def _named(compiled: Compiled, kind: str) -> list[str]:
    return [compiled.names[sop] for sop, at in compiled.plan.at.items() if at.kind == kind]


def token_embedding(compiled: Compiled, vocabulary: Vocabulary) -> Array:
    """[vocab, d_model]: BOS on its own direction, each input value on its own; the rest zero."""
    matrix = np.zeros((len(vocabulary), compiled.residual.width))
    matrix[0, 0] = 1.0
    for name in _named(compiled, "tokens"):
        space = compiled.residual.subspaces[name]
        for value in compiled.vocabulary:
            matrix[vocabulary.id(value), space.columns] = space.encode(value)
    return matrix


def position_embedding(compiled: Compiled) -> Array:
    """[positions, d_model]: index i at position i + 1; BOS has none."""
    matrix = np.zeros((compiled.length + 1, compiled.residual.width))
    for name in _named(compiled, "positions"):
        space = compiled.residual.subspaces[name]
        for index in range(compiled.length):
            matrix[index + 1, space.columns] = space.encode(index)
    return matrix


def unembedding(compiled: Compiled, vocabulary: Vocabulary) -> tuple[Array, Array]:
    """W_U [vocab, d_model] and its bias [vocab]."""
    name, found = compiled.names[compiled.output], compiled.values[compiled.output]
    space = compiled.residual.subspaces[name]
    matrix, bias = np.zeros((len(vocabulary), compiled.residual.width)), np.full(len(vocabulary), -GAIN)
    values = [Fraction(value) for value in found.values] if space.numerical else []
    gap = min((float(b - a) for a, b in pairwise(values)), default=1.0)
    for value in found.values:
        row = vocabulary.id(value)
        if space.numerical:
            number = float(Fraction(value))
            matrix[row, space.columns] = 2 * number * GAIN / gap**2
            bias[row] = -(number**2) * GAIN / gap**2
        else:
            matrix[row, space.columns] = GAIN * space.encode(value)
            bias[row] = 0.0
    if found.none:
        bias[vocabulary.id(None)] = GAIN / 2
    return matrix, bias
