"""What every source writes in a run, in lean form; and what it writes when it is ablated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from cutaway.circuits.wires import Wires, rows_of
from cutaway.core import InputError, UnknownName

Ablation = Literal["resample", "mean", "zero", "optimal"]
ABLATIONS: tuple[Ablation, ...] = get_args(Ablation)


@dataclass(frozen=True, eq=False)
class Senders:
    """The messages of one run: `start` [batch, position, d] enters the first block; `u` of each layer's heads [batch,
    position, head, c], whose messages are W_O' u; `mlp` of each layer [batch, position, d], and of it `neurons` [batch,
    position, n], those that are sources of their own (n = 0 where none is).

    Bytes: (1 + layers) d_model + layers * heads * c floats a token; not heads * d_model.
    """

    start: Tensor
    u: tuple[Tensor, ...]
    mlp: tuple[Tensor, ...]
    neurons: tuple[Tensor, ...]

    def map(self, change: Callable[[Tensor], Tensor]) -> Senders:
        return Senders(change(self.start), *(tuple(map(change, part)) for part in (self.u, self.mlp, self.neurons)))

    def join(self, other: Senders, how: Callable[[Tensor, Tensor], Tensor]) -> Senders:
        return Senders(
            how(self.start, other.start),
            tuple(how(a, b) for a, b in zip(self.u, other.u)),
            tuple(how(a, b) for a, b in zip(self.mlp, other.mlp)),
            tuple(how(a, b) for a, b in zip(self.neurons, other.neurons)),
        )

    def take(self, rows: Tensor) -> Senders:
        return self.map(lambda x: x[rows.to(x.device)])

    def where(self, inside: Tensor) -> Senders:
        """Zero but at the positions `inside` [batch, position]."""
        return self.map(lambda x: x * inside.reshape(*inside.shape, *[1] * (x.ndim - 2)).to(x))

    def __sub__(self, other: Senders) -> Senders:
        return self.join(other, torch.sub)

    def streams(self, wires: Wires) -> list[Tensor]:
        """The residual stream [batch, position, d] that these messages make where each layer's attention reads it and
        where its MLP does, in turn, then at the end: 2 layers + 1 of them."""
        x, found = self.start, []
        for layer, u, mlp in zip(wires.layers, self.u, self.mlp):
            found.append(x)
            middle = x + torch.einsum("bphc,hcd->bpd", u, layer.w_out) + layer.constant
            found.append(x if wires.parallel else middle)
            x = middle + mlp
        return [*found, x]

    def messages(self, wires: Wires) -> Tensor:
        """Every source's message by itself, [batch, source, position, d]."""
        parts = [self.start[:, None]]
        for layer, u, mlp, v in zip(wires.layers, self.u, self.mlp, self.neurons):
            parts += [layer.messages(u), layer.mlp_messages(mlp, v)]
        return torch.cat(parts, 1)


def record(wires: Wires, batch: Any) -> Senders:
    """What every source writes on these prompts. One forward."""
    layers = range(len(wires.layers))
    names = ["resid_pre.0", *(f"z.{i}" for i in layers), *(f"mlp_out_post.{i}" for i in layers)]
    names += [f"mlp_act.{i}" for i, layer in enumerate(wires.layers) if layer.neurons is not None]
    return of_run(wires, wires.model.run(batch, read=names, logits=False))


def of_run(wires: Wires, run: Any) -> Senders:
    """The messages of a run in which what writes them was read."""
    u, mlp, neurons = [], [], []
    for i, layer in enumerate(wires.layers):
        u.append(layer.scaled(run[f"z.{i}"]))
        mlp.append(run[f"mlp_out_post.{i}"])
        neurons.append(none_of(mlp[i]) if layer.neurons is None else layer.neurons.scaled(run[f"mlp_act.{i}"]))
    return Senders(run["resid_pre.0"], tuple(u), tuple(mlp), tuple(neurons))


def none_of(mlp: Tensor) -> Tensor:
    """The neurons of an MLP that has none apart: [batch, position, 0]."""
    return mlp[..., :0]


def ablated(wires: Wires, task: Any, kind: str, tokens: int = 2048) -> Callable[[Tensor], Senders]:
    """rows [m] of a task -> what every source writes there when ablated.

    resample  what it writes on the item's own counterfactual (one forward each time it is asked)
    mean      its mean over the task's counterfactuals, at each position, within the item's template (Wang et al. 2022)
    zero      nothing; the biases of W_O and of norms stay, being no source's
    optimal   the constant that hurts the least, trained (Li and Janson 2024, see optimal.py): on the first items of a
              task that it is asked for with these wires, and kept for others of that task

    Raises UnknownName; InputError for a task without counterfactuals.
    """
    if kind not in ABLATIONS:
        raise UnknownName("ablation", kind, ABLATIONS)
    if kind == "optimal":
        return _optimal(wires, task)
    if kind == "zero":
        return lambda rows: record(wires, rows_of(wires.model, task.clean, rows)).map(torch.zeros_like)
    if task.counterfactual is None:
        raise InputError(f"{kind} ablation takes values from counterfactual prompts, and {task.name} has none.")
    if kind == "resample":
        return lambda rows: record(wires, rows_of(wires.model, task.counterfactual, rows))
    return _means(wires, task, tokens)


def _optimal(wires: Wires, task: Any) -> Callable[[Tensor], Senders]:
    from cutaway.circuits.optimal import optimal_constants

    if task.name not in wires.constants:
        wires.constants[task.name] = optimal_constants(wires, task)
    found = wires.constants[task.name]
    width = task.clean.ids.shape[1]
    return lambda rows: found.map(lambda x: x.expand(len(rows), width, *x.shape[2:]))


def constant_over(written: Senders, mask: Tensor) -> Senders:
    """The mean of what each source writes over items and their own positions: [1, 1, …]."""
    total = mask.sum()

    def mean(x: Tensor) -> Tensor:
        kept = x * mask.reshape(*mask.shape, *[1] * (x.ndim - 2)).to(x.dtype)
        return (kept.sum((0, 1)) / total.to(x.dtype))[None, None]

    return written.map(mean)


def _means(wires: Wires, task: Any, tokens: int) -> Callable[[Tensor], Senders]:
    template = getattr(task, "template", None)
    template = torch.zeros(len(task), dtype=torch.long) if template is None else torch.as_tensor(template).cpu()
    kinds, which = torch.unique(template, return_inverse=True)
    width = task.clean.ids.shape[1]
    total: Senders | None = None
    count = torch.zeros(len(kinds), width, device=wires.model.device)
    for rows in chunks(len(task), max(1, tokens // width)):
        batch = rows_of(wires.model, task.counterfactual, rows)
        mask = batch.mask
        one = torch.zeros(len(kinds), len(rows), device=mask.device)
        one[which[rows].to(mask.device), torch.arange(len(rows), device=mask.device)] = 1.0
        count += one @ mask.to(one)

        def summed(x: Tensor, one: Tensor = one, mask: Tensor = mask) -> Tensor:
            kept = x * mask.reshape(*mask.shape, *[1] * (x.ndim - 2)).to(x.dtype)
            return torch.einsum("kb,b...->k...", one.to(x.dtype), kept)

        part = record(wires, batch).map(summed)
        total = part if total is None else total.join(part, torch.add)
    assert total is not None
    mean = total.map(lambda x: x / count.clamp(min=1).reshape(*count.shape, *[1] * (x.ndim - 2)).to(x.dtype))
    return lambda rows: mean.take(which[rows])


def chunks(n: int, size: int) -> Sequence[Tensor]:
    """The numbers 0 … n - 1 in order, at most `size` at a time."""
    numbers, step = torch.arange(n), max(1, size)
    return [numbers[start : start + step] for start in range(0, n, step)]
