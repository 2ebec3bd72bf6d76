"""Cells put into batches: those that begin in the same block and at near columns go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cutaway.model.sweeps.cells import Cell
from cutaway.model.sweeps.lanes import Part


@dataclass(frozen=True, eq=False)
class Chunk:
    """One batch: parts of cells that begin at `stage`, their lanes numbered from 0.

    Columns from `start` on are computed. Where all parts are local, only columns `start` … `last` of the first block.
    """

    stage: int
    start: int
    last: int
    local: bool
    parts: tuple[Part, ...]

    @property
    def lanes(self) -> int:
        return self.parts[-1].stop

    def halves(self) -> tuple[Chunk, Chunk]:
        """The same lanes in two batches. Raises ValueError for a chunk of one lane."""
        pieces = [(part.cell, part.rows) for part in self.parts]
        if len(pieces) == 1:
            cell, rows = pieces[0]
            if len(rows) < 2:
                raise ValueError("one lane cannot be halved")
            pieces = [(cell, rows[: len(rows) // 2]), (cell, rows[len(rows) // 2 :])]
        middle = len(pieces) // 2
        return _chunk(pieces[:middle]), _chunk(pieces[middle:])


def _chunk(pieces: Sequence[tuple[Cell, tuple[int, ...]]]) -> Chunk:
    parts, at = [], 0
    for cell, rows in pieces:
        parts.append(Part(cell, rows, at))
        at += len(rows)
    cells = [cell for cell, _ in pieces]
    return Chunk(
        cells[0].stage,
        min(cell.first for cell in cells),
        max(cell.last for cell in cells),
        all(cell.local for cell in cells),
        tuple(parts),
    )


def chunks(cells: Sequence[Cell], end: int, most: int, least: int) -> list[Chunk]:
    """Batches of at most `most` tokens (lanes times columns up to `end`), a cell's rows split where one is too long.

    Cells of one block are ordered by their first column. A batch takes cells that begin later (and so computes some of
    their columns for nothing) only while it has fewer than `least` tokens.
    """
    made: list[Chunk] = []
    pieces: list[tuple[Cell, tuple[int, ...]]] = []
    lanes = start = 0

    def close() -> None:
        nonlocal lanes
        if pieces:
            made.append(_chunk(pieces))
            pieces.clear()
            lanes = 0

    for cell in sorted(cells, key=lambda c: (c.stage, not c.local, c.first, c.last, c.number)):
        left = cell.rows
        while left:
            if pieces:
                ahead = pieces[0][0]
                fits = (lanes + len(left)) * (end + 1 - start) <= most
                alike = (ahead.stage, ahead.local) == (cell.stage, cell.local)
                near = cell.first == start or lanes * (end + 1 - start) < least
                if not (fits and alike and near):
                    close()
            if not pieces:
                start = cell.first
            room = max(1, most // (end + 1 - start)) - lanes
            pieces.append((cell, left[:room]))
            lanes += len(left[:room])
            left = left[room:]
            if left:
                close()
    close()
    return made
