"""Maps from places here to places in a source: {here: in the source}, of positions, keys and rows."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cutaway.core import InputError
from cutaway.model.interventions.recorded import Pairs
from cutaway.model.positions import PerRow, positions_of

There = tuple[int, ...] | PerRow  # the source's positions, beside those selected here


def pairs_of(here: There, there: There) -> Pairs:
    def of(row: int) -> zip[tuple[int, int]]:
        return zip(*(side.rows[row] if isinstance(side, PerRow) else side for side in (here, there)))

    return of


def taken_out(where: dict[str, Any], source: Any) -> dict[str, Any]:
    """Take the maps {here: in the source} out of `where`, leaving the places here."""
    found: dict[str, Any] = {}
    names = where.get("names")
    for axis in ("positions", "rows", "keys"):
        pairs = where.get(axis)
        if not isinstance(pairs, dict):
            continue
        if isinstance(source, Tensor) or not hasattr(source, "addresses"):
            raise InputError(f"{axis}= maps to places of a run, and from_= is a tensor; index the tensor instead.")
        here, there = list(pairs), list(pairs.values())
        plain = all(isinstance(item, int) and not isinstance(item, bool) for item in (*here, *there))
        if pairs and plain:
            where[axis], found[f"{axis}_from"] = here, tuple(there)
        elif pairs and axis != "rows":
            where[axis], found[f"{axis}_from"] = (
                _of_each_row(side, axis, names, (*here, *there)) for side in (here, there)
            )
        else:
            raise InputError(f"{axis}= as a map is {{here: in the source}}, whole numbers; given {pairs!r}.")
    return found


def _of_each_row(side: list[Any], axis: str, names: Any, every: tuple[Any, ...]) -> There:
    """Positions said by number, by name or by a tensor [rows], as those of each row."""
    if any(isinstance(item, str) for item in every) and names is None:
        raise InputError(f"{axis}= as a map takes names with names=, as names=task.positions; given {list(every)!r}.")
    parts = [positions_of(item, axis, names) for item in side]
    counts = {len(part.rows) for item in every if isinstance(part := positions_of(item, axis, names), PerRow)}
    one_each = all(len(row) == 1 for part in parts if isinstance(part, PerRow) for row in part.rows)
    if not counts and all(isinstance(part, tuple) and len(part) == 1 for part in parts):
        return tuple(part[0] for part in parts if isinstance(part, tuple))  # names of numbers, the same in every row
    if len(counts) != 1 or not one_each or not all(isinstance(part, (tuple, PerRow)) for part in parts):
        raise InputError(
            f"{axis}= as a map is {{here: in the source}}, each a number, a name, or a tensor with one number a row."
        )
    rows = range(counts.pop())
    return PerRow(
        tuple(tuple(part.rows[row][0] if isinstance(part, PerRow) else part[0] for part in parts) for row in rows),  # type: ignore[index]
        "+".join(map(str, side)) if all(isinstance(item, (str, int)) for item in side) else "",
    )
