"""Whole heads and MLPs, or with spans what each writes at some positions: ablated for real, or estimated from
gradients. Scores are [item, source, destination], the same for all edges of a node."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from cutaway.circuits.attribution import eap
from cutaway.circuits.graph import Graph
from cutaway.circuits.nodewise import measure_nodes
from cutaway.circuits.spans import ends_apart
from cutaway.circuits.wires import Wires
from cutaway.core import InputError
from cutaway.model import sweep

Kind = Literal["noise", "mean", "zero"]


def activation_patching(wires: Wires, graph: Graph, task: Any, ablation: str = "resample") -> Tensor:
    """m - m(with one node ablated) for the input, every head and every MLP (Meng et al. 2022; Vig et al. 2020).

    A node's own output is replaced (heads at `z`). Under a norm after attention (Gemma 2) this also moves the norm's
    scale, which all edges of the head out at once would not. Made by `cutaway.sweep`; costs the blocks after the node.
    With spans, whose positions differ from item to item, and with neurons apart, by `measure_nodes` (all edges out): a
    forward a node.
    """
    if graph.spans or graph.neurons or ablation == "optimal":
        _settled(task, graph)
        masks = torch.cat([torch.zeros(1, len(graph.nodes)), torch.eye(len(graph.nodes))]) == 0
        values = measure_nodes(wires, task, masks, ablation, graph=graph)
        return _to_edges(graph, (values[:1] - values[1:]).T)
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
    return _to_edges(graph, _estimated(wires, graph, task, ablation))


def _estimated(wires: Wires, graph: Graph, task: Any, ablation: str) -> Tensor:
    """[item, node]"""
    _settled(task, graph)
    scores = graph.gathered(eap(wires, task, ablation, spans=graph.spans))[..., graph.exists]
    index = graph.node_of[graph.exists]
    return scores.new_zeros(len(scores), len(graph.nodes)).index_add_(-1, index, scores)


def _to_edges(graph: Graph, nodes: Tensor) -> Tensor:
    """[item, node] -> [item, source, destination]."""
    return torch.where(graph.exists, nodes[:, graph.node_of.clamp(min=0)], 0.0)


def _settled(task: Any, graph: Graph) -> None:
    """Raises InputError where the logits are read in another span in some items than in others."""
    if bool((apart := ends_apart(task, graph)).any()):
        raise InputError(
            f"{task.name}: in {int(apart.sum())} of {len(task)} items a named position is the end itself, where the "
            "logits are read; name 'end' as the last of the positions, so that it is a span of its own."
        )


def hisp(wires: Wires, graph: Graph, task: Any, ablation: str = "resample") -> Tensor:
    """Head importance for pruning (Michel et al. 2019), |A_h . d metric / d A_h| of each item, normed by the l2 norm of
    a layer's mean importances; with resample or mean ablation A_h is clean less ablated, as in Conmy et al. 2023. A
    layer's MLP, which the paper has not, is normed beside its heads.  2F + 1B."""
    size = _estimated(wires, graph, task, ablation).abs()
    layers = [graph.layers[s] for s in graph.source_of.tolist()]
    for layer in range(len(wires.layers)):
        inside = torch.tensor([of == layer for of in layers])
        size[:, inside] /= size[:, inside].mean(0).norm().clamp(min=torch.finfo(size.dtype).tiny)
    start = graph.source_of == 0
    size[:, start] = size[:, ~start].max()  # the input is in every circuit of nodes
    return _to_edges(graph, size)
