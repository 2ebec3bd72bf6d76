"""Positions of a text's own tokens, and where they lie in the columns of a padded batch.

A position counts a row's own tokens from 0, whatever the padding; a negative one counts from the row's end. While
generating, the end is that of the prompt, so that -1 stays the prompt's last token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from cutaway.core import InputError, UnknownName

Picked = tuple[int, ...] | None
When = Literal["prompt", "new", "both"]


@dataclass(frozen=True)
class Span:
    """A slice of each row's own tokens."""

    start: int | None
    stop: int | None
    step: int | None

    def __str__(self) -> str:
        ends = [("" if value is None else str(value)) for value in (self.start, self.stop)]
        return ":".join([*ends, str(self.step)] if self.step is not None else ends)


@dataclass(frozen=True)
class PerRow:
    """Positions of its own for each row of the batch; `name` is what they were called, for messages."""

    rows: tuple[tuple[int, ...], ...]
    name: str = ""

    def __str__(self) -> str:
        return self.name or "per row"


@dataclass(frozen=True)
class TokenText:
    """Wherever a row says this."""

    text: str

    def __str__(self) -> str:
        return repr(self.text)


Positions = tuple[int, ...] | Span | PerRow | TokenText


@dataclass(frozen=True)
class Layout:
    """Where the tokens of each row lie in a padded batch: columns start[r] … start[r] + length[r] - 1.

    While generating with a cache, a forward sees `width` columns of which the first is number `past`, and `prompt` has
    the length of each row's prompt (its rows are padded on the left to `prompt_width` columns).
    """

    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    width: int
    past: int = 0
    prompt: tuple[int, ...] | None = None

    @property
    def padded(self) -> bool:
        return any(length != self.width + self.past for length in self.lengths)

    @property
    def prompt_width(self) -> int:
        return self.width + self.past if self.prompt is None else self.starts[0] + self.prompt[0]

    def columns(self, rows: Iterable[int], positions: Iterable[int], what: str) -> list[list[int]]:
        """[row][position] -> column."""
        positions = tuple(positions)
        return [[self.column(row, position, what) for position in positions] for row in rows]

    def column(self, row: int, position: int, what: str) -> int:
        return self.starts[row] + self.own(row, position, what)

    def end(self, row: int) -> int:
        """What negative positions count from."""
        return self.lengths[row] if self.prompt is None else self.prompt[row]

    def own(self, row: int, position: int, what: str) -> int:
        """A position of a row, counted from its first token. Raises InputError where the row has none such."""
        end = self.end(row)
        if not -end <= position or (self.prompt is None and position >= end):
            raise InputError(
                f"{what}: no position {position} in row {row}, which has {end} tokens (0 … {end - 1}, or -{end} … -1)."
            )
        return position if position >= 0 else position + end

    def all_own(self, row: int, positions: Positions, what: str) -> list[int]:
        """Positions of any kind, counted from the row's first token."""
        if isinstance(positions, Span):
            end, total = self.end(row), self.lengths[row]
            start = positions.start or 0
            stop = total if positions.stop is None else positions.stop
            start, stop = (max(0, n + end) if n < 0 else n for n in (start, stop))
            return list(range(start, min(stop, total), positions.step or 1))
        if isinstance(positions, PerRow):
            if len(positions.rows) != len(self.lengths):
                raise InputError(
                    f"{what}: {positions} has positions of {len(positions.rows)} rows; the batch has "
                    f"{len(self.lengths)}. (A one-dimensional tensor is a position for each row; a list is for all.)"
                )
            positions = positions.rows[row]
        if isinstance(positions, TokenText):
            raise InputError(f"{what}: the text {positions} was not looked up; run it through model.run.")
        return [self.own(row, position, what) for position in positions]


def picked(value: Any, what: str) -> Picked:
    """An int, or several in a list, range or tensor, as a sorted-as-given tuple. None selects all."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, slice):
        raise InputError(f"{what} is a slice; give an int, a list of ints or a range.")
    if isinstance(value, (bool, str, float)):
        raise InputError(f"{what} must be an int or several; given {value!r}.")
    items = (value,) if not isinstance(value, Iterable) else tuple(value)
    try:
        found = tuple(int(item) for item in items)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be an int or several; given {value!r}.") from error
    if not found:
        raise InputError(f"{what} is empty: the intervention would touch nothing.")
    if len(set(found)) < len(found):
        raise InputError(f"{what} names an index twice: {list(found)}.")
    return found


def positions_of(value: Any, what: str, names: Mapping[str, Any] | None = None) -> Positions | None:
    """What `positions=` and `keys=` take.

    An int or several (for every row), a slice of each row's own tokens, a tensor [rows] or [rows, k] (of each row its
    own, as `task.positions["S2"]` has them), a name or several in `names`, or the text of a token.
    """
    if value is None or isinstance(value, (Span, PerRow, TokenText)):
        return value
    if isinstance(value, str):
        if names is None:
            if not value:
                raise InputError(f"{what} is an empty text.")
            return TokenText(value)
        return _named(value, what, names)
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)
        if any(part is not None and (not isinstance(part, int) or isinstance(part, bool)) for part in parts):
            raise InputError(f"{what}: a slice of positions has whole numbers; given {value}.")
        if value.step is not None and value.step < 1:
            raise InputError(f"{what}: a slice of positions goes forward; given step {value.step}.")
        return Span(*parts)
    if isinstance(value, (Tensor, np.ndarray)) and value.ndim > 0:
        return _per_row(value, what, "")
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, str) for item in value):
        if names is None:
            raise InputError(f"{what}: several names need names=, as names=task.positions; given {list(value)}.")
        each = [_named(item, what, names) for item in value]
        if all(isinstance(item, tuple) for item in each):
            return picked([p for item in each if isinstance(item, tuple) for p in item], what)
        count = next(len(item.rows) for item in each if isinstance(item, PerRow))
        rows = [
            [p for item in each for p in (item.rows[row] if isinstance(item, PerRow) else item)]  # type: ignore[union-attr]
            for row in range(count)
        ]
        return PerRow(tuple(tuple(dict.fromkeys(row)) for row in rows), "+".join(value))
    return picked(value, what)


def _named(name: str, what: str, names: Mapping[str, Any]) -> Positions:
    if name not in names:
        raise UnknownName(f"name of {what}", name, list(names))
    value = names[name]
    found = _per_row(value, what, name) if isinstance(value, (Tensor, np.ndarray)) else picked(value, what)
    assert found is not None
    return found


def _per_row(value: Tensor | np.ndarray, what: str, name: str) -> PerRow:
    items = value.tolist()
    if value.ndim > 2 or not items:
        raise InputError(f"{what}: a tensor of positions is [rows] or [rows, k]; given {list(value.shape)}.")
    rows = [row if isinstance(row, list) else [row] for row in items]
    if any(not isinstance(item, int) or isinstance(item, bool) for row in rows for item in row):
        raise InputError(f"{what}: positions are whole numbers; given {value.dtype}. (A truth value each is mask=.)")
    return PerRow(tuple(tuple(dict.fromkeys(row)) for row in rows), name)


def look_up(text: TokenText, strings: Sequence[Sequence[str]], what: str) -> PerRow:
    """The positions of tokens that spell `text`, one or several together. `strings` has the tokens of each row.

    White space before is ignored where `text` begins without. Raises InputError naming a row that has no such text.
    """
    found = []
    for number, row in enumerate(strings):
        here = [position for start in range(len(row)) for position in _spelled_from(row, start, text.text)]
        if not here:
            shown = " ".join(repr(token) for token in row[:40]) + (" …" if len(row) > 40 else "")
            raise InputError(
                f"{what}: row {number} has no token {text} (its tokens: {shown}). "
                "A name of a position needs names=, as names=task.positions."
            )
        found.append(tuple(dict.fromkeys(here)))
    return PerRow(tuple(found), repr(text.text))


def _spelled_from(row: Sequence[str], start: int, text: str) -> range:
    exact = text[0].isspace()
    said = row[start] if exact else row[start].lstrip()
    if not said:
        return range(0)
    end = start + 1
    while len(said) < len(text) and text.startswith(said) and end < len(row):
        said += row[end]
        end += 1
    return range(start, end) if said == text else range(0)


def to_json(value: Positions) -> Any:
    if isinstance(value, Span):
        return {"slice": [value.start, value.stop, value.step]}
    if isinstance(value, PerRow):
        return {"per_row": [list(row) for row in value.rows], "name": value.name}
    if isinstance(value, TokenText):
        return {"token": value.text}
    return list(value)


def from_json(value: Any, what: str) -> Positions | None:
    if isinstance(value, PerRow):  # read already
        return value
    if isinstance(value, dict):
        if set(value) == {"slice"} and isinstance(value["slice"], list) and len(value["slice"]) == 3:
            return positions_of(slice(*value["slice"]), what)
        if set(value) == {"per_row", "name"}:
            return PerRow(tuple(tuple(int(p) for p in row) for row in value["per_row"]), str(value["name"]))
        if set(value) == {"token"}:
            return positions_of(str(value["token"]), what)
        raise InputError(f"{what} is written as a list, a slice, per_row or a token; given {sorted(value)}.")
    return picked(value, what)
