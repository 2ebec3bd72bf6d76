"""Positions of a task as spans: named tokens, each a span, and "rest" for all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cutaway.circuits.graph import END, Graph
from cutaway.core import InputError, UnknownName

REST = "rest"


def spans_of(task: Any, positions: Sequence[str] | str) -> tuple[str, ...]:
    """The spans of named positions: these and the rest. "named": every position that the task names; "each": every
    column, for items of one length without padding. Raises UnknownName, InputError."""
    if positions == "each":
        if not bool(task.clean.mask.all()):
            raise InputError(
                f"{task.name} has prompts of several lengths, whose columns do not correspond; name spans."
            )
        return tuple(str(column) for column in range(task.clean.ids.shape[1]))
    names = tuple(task.positions) if positions == "named" else (positions,) if isinstance(positions, str) else positions
    for name in names:
        if name not in task.positions:
            raise UnknownName(f"position of {task.name}", name, (*task.positions, "named", "each"))
    return (*dict.fromkeys(names), REST)


def span_labels(task: Any, spans: Sequence[str]) -> Tensor | None:
    """[item, position] the number of the span that each column belongs to; None without spans. Where two names are the
    same token, the later of `spans` has it."""
    if not spans:
        return None
    shape = task.clean.ids.shape
    if REST not in spans:
        return torch.arange(shape[1]).expand(shape)
    found = torch.full(shape, spans.index(REST))
    starts = torch.tensor(task.clean.layout.starts)
    for number, name in enumerate(spans):
        if name != REST:
            if name not in task.positions:
                raise UnknownName(f"position of {task.name}", name, task.positions)
            found[torch.arange(shape[0]), starts + torch.as_tensor(task.positions[name]).cpu()] = number
    return found


def ends_apart(task: Any, graph: Graph) -> Tensor:
    """[item] True where the end lies in another span than the one in which the graph's nodes have the logits (another
    name is the same token): there what a node is differs from item to item."""
    labels = span_labels(task, graph.spans)
    if labels is None:
        return torch.zeros(len(task), dtype=torch.bool)
    at = torch.tensor(task.clean.layout.starts) + torch.as_tensor(task.positions[END]).cpu()
    return labels[torch.arange(len(at)), at] != graph.span_of[-1]
