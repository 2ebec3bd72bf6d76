"""How featurizers do on items: many cells (places, seeds, controls) in the same forwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.abstraction.continuation import Edit
from cutaway.abstraction.data import Data, Spot
from cutaway.abstraction.featurizers import Featurizer
from cutaway.abstraction.written import loss, right
from cutaway.core import InputError

NUMBERS = 1 << 25  # of one batch of lanes, in its logits or in a block: 128 MiB


@dataclass(frozen=True, eq=False)
class Cell:
    """One featurizer a variable to be trained or measured by itself. `wanted` [n, s] are its labels."""

    spots: tuple[Spot, ...]
    wanted: Tensor
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Measured:
    """Of each cell and row: whether the largest logit is right, the token that it is, -log P(right)."""

    hits: Tensor
    said: Tensor
    loss: Tensor


def measure(data: Data, cells: Sequence[Cell], featurizers: Sequence[Sequence[Featurizer]], rows: Tensor) -> Measured:
    """Every cell with its featurizers (one a variable) on the items `rows`. Costs a forward of cells x rows lanes, from
    the first changed place on. Cells may be at different points: those at the same ones share forwards."""
    hits = torch.zeros(len(cells), len(rows), dtype=torch.bool)
    said = torch.zeros(len(cells), len(rows), dtype=torch.long)
    losses = torch.zeros(len(cells), len(rows))
    together: dict[tuple[str, ...], list[int]] = {}
    for number, cell in enumerate(cells):
        together.setdefault(tuple(spot.address for spot in cell.spots), []).append(number)
    room = max(1, NUMBERS // data.continuation.lane)
    with torch.no_grad():
        for numbers in together.values():
            for lanes in torch.cartesian_prod(torch.tensor(numbers), torch.arange(len(rows))).split(room):  # type: ignore[no-untyped-call]
                which, at = lanes[:, 0], lanes[:, 1]
                logits = data.continuation.run(rows[at], _edits(data, cells, featurizers, which, rows[at]))
                labels = torch.nn.utils.rnn.pad_sequence(
                    [cells[c].wanted[r] for c, r in zip(which.tolist(), rows[at].tolist())],
                    batch_first=True, padding_value=-1,
                ).to(logits.device)  # fmt: skip
                hits[which, at] = right(logits, labels).cpu()
                said[which, at] = logits.argmax(-1).cpu()
                losses[which, at] = loss(logits, labels).float().cpu()
    return Measured(hits, said, losses)


def _edits(
    data: Data, cells: Sequence[Cell], featurizers: Sequence[Sequence[Featurizer]], which: Tensor, items: Tensor
) -> list[Edit]:
    """The edits of lanes, lane i being cell which[i] on item items[i]; variables in order."""
    spans = [(c, (which == c).nonzero()[:, 0]) for c in sorted(set(which.tolist()))]
    edits = []
    for v in range(len(cells[0].spots)):
        first = cells[int(which[0])].spots[v]
        columns = torch.zeros(len(which), first.columns.shape[1], dtype=torch.long)
        if len({cells[c].spots[v].columns.shape[1] for c, _ in spans}) > 1:
            raise InputError("cells that are measured together have as many positions each.")
        for c, lanes in spans:
            columns[lanes] = cells[c].spots[v].columns[items[lanes]]

        def change(x: Tensor, v: int = v) -> Tensor:
            new = x.clone()
            for c, lanes in spans:
                source = cells[c].spots[v].source[items[lanes]]
                swapped = featurizers[c][v].swap(x[lanes].float(), source.float()).to(x.dtype)
                used = data.pairs.which[items[lanes], v].to(x.device)
                new[lanes] = torch.where(used[:, None, None], swapped, x[lanes])
            return new

        edits.append(Edit(first.address, columns, change, first.head))
    return edits
