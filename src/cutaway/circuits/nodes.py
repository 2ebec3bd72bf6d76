"""Whole heads and MLPs: ablated for real, through the model's sweeps, or estimated from gradients."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from cutaway.circuits.attribution import eap
from cutaway.circuits.graph import Graph
from cutaway.circuits.wires import Wires
from cutaway.model import sweep

Kind = Literal["noise", "mean", "zero"]


def activation_patching(wires: Wires, graph: Graph, task: Any, ablation: str = "resample") -> Tensor:
    """m - m(with one node ablated) for the input, every head and every MLP: [item, source, destination], the same for
    all edges of a node (Meng et al. 2022; Vig et al. 2020).

    A node's own output is replaced (heads at `z`). Under a norm after attention (Gemma 2) this also moves the norm's
    scale, which all edges of the head out at once would not. Made by `cutaway.sweep`; costs the blocks after the node.
    """
    how: Kind = "noise" if ablation == "resample" else "mean" if ablation == "mean" else "zero"

    def losses(at: str, each: tuple[str, ...]) -> Tensor:
        found = sweep(wires.model, task, at=at, each=each, how=how, null=None, progress=False)
        return found.clean - found.values  # [layer, head, item] or [layer, item]

    start, heads, mlps = losses("resid_pre.0", ()), losses("z.*", ("head",)), losses("mlp_out_post.*", ())
    parts = [start[0][None]]
    for layer in range(len(wires.layers)):
        parts += [heads[layer, : wires.layers[layer].n_heads], mlps[layer][None]]
    nodes = torch.cat(parts).T  # [item, source]
    return nodes[..., None].expand(-1, -1, len(graph.destinations))


def attribution_patching(wires: Wires, graph: Graph, task: Any, ablation: str = "resample") -> Tensor:
    """AtP (Nanda 2023): (clean_s - ablated_s) . d metric / d (what s writes), which by the chain rule is the sum of the
    node's EAP scores over all that reads it.  2F + 1B."""
    nodes = eap(wires, task, ablation).sum(-1)
    return nodes[..., None].expand(-1, -1, len(graph.destinations))


def hisp(wires: Wires, graph: Graph, task: Any, ablation: str = "resample") -> Tensor:
    """Head importance for pruning (Michel et al. 2019), |A_h . d metric / d A_h| of each item, normed by the l2 norm of
    a layer's mean importances; with resample or mean ablation A_h is clean less ablated, as in Conmy et al. 2023. A
    layer's MLP, which the paper has not, is normed beside its heads.  2F + 1B."""
    size = eap(wires, task, ablation).sum(-1).abs()  # [item, source]
    for layer in range(len(wires.layers)):
        inside = torch.tensor([of == layer for of in graph.layers])
        size[:, inside] /= size[:, inside].mean(0).norm().clamp(min=torch.finfo(size.dtype).tiny)
    size[:, 0] = size[:, 1:].max()  # the input is in every circuit of nodes
    return size[..., None].expand(-1, -1, len(graph.destinations))
