"""Sequences with the state of the world that they leave behind: a board after each move, a stack, who holds what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cutaway.core import InputError

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
ARRAYS = ("tokens", "state")
EDITS = ("row", "position", "variable", "to", "valid", "before")


@dataclass(frozen=True, eq=False)
class Edits:
    """m changes of one variable each: row `row` of the data, read up to `position`, has `variable` set to `to`.

    valid, before: [m, vocab], which next tokens fit the state as it is changed, and as it is.
    """

    row: Ints
    position: Ints
    variable: Ints
    to: Ints
    valid: Bools
    before: Bools

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, eq=False)
class StateData:
    """n sequences of T tokens, and after each token the value of S variables.

    tokens: [n, T] ids, -1 after a sequence's end. state: [n, T, S] in 0 … C-1, -1 where it is not asked for.
    blank: a value that the tokens show by themselves (an empty square); accuracy is counted where the truth is another.
    shape: rows and columns where the variables lie on a board, row by row. words: what each token is called.
    Raises InputError: shapes that do not fit, fewer than 10 sequences, a value or an edit out of range.
    """

    name: str
    tokens: Ints
    state: Ints
    variables: tuple[str, ...]
    values: tuple[str, ...]
    blank: int | None = None
    edits: Edits | None = None
    shape: tuple[int, int] | None = None
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or self.state.ndim != 3 or self.state.shape[:2] != self.tokens.shape:
            raise InputError(
                f"{self.name}: tokens [n, T] and state [n, T, S] were expected; "
                f"given {list(self.tokens.shape)} and {list(self.state.shape)}."
            )
        if len(self.tokens) < 10:
            raise InputError(f"{self.name}: {len(self.tokens)} sequences are too few to learn from, choose and report.")
        if (self.tokens[:, 0] < 0).any() or ((self.tokens[:, :-1] < 0) & (self.tokens[:, 1:] >= 0)).any():
            raise InputError(f"{self.name}: -1 among the tokens stands after a sequence's end, and nowhere else.")
        if len(self.variables) != self.state.shape[2] or len(set(self.variables)) != len(self.variables):
            raise InputError(
                f"{self.name}: {self.state.shape[2]} variables, {len(set(self.variables))} different names."
            )
        if self.blank is not None and not 0 <= self.blank < len(self.values):
            raise InputError(f"{self.name}: blank is one of the values 0 … {len(self.values) - 1}; given {self.blank}.")
        if self.state.min() < -1 or self.state.max() >= len(self.values):
            raise InputError(f"{self.name}: states are 0 … {len(self.values) - 1}, or -1 where not asked for.")
        if not (self.counted & (self.state >= 0)).any():
            raise InputError(f"{self.name}: no state is asked for anywhere.")
        if self.shape is not None and (min(self.shape) < 1 or self.shape[0] * self.shape[1] != len(self.variables)):
            rows, columns = self.shape
            raise InputError(
                f"{self.name}: a board of {rows} x {columns} does not hold {len(self.variables)} variables."
            )
        if self.words and self.tokens.max() >= len(self.words):
            raise InputError(f"{self.name}: {len(self.words)} words, but a token {self.tokens.max()}.")
        if self.edits is not None:
            self._check(self.edits)

    @property
    def lengths(self) -> Ints:
        return np.asarray((self.tokens >= 0).sum(1), dtype=np.int64)

    @property
    def counted(self) -> Bools:
        """[n, T, S]: where accuracy is counted."""
        asked = (self.state >= 0) & (self.tokens >= 0)[:, :, None]
        return asked if self.blank is None else asked & (self.state != self.blank)

    def rows(self, which: Ints) -> list[list[int]]:
        return [self.tokens[i, : self.lengths[i]].tolist() for i in which]

    def _check(self, edits: Edits) -> None:
        m = len(edits)
        sizes = {len(getattr(edits, name)) for name in EDITS}
        if sizes != {m} or edits.valid.shape != edits.before.shape or edits.valid.ndim != 2:
            raise InputError(f"{self.name}: the arrays of the edits have different lengths.")
        ranges = [
            (edits.row, len(self.tokens), "row"),
            (edits.variable, len(self.variables), "variable"),
            (edits.to, len(self.values), "to"),
        ]
        for found, below, name in ranges:
            if m and (found.min() < 0 or found.max() >= below):
                raise InputError(f"{self.name}: an edit's {name} is 0 … {below - 1}.")
        if m and ((edits.position < 0) | (edits.position >= self.lengths[edits.row])).any():
            raise InputError(f"{self.name}: an edit's position lies past its sequence's end.")
        now = self.state[edits.row, edits.position, edits.variable]
        if (now < 0).any() or (now == edits.to).any():
            raise InputError(f"{self.name}: an edit sets a variable to the value that it has, or where none is known.")
        if (edits.valid.sum(1) == 0).any():
            raise InputError(f"{self.name}: after an edit no next token fits.")


def read_states(path: str | Path) -> StateData:
    """A .npz file with `tokens`, `state`; optionally `variables`, `values`, `blank`, `shape`, `words` and the arrays of
    edits, `edit_row`, `edit_position`, `edit_variable`, `edit_to`, `edit_valid`, `edit_before`. Nothing in it is run.

    Raises InputError: no such file, not of that form, some of the edits' arrays but not all.
    """
    path = Path(path)
    found = _arrays(path)
    if missing := [name for name in ARRAYS if name not in found]:
        raise InputError(f"{path} has no {' and no '.join(missing)}; it holds {', '.join(found) or 'nothing'}.")
    if found["state"].ndim != 3:
        raise InputError(f"{path}: state is [n, T, S]; given {list(found['state'].shape)}.")
    tokens, state = _whole(path, "tokens", found), _whole(path, "state", found)
    largest = int(state.max(initial=0))
    edits = None
    given = [name for name in EDITS if f"edit_{name}" in found]
    if given and len(given) < len(EDITS):
        lacking = ", ".join(f"edit_{name}" for name in EDITS if name not in given)
        raise InputError(f"{path} describes edits, but has no {lacking}.")
    if given:
        row, position, variable, to = (_whole(path, f"edit_{name}", found) for name in EDITS[:4])
        valid, before = (found[f"edit_{name}"].astype(bool) for name in EDITS[4:])
        edits = Edits(row, position, variable, to, valid, before)
    return StateData(
        name=path.stem,
        tokens=tokens,
        state=state,
        variables=_names(found, "variables", [f"variable {i}" for i in range(state.shape[2])]),
        values=_names(found, "values", [str(i) for i in range(largest + 1)]),
        blank=_blank(path, found),
        edits=edits,
        shape=_shape(path, found),
        words=_names(found, "words", []),
    )


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    if not path.is_file():
        raise InputError(f"no file {path}.")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, EOFError, KeyError) as error:
        raise InputError(f"{path} is no .npz file of plain arrays: {error}.") from None
    except Exception as error:  # zipfile has errors of its own
        raise InputError(f"{path} cannot be read: {error}.") from None


def _whole(path: Path, name: str, found: dict[str, npt.NDArray[Any]]) -> Ints:
    if found[name].dtype.kind not in "iub":
        raise InputError(f"{path}: {name} are whole numbers; given {found[name].dtype}.")
    return found[name].astype(np.int64)


def _blank(path: Path, found: dict[str, npt.NDArray[Any]]) -> int | None:
    if "blank" not in found:
        return None
    if (given := _whole(path, "blank", found)).size != 1:
        raise InputError(f"{path}: blank is one value's number; given {given.size} of them.")
    return int(given.reshape(-1)[0])


def _shape(path: Path, found: dict[str, npt.NDArray[Any]]) -> tuple[int, int] | None:
    if "shape" not in found:
        return None
    if (given := _whole(path, "shape", found)).shape != (2,):
        raise InputError(f"{path}: shape is two numbers, rows and columns; given {given.tolist()}.")
    return int(given[0]), int(given[1])


def _names(found: dict[str, npt.NDArray[Any]], name: str, default: list[str]) -> tuple[str, ...]:
    return tuple(map(str, found[name].tolist())) if name in found else tuple(default)
