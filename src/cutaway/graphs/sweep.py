"""All direct effects on a batch of targets, in one sweep from the top layer down.

A target reads the stream with a vector g at one position. Its gradient G [position, d] starts as g there and is
carried down through the frozen attention of each layer; on the way it is multiplied with every vector that is written
into the stream: edge(s -> t) = sum over the layers that s writes to of G . (what s writes). No autograd, and no
position above the target's: attention is causal.

Cost for n targets at position p, per layer below theirs: 2 products of [(p + 1) n, d] with [d, heads * d_head], one
with the pattern, and one of [n, d] with the written vectors of each position.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.graphs.active import Sources
from cutaway.model.frozen import FrozenPath


@dataclass(frozen=True)
class Batch:
    """Targets at one position, sorted by the layer that they read from the top down; logits read layer L."""

    position: int
    layer: Tensor  # [n], descending
    gradient: Tensor  # [n, d], at the stream that the layer's MLP (or the final norm) reads


@dataclass(frozen=True)
class Effects:
    """Direct effects on the n targets of a batch at position p, of all that lies at positions 0 … p."""

    features: Tensor  # [n, A']: the first A' active features, those at positions up to p
    errors: Tensor  # [n, p + 1, L]
    embedding: Tensor  # [n, p + 1]
    position_embedding: Tensor | None  # [n, p + 1]
    attn_bias: Tensor  # [n, L], summed over positions
    mlp_bias: Tensor  # [n, L]


@torch.no_grad()
def sweep(path: FrozenPath, sources: Sources, batch: Batch) -> Effects:
    """Direct effects of every source on every target of `batch`. Holds 4 (p + 1) n d values, and n rows of effects."""
    p, n, d = batch.position, len(batch.layer), path.d_model
    n_sources = int((sources.features.position <= p).sum())
    new = batch.gradient.new_zeros
    features, errors = new(n, n_sources), new(n, p + 1, path.n_layers)
    attn_bias, mlp_bias = new(n, path.n_layers), new(n, path.n_layers)
    per_layer = torch.bincount(batch.layer, minlength=path.n_layers + 1).tolist()

    given = [path.embedding] if path.position_embedding is None else [path.embedding, path.position_embedding]
    # What the stream starts with, [position, 1 or 2, d], and its effects.
    origin = torch.stack([table[: p + 1] for table in given], dim=1)
    ends = new(p + 1, n, len(given))
    spread = new(p + 1, 0, d)  # gradients that attention has carried to earlier positions, [position, targets, d]
    fresh = batch.gradient[: per_layer[path.n_layers]]  # gradients still at position p alone, [targets, d]
    started = len(fresh)
    for layer in range(path.n_layers - 1, -1, -1):
        here, skip, old = path.layers[layer], sources.skips[layer], spread.shape[1]
        writes = sources.writes[layer]
        # What is written at this layer's MLP output.
        for q in range(p + 1):
            start, end = writes.starts[q], writes.starts[q + 1]
            if start < end:
                at = slice(writes.first[q], writes.first[q] + end - start)
                if old:
                    features[:old, at].addmm_(spread[q], writes.vectors[start:end].T)
                if q == p and len(fresh):
                    features[old:started, at].addmm_(fresh, writes.vectors[start:end].T)
        both = torch.stack([sources.errors[layer, : p + 1], sources.mlp_bias[layer, : p + 1]], dim=-1)  # [p + 1, d, 2]
        if old:
            written = spread @ both
            errors[:old, :, layer] = written[..., 0].T
            mlp_bias[:old, layer] = written[..., 1].sum(0)
        if len(fresh):
            written = fresh @ both[p]
            errors[old:started, p, layer] = written[:, 0]
            mlp_bias[old:started, layer] = written[:, 1]
        # Through a skip connection to what this layer's MLP reads.
        skipped = skipped_fresh = None
        if skip is not None:
            skipped, skipped_fresh = skip.transpose(spread), skip.transpose_at(fresh, p)
        if not here.parallel:
            if skipped is not None and skipped_fresh is not None:
                spread, fresh = spread + skipped, fresh + skipped_fresh
            fresh = torch.cat([fresh, batch.gradient[started : started + per_layer[layer]]])
            started += per_layer[layer]
        # Through attention.
        bias = here.attn_bias[: p + 1]
        if old:
            attn_bias[:old, layer] = torch.einsum("qnd,qd->n", spread, bias)
        attn_bias[old:started, layer] = fresh @ bias[p]
        carried = here.attend_transpose_from(fresh, p)
        carried[p] += fresh
        if here.parallel and skipped is not None and skipped_fresh is not None:
            carried[p] += skipped_fresh
        if layer == 0:
            # Nothing but the embeddings lies below: the last product back to the stream's width is not needed.
            if old:
                ends[:, :old] = spread @ origin.transpose(1, 2) + here.attend_transpose_onto(spread, origin)
                if here.parallel and skipped is not None:
                    ends[:, :old] += skipped @ origin.transpose(1, 2)
            ends[:, old:started] = carried @ origin.transpose(1, 2)
        else:
            below = spread + here.attend_transpose(spread) if old else spread
            if here.parallel and skipped is not None:
                below += skipped
            spread = torch.cat([below, carried], dim=1) if old else carried
        fresh = fresh[:0]
        if here.parallel:
            fresh = batch.gradient[started : started + per_layer[layer]]
            started += per_layer[layer]

    if len(fresh):  # parallel blocks: what the first layer's MLP reads
        ends[p, n - len(fresh) :] = fresh @ origin[p].T
    embedding, *more = ends.permute(2, 1, 0).contiguous()
    position_embedding = more[0] if more else None
    return Effects(features, errors, embedding, position_embedding, attn_bias, mlp_bias)
