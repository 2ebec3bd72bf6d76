"""Optimal ablation (Li and Janson 2024): a source left out writes the one constant that hurts the least.

    a_s = argmin over a of  mean over items of  KL(model || model with source s writing a at every position)

One vector a source (of a head: before W_O), the same for all items and positions. The sources are independent problems
and are solved together: in each row of a batch one source alone is ablated. In a circuit the constants of all that is
left out stand together, as they were found one by one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cutaway.circuits.masked import columns, masked_logits
from cutaway.circuits.senders import Senders, chunks, constant_over, record
from cutaway.circuits.wires import Wires, rows_of
from cutaway.model.parameters import without_gradients

ROWS = 64  # (item, source) pairs of a step


def optimal_constants(
    wires: Wires, task: Any, *, steps: int = 200, lr: float = 0.02, seed: int = 0, tokens: int = 2048
) -> Senders:
    """Constants of shape [1, 1, …], in the form of what sources write. Training starts from each source's mean over the
    clean prompts; a source keeps its mean where training did not beat it on these items.

    Costs `steps` forwards and backwards of 64 rows, and two forwards an item and source to choose.
    """
    device, n = wires.model.device, len(task)
    every = torch.arange(n)
    ends = columns(task)
    with torch.no_grad():
        written = record(wires, rows_of(wires.model, task.clean, every))
        mean = constant_over(written, task.clean.mask.to(device))
        logits = wires.model.run(rows_of(wires.model, task.clean, every)).logits
        assert logits is not None
        reference = logits[every.to(device), ends.to(device)].log_softmax(-1)
    count = len(wires.split.sources)
    scale = written.map(lambda x: x.std().clamp(min=1e-3) if x.numel() else x.new_zeros(()))
    moved = mean.map(lambda x: torch.zeros_like(x).requires_grad_())
    optimiser = torch.optim.Adam([moved.start, *moved.u, *moved.mlp, *moved.neurons], lr=lr)
    generator = torch.Generator().manual_seed(seed)

    def constants() -> Senders:
        return mean.join(moved.join(scale, torch.mul), torch.add)

    def loss(values: Senders, rows: Tensor, sources: Tensor) -> Tensor:
        """KL of each (item, source) pair."""
        mask = torch.ones(len(rows), count, len(wires.split.ports), dtype=written.start.dtype, device=device)
        mask[torch.arange(len(rows)), sources] = 0
        width = task.clean.ids.shape[1]
        other = values.map(lambda x: x.expand(len(rows), width, *x.shape[2:]))
        found = masked_logits(wires, rows_of(wires.model, task.clean, rows), other, mask, ends[rows])
        p = reference[rows.to(device)]
        return torch.where(p > -torch.inf, p.exp() * (p - found.log_softmax(-1)), 0.0).sum(-1)

    with without_gradients(wires.model.hf), torch.enable_grad():
        for _ in range(steps):
            rows = torch.randint(n, (ROWS,), generator=generator)
            sources = torch.randint(count, (ROWS,), generator=generator)
            optimiser.zero_grad()
            loss(constants(), rows, sources).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    with torch.no_grad():
        better = torch.zeros(2, count, device=device)
        pairs = torch.cartesian_prod(every, torch.arange(count))
        for some in chunks(len(pairs), max(1, tokens // task.clean.ids.shape[1])):
            rows, sources = pairs[some].T
            for which, values in enumerate((mean, constants())):
                better[which].index_add_(0, sources.to(device), loss(values, rows, sources).to(better))
        chosen = better[1] < better[0]
        return _choose(wires, chosen, constants(), mean)


def _choose(wires: Wires, chosen: Tensor, a: Senders, b: Senders) -> Senders:
    """Of each source a's where chosen [source], else b's."""
    us, mlps, neurons, at = [], [], [], 1
    for i, layer in enumerate(wires.layers):
        heads, mlp = chosen[at : at + layer.n_heads], chosen[at + layer.n_heads :][: layer.n_mlp]
        us.append(torch.where(heads[None, None, :, None], a.u[i], b.u[i]))
        wrote, v = layer.mixed_mlp(mlp[None, None], (a.mlp[i], a.neurons[i]), (b.mlp[i], b.neurons[i]))
        mlps.append(wrote)
        neurons.append(v)
        at += layer.n_heads + layer.n_mlp
    return Senders(torch.where(chosen[0], a.start, b.start), tuple(us), tuple(mlps), tuple(neurons))
