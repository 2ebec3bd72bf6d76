"""The matrices of a compiled program, with the names of their rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cutaway.toys.rasp.compiler import Compiled
from cutaway.toys.rasp.craft import Array
from cutaway.toys.rasp.heads import Head
from cutaway.toys.rasp.neurons import Neurons


def matrices(compiled: Compiled) -> str:
    """Every head's scores and what its values write, every MLP's neurons, as text. Rows and columns that are zero are
    left out; `1` stands for a bias."""
    parts: list[str] = []
    labels = compiled.residual.labels()
    named = {**compiled.heads, **compiled.mlps}
    for component in compiled.plan.components:
        variables = ", ".join(compiled.names[sop] for sop in compiled.plan.computed_by(component))
        if component in compiled.heads:
            parts += _head(f"{component.name} computes {variables}", compiled.heads[component], labels)
        elif component in named:
            parts += _mlp(f"{component.name} computes {variables}", compiled.mlps[component], labels)
    return "\n".join(parts)


def _head(title: str, head: Head, labels: list[str]) -> list[str]:
    """Scores [query direction, key direction] and W_O W_V [read direction, written direction]."""
    scores = np.concatenate([head.query.T, head.query_bias[None]]) @ head.key
    moved = (head.out @ head.value).T
    return [
        title,
        *_shown("  score: query \\ key", scores, [*labels, "1"], labels),
        *_shown("  reads \\ writes", moved, labels, labels),
        "",
    ]


def _mlp(title: str, mlp: Neurons, labels: list[str]) -> list[str]:
    """Each neuron: what it reads [neuron, direction] and what it writes."""
    into = np.concatenate([mlp.into, mlp.bias[:, None]], axis=1)
    numbered = [f"neuron {n}" for n in range(len(mlp))]
    return [
        title,
        *_shown("  neuron \\ reads", into, numbered, [*labels, "1"]),
        *_shown("  neuron \\ writes", mlp.out.T, numbered, labels),
        "",
    ]


def _shown(corner: str, matrix: Array, rows: Sequence[str], columns: Sequence[str]) -> list[str]:
    """The part of a matrix that is not zero."""
    keep_rows = np.flatnonzero(matrix.any(1)).tolist()
    keep_columns = np.flatnonzero(matrix.any(0)).tolist()
    cells = [[corner, *(columns[c] for c in keep_columns)]]
    for r in keep_rows:
        cells.append([f"  {rows[r]}", *(f"{matrix[r, c]:.4g}" if matrix[r, c] else "." for c in keep_columns)])
    wide = [max(len(line[c]) for line in cells) for c in range(len(cells[0]))]
    return [
        "  ".join(x.ljust(w) if c == 0 else x.rjust(w) for c, (x, w) in enumerate(zip(line, wide, strict=True)))
        for line in cells
    ]
